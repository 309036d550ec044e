//! Where a row is measured: on the processor, or on the first GPU that Metal offers.

use std::fmt;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::doctor::metal::Metal;

/// Where the operands of a row are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    #[default]
    Cpu,
    Metal,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Metal => "metal",
        })
    }
}

impl Place {
    /// The device, or why it cannot be had.
    pub fn open(self) -> Result<Device, String> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Metal => first_gpu(),
        }
    }
}

#[cfg(feature = "metal")]
fn first_gpu() -> Result<Device, String> {
    candle_mps::metal::device(0).map_err(|error| error.to_string())
}

#[cfg(not(feature = "metal"))]
fn first_gpu() -> Result<Device, String> {
    Err(NOT_BUILT.to_owned())
}

/// What a build that cannot look for GPUs says.
const NOT_BUILT: &str = "this build has no Metal";

/// What `--device` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Asked {
    Cpu,
    Metal,
    /// Both, the processor first.
    All,
}

impl Asked {
    /// What is measured on this machine. A GPU that was asked for by name must be there.
    pub fn or_usual(asked: Option<Self>) -> Result<Self, Error> {
        let metal = Metal::of_this_machine();
        match (asked, metal.first()) {
            (Some(Self::Cpu), _) | (None, None) => Ok(Self::Cpu),
            (None, Some(_)) => Ok(Self::All),
            (Some(asked), Some(_)) => Ok(asked),
            (Some(_), None) if metal.built => {
                Err(Error::NoMetal("there is no Metal device".into()))
            }
            (Some(_), None) => Err(Error::NoMetal(NOT_BUILT.into())),
        }
    }

    /// Whether rows of a place are measured.
    pub fn has(self, place: Place) -> bool {
        match self {
            Self::Cpu => place == Place::Cpu,
            Self::Metal => place == Place::Metal,
            Self::All => true,
        }
    }
}

/// What Metal offers to `bench`, in a few words.
pub fn gpu() -> String {
    let metal = Metal::of_this_machine();
    match metal.first() {
        Some(device) => device.name.clone(),
        None if metal.built => "there is none here".to_owned(),
        None => format!("{NOT_BUILT}; {}", crate::doctor::INSTALL),
    }
}
