//! Blits: fills and copies, inside their buffers, on one device.

use super::cases;
use crate::Expect::{Ends, Holds, Undefined};
use crate::machine::{Buffer, contents};
use crate::{Machine, NotHere};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSRange;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLCommandBuffer, MTLCommandEncoder, MTLDevice, MTLResourceOptions,
};

cases! {
    "blit: a fill writes its range and nothing else": Holds => fill_range,
    "blit: copies go through private memory and back": Holds => copy_round_trip,
    "blit: copies within one buffer": Holds => copy_within,
    "blit: commands of one encoder see each other's results": Holds => in_order,
    "blit: a fill past the end": Ends("fillBuffer range") => fill_outside,
    "blit: a copy from past the end": Ends("copyFromBuffer range") => copy_from_outside,
    "blit: a copy to past the end": Ends("copyFromBuffer range") => copy_to_outside,
    "blit: a copy whose end overflows": Ends("copyFromBuffer range") => copy_overflow,
    "blit: a copy over a part of itself": Undefined("copyFromBuffer overlap") => copy_over_itself,
    "blit: a buffer of another device": Ends("another device") => other_device,
    "blit: synchronising what is not managed": Ends("synchronizeResource") => synchronise_shared,
}

type Blit = ProtocolObject<dyn MTLBlitCommandEncoder>;

/// Encodes with one blit encoder and waits for it.
fn blit(machine: &Machine, encode: impl FnOnce(&Blit)) {
    let commands = machine.commands();
    let encoder = commands.blitCommandEncoder().expect("a blit encoder");
    encode(&encoder);
    encoder.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
}

fn copy(encoder: &Blit, from: (&Buffer, usize), into: (&Buffer, usize), size: usize) {
    // SAFETY: both buffers are valid; ranges outside them are refused, which some bodies test.
    unsafe {
        encoder.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
            from.0, from.1, into.0, into.1, size,
        );
    }
}

fn fill_range(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    blit(machine, |encoder| {
        encoder.fillBuffer_range_value(
            &buffer,
            NSRange {
                location: 16,
                length: 32,
            },
            7,
        );
    });
    let bytes = contents::<u8>(&buffer);
    assert!(
        bytes[..16]
            .iter()
            .chain(&bytes[48..])
            .all(|byte| *byte == 0)
    );
    assert!(bytes[16..48].iter().all(|byte| *byte == 7));
    Ok(())
}

fn copy_round_trip(machine: &Machine) -> Result<(), NotHere> {
    let values: Vec<u32> = (0..256).collect();
    let (source, private, back) = (
        machine.filled(&values),
        machine.private(2048),
        machine.shared(1024),
    );
    blit(machine, |encoder| {
        copy(encoder, (&source, 0), (&private, 1024), 1024)
    });
    blit(machine, |encoder| {
        copy(encoder, (&private, 1024), (&back, 0), 1024)
    });
    assert_eq!(contents::<u32>(&back), values);
    Ok(())
}

fn copy_within(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.filled(&[1u32, 2, 3, 4, 0, 0, 0, 0]);
    blit(machine, |encoder| {
        copy(encoder, (&buffer, 0), (&buffer, 16), 16)
    });
    assert_eq!(contents::<u32>(&buffer), [1, 2, 3, 4, 1, 2, 3, 4]);
    Ok(())
}

fn in_order(machine: &Machine) -> Result<(), NotHere> {
    let (first, second) = (machine.shared(64), machine.shared(64));
    blit(machine, |encoder| {
        encoder.fillBuffer_range_value(
            &first,
            NSRange {
                location: 0,
                length: 64,
            },
            1,
        );
        copy(encoder, (&first, 0), (&second, 0), 64);
        encoder.fillBuffer_range_value(
            &first,
            NSRange {
                location: 0,
                length: 64,
            },
            2,
        );
    });
    assert!(contents::<u8>(&second).iter().all(|byte| *byte == 1));
    assert!(contents::<u8>(&first).iter().all(|byte| *byte == 2));
    Ok(())
}

fn fill_outside(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    blit(machine, |encoder| {
        encoder.fillBuffer_range_value(
            &buffer,
            NSRange {
                location: 32,
                length: 33,
            },
            0,
        );
    });
    Ok(())
}

fn copy_from_outside(machine: &Machine) -> Result<(), NotHere> {
    let (source, destination) = (machine.shared(64), machine.shared(128));
    blit(machine, |encoder| {
        copy(encoder, (&source, 32), (&destination, 0), 64)
    });
    Ok(())
}

fn copy_to_outside(machine: &Machine) -> Result<(), NotHere> {
    let (source, destination) = (machine.shared(128), machine.shared(64));
    blit(machine, |encoder| {
        copy(encoder, (&source, 0), (&destination, 4), 64)
    });
    Ok(())
}

fn copy_overflow(machine: &Machine) -> Result<(), NotHere> {
    let (source, destination) = (machine.shared(64), machine.shared(64));
    blit(machine, |encoder| {
        copy(encoder, (&source, usize::MAX - 3), (&destination, 0), 8)
    });
    Ok(())
}

fn copy_over_itself(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    blit(machine, |encoder| {
        copy(encoder, (&buffer, 0), (&buffer, 16), 32)
    });
    Ok(())
}

fn other_device(machine: &Machine) -> Result<(), NotHere> {
    let other = machine.other_device()?;
    let foreign = other
        .newBufferWithLength_options(64, MTLResourceOptions::StorageModeShared)
        .expect("a buffer");
    blit(machine, |encoder| {
        encoder.fillBuffer_range_value(
            &foreign,
            NSRange {
                location: 0,
                length: 64,
            },
            0,
        );
    });
    Ok(())
}

fn synchronise_shared(machine: &Machine) -> Result<(), NotHere> {
    let buffer = machine.shared(64);
    blit(machine, |encoder| {
        encoder.synchronizeResource(ProtocolObject::from_ref(&*buffer))
    });
    Ok(())
}
