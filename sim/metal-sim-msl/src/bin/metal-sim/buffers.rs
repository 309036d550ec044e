//! Buffers as they are given on the command line: `INDEX=zeros:1024`, `INDEX=count:256:f32`, `INDEX=f32:0.5`,
//! `INDEX=file:in.bin`.

use super::Error;
use super::numbers::Type;

/// What a buffer holds before the kernel runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub index: usize,
    pub bytes: Vec<u8>,
    /// As findings call it.
    pub label: String,
}

/// The most that is made up here.
const MOST: usize = 1 << 32;

impl Buffer {
    /// Reads `INDEX=SPEC`, and the file if it names one.
    pub fn read(text: &str) -> Result<Self, Error> {
        let usage = |why: &str| {
            Error::Usage(format!(
                "--buffer {text}: {why}; it is INDEX=zeros:BYTES, INDEX=count:N:TYPE, INDEX=TYPE:VALUE,… or \
                 INDEX=file:PATH"
            ))
        };
        let (index, spec) = text.split_once('=').ok_or_else(|| usage("no `=`"))?;
        let index: usize = index.parse().map_err(|_| usage("no index"))?;
        if index >= 31 {
            return Err(usage("a kernel has 31 buffers, 0 to 30"));
        }
        let (kind, rest) = spec.split_once(':').ok_or_else(|| usage("no `:`"))?;
        let count = |text: &str| -> Result<usize, Error> {
            let count = text.parse().map_err(|_| usage("no number"))?;
            if count > MOST {
                Err(usage("too large"))
            } else {
                Ok(count)
            }
        };
        let bytes = match kind {
            "zeros" => vec![0; count(rest)?],
            "count" => {
                let (n, kind) = rest.split_once(':').ok_or_else(|| usage("no type"))?;
                let kind: Type = kind.parse().map_err(|why: String| usage(&why))?;
                (0..count(n)?)
                    .flat_map(|at| kind.bytes(at as f64))
                    .collect()
            }
            "file" => std::fs::read(rest).map_err(|source| Error::File {
                path: rest.to_owned(),
                source,
            })?,
            _ => {
                let kind: Type = kind.parse().map_err(|why: String| usage(&why))?;
                let mut bytes = Vec::new();
                for number in rest.split(',') {
                    let number: f64 = number.parse().map_err(|_| usage("no number"))?;
                    bytes.extend(kind.bytes(number));
                }
                bytes
            }
        };
        Ok(Self {
            index,
            bytes,
            label: spec.to_owned(),
        })
    }

    /// What a kernel is given: its buffers by index.
    pub fn bindings(buffers: &mut [Self]) -> Vec<Option<metal_sim_msl::Binding>> {
        let length = buffers.iter().map(|it| it.index + 1).max().unwrap_or(0);
        let mut bindings = vec![None; length];
        for buffer in buffers {
            bindings[buffer.index] = Some(metal_sim_msl::Binding {
                address: buffer.bytes.as_mut_ptr(),
                length: buffer.bytes.len(),
                label: buffer.label.clone(),
                written: None,
            });
        }
        bindings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeros_counts_values_or_files() {
        let bytes = |text: &str| Buffer::read(text).map(|it| (it.index, it.bytes)).unwrap();
        assert_eq!(bytes("0=zeros:3"), (0, vec![0; 3]));
        assert_eq!(bytes("2=count:3:u8"), (2, vec![0, 1, 2]));
        assert_eq!(bytes("1=u16:7,8"), (1, vec![7, 0, 8, 0]));
        assert_eq!(bytes("1=f32:0.5").1, 0.5f32.to_le_bytes());
        let file = std::env::temp_dir().join(format!("metal-sim-{}.bin", std::process::id()));
        std::fs::write(&file, [9]).unwrap();
        assert_eq!(bytes(&format!("3=file:{}", file.display())), (3, vec![9]));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, wanted) in [
            ("zeros:3", "no `=`"),
            ("x=zeros:3", "no index"),
            ("31=zeros:3", "31 buffers"),
            ("0=zeros", "no `:`"),
            ("0=zeros:many", "no number"),
            ("0=zeros:99999999999", "too large"),
            ("0=count:3", "no type"),
            ("0=f8:1", "is no element type"),
            ("0=f32:one", "no number"),
            ("0=file:/no/such/file", "/no/such/file"),
        ] {
            let said = Buffer::read(text).unwrap_err().to_string();
            assert!(said.contains(wanted), "{said}");
        }
    }
}
