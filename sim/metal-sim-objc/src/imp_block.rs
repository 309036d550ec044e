//! Blocks as methods: `imp_implementationWithBlock` gives a function that calls a block with
//! the receiver and the arguments, without the selector.
//!
//! Nothing is generated at run time. There is a table of [`SLOTS`] functions that differ only
//! in their address; each finds its block in the entry of [`BLOCKS`] with its own number, so
//! memory that can be both written and executed is never needed. When all are taken, that is
//! a fault.

use crate::block::{_Block_copy, _Block_release, Block, USES_STRET};
use crate::cache::Imp;
use crate::fault::fault;
use crate::object::Object;
use std::arch::global_asm;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// How many blocks can be methods at the same time.
const SLOTS: usize = 1024;
/// Bytes from one function to the next.
const STRIDE: usize = 16;

static BLOCKS: [AtomicPtr<Block>; SLOTS] = [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS];

// The first function of the table begins at `metal_sim_imp_block`. Function `n` leaves its own
// address plus a constant in a scratch register; the common end turns that into `n`, makes the
// receiver the second argument and the block the first, and jumps into the block.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .text.metal_sim_imp_block,\"ax\",@progbits",
    ".p2align 4",
    ".hidden metal_sim_imp_block",
    ".globl metal_sim_imp_block",
    "metal_sim_imp_block:",
    ".rept {slots}",
    "lea r10, [rip]", // 7 bytes
    "jmp .Lmetal_sim_imp_block_end",
    ".p2align 4",
    ".endr",
    ".Lmetal_sim_imp_block_end:",
    "lea r11, [rip + metal_sim_imp_block]",
    "sub r10, r11",
    "shr r10, 4",
    "lea r11, [rip + {blocks}]",
    "mov r10, [r11 + 8 * r10]",
    "mov rsi, rdi",
    "mov rdi, r10",
    "jmp [r10 + 16]",
    ".popsection",
    slots = const SLOTS,
    blocks = sym BLOCKS,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .text.metal_sim_imp_block,\"ax\",@progbits",
    ".p2align 4",
    ".hidden metal_sim_imp_block",
    ".globl metal_sim_imp_block",
    "metal_sim_imp_block:",
    ".rept {slots}",
    "adr x16, .",
    "b .Lmetal_sim_imp_block_end",
    ".p2align 4",
    ".endr",
    ".Lmetal_sim_imp_block_end:",
    "adrp x17, metal_sim_imp_block",
    "add x17, x17, :lo12:metal_sim_imp_block",
    "sub x16, x16, x17",
    "lsr x16, x16, #4",
    "adrp x17, {blocks}",
    "add x17, x17, :lo12:{blocks}",
    "mov x1, x0",
    "ldr x0, [x17, x16, lsl #3]",
    "ldr x16, [x0, #16]",
    "br x16",
    ".popsection",
    slots = const SLOTS,
    blocks = sym BLOCKS,
);

unsafe extern "C" {
    #[link_name = "metal_sim_imp_block"]
    static FIRST: [u8; SLOTS * STRIDE];
}

/// The number of a function of the table.
fn slot_of(imp: Imp) -> Option<usize> {
    let offset = imp.addr().wrapping_sub((&raw const FIRST).addr());
    (offset < SLOTS * STRIDE && offset.is_multiple_of(STRIDE)).then_some(offset / STRIDE)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn imp_implementationWithBlock(block: *mut Object) -> Imp {
    let block: *const c_void = block.cast();
    // SAFETY: the C contract: a block.
    let copy: *mut Block = unsafe {
        if (*block.cast::<Block>()).flags & USES_STRET != 0 && cfg!(target_arch = "x86_64") {
            fault(
                "block as a method",
                "one that returns a structure in memory is not simulated",
            );
        }
        _Block_copy(block).cast()
    };
    match take_slot(copy) {
        Some(imp) => imp,
        None => fault("block as a method", format!("all {SLOTS} are taken")),
    }
}

/// Puts a block into a free entry, and gives the function that calls it.
fn take_slot(block: *mut Block) -> Option<Imp> {
    let slot = BLOCKS.iter().position(|slot| {
        slot.compare_exchange(ptr::null_mut(), block, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    })?;
    let imp = (&raw const FIRST).wrapping_byte_add(slot * STRIDE);
    Some(imp.cast())
}

#[unsafe(no_mangle)]
extern "C" fn imp_getBlock(imp: Imp) -> *mut Object {
    slot_of(imp).map_or(ptr::null_mut(), |slot| {
        BLOCKS[slot].load(Ordering::Acquire).cast()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn imp_removeBlock(imp: Imp) -> u8 {
    let block = slot_of(imp).map(|slot| BLOCKS[slot].swap(ptr::null_mut(), Ordering::AcqRel));
    let block = block.filter(|block| !block.is_null());
    if let Some(block) = block {
        // SAFETY: the table owned a reference, which left it just now.
        unsafe { _Block_release(block.cast()) };
    }
    u8::from(block.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use block2::RcBlock;

    /// The only test in this program that uses the table.
    #[test]
    fn a_full_table_gives_nothing_and_a_freed_entry_is_used_again() {
        let block = RcBlock::new(|_: *mut c_void| 1);
        let object: *mut Object = RcBlock::as_ptr(&block).cast();
        // SAFETY: a block that takes a receiver.
        let take = || unsafe { imp_implementationWithBlock(object) };
        let taken: Vec<Imp> = (0..SLOTS).map(|_| take()).collect();
        assert_eq!(take_slot(object.cast()), None);
        // SAFETY: the functions are of the table.
        unsafe {
            assert_eq!(imp_removeBlock(taken[7]), 1);
            assert_eq!(take(), taken[7]);
            assert!(taken.iter().all(|imp| imp_removeBlock(*imp) == 1));
        }
    }
}
