//! The GPUs that Metal offers. A build without the feature `metal` cannot look, and says so.

use serde::Serialize;

/// What Metal offers to this build.
#[derive(Debug, Serialize)]
pub struct Metal {
    /// Whether this build can look for devices.
    pub built: bool,
    /// The devices, the one that would be used first.
    pub devices: Vec<Device>,
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
    /// The device that would be used.
    pub fn preferred(&self) -> Option<&Device> {
        self.devices.first()
    }
}

#[cfg(feature = "metal")]
impl Metal {
    /// The GPUs of this machine.
    pub fn of_this_machine() -> Self {
        let mut devices = safe_mps::Device::all();
        if let Ok(default) = safe_mps::Device::system_default() {
            // A stable sort: the others keep the system's order.
            devices.sort_by_key(|device| device.registry_id() != default.registry_id());
        }
        let devices = devices.iter().map(|device| Device {
            name: device.name(),
            mps: device.supports_mps(),
            max_buffer_bytes: device.max_buffer_length(),
        });
        Self {
            built: true,
            devices: devices.collect(),
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
        }
    }
}
