//! Runs kernels: one fiber per GPU thread, 32 of them a simdgroup, threadgroups spread over OS threads.

pub mod fault;
pub mod fiber;
pub mod launch;
pub mod memory;
pub mod ready;
pub mod shape;
pub mod simdgroup;
pub mod stack;
pub mod table;
pub mod threadgroup;
