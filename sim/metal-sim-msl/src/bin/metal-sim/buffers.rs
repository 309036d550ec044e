//! Buffers as they are given on the command line: `INDEX=zeros:1024`, `INDEX=count:256:f32`, `INDEX=random:256:f32`,
//! `INDEX=f32:0.5`, `INDEX=i32:4,2,f32:0.5` as for a struct, `INDEX=file:in.bin`.

use super::Error;
use super::numbers::Type;

/// What a buffer holds before the kernel runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub index: usize,
    /// With [`GAP`] bytes before and after, which are nobody's: a kernel that leaves its buffer does not come out in
    /// the next one.
    memory: Vec<u8>,
    /// As findings call it.
    label: String,
}

const GAP: usize = 1 << 16;

/// The most that is made up here.
const MOST: usize = 1 << 32;

impl Buffer {
    /// Reads `INDEX=SPEC`, and the file if it names one.
    pub fn read(text: &str) -> Result<Self, Error> {
        let usage = |why: &str| {
            Error::Usage(format!(
                "--buffer {text}: {why}; it is INDEX=zeros:BYTES, INDEX=count:N:TYPE, INDEX=random:N:TYPE, \
                 INDEX=TYPE:VALUE,… or INDEX=file:PATH"
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
            "count" | "random" => {
                let (n, element) = rest.split_once(':').ok_or_else(|| usage("no type"))?;
                let element: Type = element.parse().map_err(|why: String| usage(&why))?;
                let n = count(n)?;
                if kind == "count" {
                    (0..n).flat_map(|at| element.counted(at)).collect()
                } else {
                    let mut seed = 0;
                    (0..n).flat_map(|_| element.random(&mut seed)).collect()
                }
            }
            "file" => std::fs::read(rest).map_err(|source| Error::File {
                path: rest.to_owned(),
                source,
            })?,
            _ => {
                let mut kind: Type = kind.parse().map_err(|why: String| usage(&why))?;
                let mut bytes = Vec::new();
                for mut number in rest.split(',') {
                    if let Some((next, value)) = number.split_once(':') {
                        kind = next.parse().map_err(|why: String| usage(&why))?;
                        number = value;
                    }
                    bytes.extend(kind.parse(number).map_err(|why| usage(&why))?);
                }
                bytes
            }
        };
        let gap = [0; GAP];
        Ok(Self {
            index,
            memory: [&gap[..], &bytes, &gap].concat(),
            label: spec.to_owned(),
        })
    }

    /// All that the kernel is given; no index twice.
    pub fn read_all(texts: &[String]) -> Result<Vec<Self>, Error> {
        let mut buffers: Vec<Self> = Vec::new();
        for text in texts {
            let buffer = Self::read(text)?;
            if buffers.iter().any(|it| it.index == buffer.index) {
                return Err(Error::Usage(format!(
                    "--buffer {text}: there are two buffers {}",
                    buffer.index
                )));
            }
            buffers.push(buffer);
        }
        Ok(buffers)
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[GAP..self.memory.len() - GAP]
    }

    /// What a kernel is given: its buffers by index.
    pub fn bindings(buffers: &mut [Self]) -> Vec<Option<metal_sim_msl::Binding>> {
        let length = buffers.iter().map(|it| it.index + 1).max().unwrap_or(0);
        let mut bindings = vec![None; length];
        for buffer in buffers {
            bindings[buffer.index] = Some(metal_sim_msl::Binding {
                length: buffer.bytes().len(),
                address: buffer.memory[GAP..].as_mut_ptr(),
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
        let bytes = |text: &str| {
            Buffer::read(text)
                .map(|it| (it.index, it.bytes().to_vec()))
                .unwrap()
        };
        assert_eq!(bytes("0=zeros:3"), (0, vec![0; 3]));
        assert_eq!(bytes("2=count:3:u8"), (2, vec![0, 1, 2]));
        assert_eq!(bytes("1=u16:7,8"), (1, vec![7, 0, 8, 0]));
        assert_eq!(bytes("1=f32:0.5").1, 0.5f32.to_le_bytes());
        assert_eq!(bytes("1=u8:1,2,i16:-1,u8:3").1, [1, 2, 255, 255, 3]);
        let random = bytes("1=random:100:f32").1;
        assert_eq!(random, bytes("1=random:100:f32").1);
        let numbers = random
            .chunks(4)
            .map(|it| f32::from_le_bytes(it.try_into().unwrap()));
        assert!(numbers.clone().all(|it| (-1. ..1.).contains(&it)));
        assert!(numbers.clone().any(|it| it < -0.5) && numbers.clone().any(|it| it > 0.5));
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
            ("0=f32:one", "`one` is no number"),
            ("0=u8:1,300", "300 is not within 0 and 255"),
            ("0=file:/no/such/file", "/no/such/file"),
        ] {
            let said = Buffer::read(text).unwrap_err().to_string();
            assert!(said.contains(wanted), "{said}");
        }
        let twice = ["1=zeros:4", "1=u8:1"].map(str::to_owned);
        let said = Buffer::read_all(&twice).unwrap_err().to_string();
        assert!(said.contains("two buffers 1"), "{said}");
    }
}
