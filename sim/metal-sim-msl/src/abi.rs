//! What compiled kernels and the runtime know of each other: the twin of `prelude/abi.h`, whose comments say what each
//! field means. The sizes are checked below, and against the header by tests/runtime.

#![allow(missing_docs)] // The header has the text.

pub use crate::detect::Cell;
use std::ffi::{c_char, c_void};
use std::mem::{offset_of, size_of};

/// Changes when either twin does.
pub const ABI: u32 = 2;
/// Lanes of a simdgroup.
pub const SIMD: u32 = 32;
/// Lanes of a quad.
pub const QUAD: u32 = 4;
/// The most bytes that one lane gives in an exchange.
pub const EXCHANGE: usize = 64;

pub const READ: u32 = 0;
pub const WRITE: u32 = 1;
pub const READ_WRITE: u32 = 2;

pub const MEM_DEVICE: u32 = 1;
pub const MEM_THREADGROUP: u32 = 2;

/// Memory orders.
pub const ACQUIRE: u32 = 1;
pub const RELEASE: u32 = 2;
pub const ACQ_REL: u32 = 3;
pub const SEQ_CST: u32 = 4;

pub const BUFFER: u32 = 0;
pub const THREADGROUP: u32 = 1;
/// An index that is none.
pub const NONE: u32 = !0;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    pub thread_position_in_grid: [u32; 3],
    pub thread_position_in_threadgroup: [u32; 3],
    pub threadgroup_position_in_grid: [u32; 3],
    pub threads_per_threadgroup: [u32; 3],
    pub dispatch_threads_per_threadgroup: [u32; 3],
    pub threadgroups_per_grid: [u32; 3],
    pub threads_per_grid: [u32; 3],
    pub thread_index_in_threadgroup: u32,
    pub thread_index_in_simdgroup: u32,
    pub simdgroup_index_in_threadgroup: u32,
    pub simdgroups_per_threadgroup: u32,
    pub threads_per_simdgroup: u32,
}

#[repr(C)]
pub struct Variable {
    pub name: *const c_char,
    pub size: u32,
    pub align: u32,
    pub line: u32,
}

#[repr(C)]
pub struct Runtime {
    pub abi: u32,
    pub self_: unsafe extern "C" fn() -> *const Thread,
    pub exchange: unsafe extern "C" fn(*const c_void, u32, *mut c_void, u32) -> u32,
    pub simdgroup_barrier: unsafe extern "C" fn(u32),
    pub threadgroup_barrier: unsafe extern "C" fn(u32),
    pub threadgroup_variable: unsafe extern "C" fn(*const Variable) -> *mut c_void,
    pub threadgroup_argument: unsafe extern "C" fn(u32) -> *mut c_void,
    pub access: unsafe extern "C" fn(*const c_void, u64, u32, *const c_void),
    pub atomic: unsafe extern "C" fn(*const c_void, u32, u32, u32, *const c_void),
    pub fence: unsafe extern "C" fn(u32, u32, *const c_void),
}

/// Places in code that a stamp can tell apart, and the logarithm of their distance.
pub const SITES: u32 = 1 << 19;
pub const SITE_STEP: u32 = 2;

/// Pages that compiled accesses find without a call.
pub const PAGES: usize = 1024;

/// Where a tag has a cell's size.
pub const TAG_SHIFT: u32 = 5;
/// In place of a cell's size, for memory that is nobody's business.
pub const QUIET: u64 = 7;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Page {
    pub tag: u64,
    pub cells: u64,
    pub from: u16,
    pub to: u16,
    pub kind: u32,
    pub unused: u64,
}

#[repr(C)]
pub struct Watch {
    pub base: u64,
    pub now: u32,
    pub lane: u32,
    pub start: u32,
    pub foreign: u32,
    pub barrier: [u32; 2],
    pub seen: [u32; 2],
    pub pages: [Page; PAGES],
}

#[repr(C)]
pub struct Argument {
    pub kind: u32,
    pub index: u32,
    pub name: *const c_char,
    pub type_name: *const c_char,
    pub size: u32,
    pub writable: u32,
    pub constant: u32,
    pub line: u32,
}

/// Runs one GPU thread to its end.
pub type Entry = unsafe extern "C" fn(*const *mut c_void, *const Thread);

#[repr(C)]
pub struct Kernel {
    pub name: *const c_char,
    pub entry: Entry,
    pub arguments: *const Argument,
    pub argument_count: u32,
    pub max_total_threads: u32,
    pub line: u32,
}

#[repr(C)]
pub struct Constant {
    pub name: *const c_char,
    pub type_name: *const c_char,
    pub index: u32,
    pub value: *mut c_void,
    pub size: u32,
    pub defined: *mut u8,
}

#[repr(C)]
pub struct Library {
    pub abi: u32,
    pub kernels: *const Kernel,
    pub kernel_count: u32,
    pub constants: *const Constant,
    pub constant_count: u32,
}

/// The names a library exports.
pub mod symbol {
    pub const LIBRARY: &[u8] = b"msl_library_1\0";
    pub const BIND: &[u8] = b"msl_bind_1\0";
    pub const WATCH: &[u8] = b"msl_watch_1\0";
    pub const DERIVE: &[u8] = b"msl_derive_1\0";
    pub const VARIABLES: &[u8] = b"msl_variables_1\0";
}

/// Their types.
pub type GetLibrary = unsafe extern "C" fn() -> *const Library;
pub type Bind = unsafe extern "C" fn(*const Runtime);
pub type SetWatch = unsafe extern "C" fn(*mut Watch);
pub type Derive = unsafe extern "C" fn();
pub type GetVariables = unsafe extern "C" fn(*mut u32) -> *const Variable;

const _: () = {
    assert!(size_of::<Thread>() == 26 * 4);
    assert!(offset_of!(Thread, thread_index_in_threadgroup) == 21 * 4);
    assert!(size_of::<Variable>() == 24 && offset_of!(Variable, line) == 16);
    assert!(size_of::<Runtime>() == 10 * 8 && offset_of!(Runtime, fence) == 9 * 8);
    assert!(size_of::<Cell>() == 32);
    assert!(size_of::<Page>() == 32 && offset_of!(Page, kind) == 20);
    assert!(size_of::<Watch>() == 40 + 32 * PAGES && offset_of!(Watch, seen) == 32);
    assert!(size_of::<Argument>() == 40 && offset_of!(Argument, size) == 24);
    assert!(size_of::<Kernel>() == 40 && offset_of!(Kernel, max_total_threads) == 28);
    assert!(size_of::<Constant>() == 48 && offset_of!(Constant, defined) == 40);
    assert!(size_of::<Library>() == 40 && offset_of!(Library, constant_count) == 32);
};
