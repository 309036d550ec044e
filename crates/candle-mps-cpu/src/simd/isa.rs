//! Which instruction set the ops use: the widest that the machine has, decided once.

use std::{cell::Cell, sync::OnceLock};

#[cfg(target_arch = "aarch64")]
use super::Neon;
#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx512};
use super::{Scalar, Simd, WithSimd};
use crate::{Error, Result};

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Isa {
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// NEON, which every aarch64 has.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// What the compilation target has.
    Scalar(Scalar),
}

impl Isa {
    /// Runs a kernel with this instruction set.
    #[inline]
    pub fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(s) => s.with(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(s) => s.with(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(s) => s.with(kernel),
            Self::Scalar(s) => s.with(kernel),
        }
    }

    /// The name that `CANDLE_MPS_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            Self::Scalar(_) => "scalar",
        }
    }
}

/// Every instruction set of this machine, the widest first.
pub fn available() -> Vec<Isa> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(Avx512::detect().map(Isa::Avx512));
        all.extend(Avx2::detect().map(Isa::Avx2));
    }
    #[cfg(target_arch = "aarch64")]
    all.push(Isa::Neon(Neon::new()));
    all.push(Isa::Scalar(Scalar::new()));
    all
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The instruction set that ops called from this thread use.
///
/// # Errors
/// [`Error::IsaMissing`] when `CANDLE_MPS_ISA` names one that this machine does not have. The variable
/// is read once.
pub fn isa() -> Result<Isa> {
    static CHOSEN: OnceLock<Result<Isa>> = OnceLock::new();
    if let Some(forced) = FORCED.get() {
        return Ok(forced);
    }
    match CHOSEN.get_or_init(|| choose(std::env::var_os("CANDLE_MPS_ISA").as_deref())) {
        Ok(isa) => Ok(*isa),
        Err(error) => Err(error.clone()),
    }
}

/// Runs `f` with ops that this thread calls on `isa`.
pub fn with_isa<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(isa)));
    f()
}

fn choose(wanted: Option<&std::ffi::OsStr>) -> Result<Isa> {
    let all = available();
    let found = match wanted {
        None => all.first(),
        Some(wanted) => all.iter().find(|isa| isa.name() == wanted),
    };
    found.copied().ok_or_else(|| Error::IsaMissing {
        wanted: wanted.unwrap_or_default().to_string_lossy().into_owned(),
        available: all
            .iter()
            .map(|isa| isa.name())
            .collect::<Vec<_>>()
            .join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_comes_first_and_scalar_is_always_there() {
        let names: Vec<_> = available().iter().map(|isa| isa.name()).collect();
        assert_eq!(names.last(), Some(&"scalar"));
        assert_eq!(choose(None).unwrap().name(), names[0]);
    }

    #[test]
    fn a_missing_one_is_refused() {
        for wanted in ["sse9", "", "AVX2"] {
            let error = choose(Some(wanted.as_ref())).unwrap_err();
            assert!(matches!(&error, Error::IsaMissing { wanted: got, .. } if got == wanted));
            assert!(error.to_string().contains("scalar"), "{error}");
        }
        let foreign = if cfg!(target_arch = "aarch64") {
            "avx2"
        } else {
            "neon"
        };
        assert!(choose(Some(foreign.as_ref())).is_err());
    }

    #[test]
    fn each_can_be_required() {
        for isa in available() {
            assert_eq!(
                choose(Some(isa.name().as_ref())).unwrap().name(),
                isa.name()
            );
            assert_eq!(with_isa(isa, || super::isa().unwrap().name()), isa.name());
        }
    }

    /// What `cargo xtask test arm` relies on: a run that requires NEON is a run of NEON.
    #[test]
    fn the_environment_is_obeyed() {
        if let Some(wanted) = std::env::var_os("CANDLE_MPS_ISA") {
            assert_eq!(super::isa().unwrap().name(), wanted);
        }
    }
}
