//! The GPUs that Metal offers. A build without the feature `metal` cannot look, and says so.

use serde::Serialize;

/// What Metal offers to this build.
#[derive(Debug, Serialize)]
pub struct Metal {
    /// Whether this build can look for devices.
    pub built: bool,
    /// The devices in Candle's order: the first is `Device::new_metal(0)`.
    pub devices: Vec<Device>,
    /// Why Candle cannot open the first device, if it cannot.
    pub error: Option<String>,
}

/// One GPU.
#[derive(Debug, Serialize)]
pub struct Device {
    /// Its name, such as "Apple M2".
    pub name: String,
    /// Whether MPS has kernels for it.
    pub mps: bool,
    /// The longest buffer it allows.
    pub max_buffer_bytes: usize,
}

impl Metal {
    /// The device that a program uses unless it asks for another.
    pub fn first(&self) -> Option<&Device> {
        self.devices.first()
    }
}

#[cfg(feature = "metal")]
impl Metal {
    /// The GPUs of this machine. The first is opened, as a program would.
    pub fn of_this_machine() -> Self {
        let devices = candle_mps::safe_mps::Device::all();
        let error = match devices.first() {
            Some(_) => candle_mps::metal::device(0)
                .err()
                .map(|error| error.to_string()),
            None => None,
        };
        let devices = devices.iter().map(|device| Device {
            name: device.name(),
            mps: device.supports_mps(),
            max_buffer_bytes: device.max_buffer_length(),
        });
        Self {
            built: true,
            devices: devices.collect(),
            error,
        }
    }
}

#[cfg(not(feature = "metal"))]
impl Metal {
    /// Nothing: this build cannot look.
    pub fn of_this_machine() -> Self {
        Self {
            built: false,
            devices: Vec::new(),
            error: None,
        }
    }
}
