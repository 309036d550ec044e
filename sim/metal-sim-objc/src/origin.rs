//! Where objects come from: the call stack of each allocation, kept unresolved with the
//! object and looked at only when a fault is reported. Recorded in debug builds; the
//! environment variable `METAL_SIM_ORIGINS` (`1` or `0`) decides otherwise.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// The stack of one allocation, or null where none was recorded.
pub(crate) type Origin = *mut Backtrace;

const UNDECIDED: u8 = 2;

/// Whether origins are recorded: 0, 1, or not decided yet.
static RECORDING: AtomicU8 = AtomicU8::new(UNDECIDED);

/// The calling stack, if stacks are recorded. The caller frees it with [`forget`].
#[inline]
pub(crate) fn here() -> Origin {
    match RECORDING.load(Ordering::Relaxed) {
        0 => std::ptr::null_mut(),
        state => capture(state),
    }
}

#[cold]
fn capture(state: u8) -> Origin {
    if state == UNDECIDED {
        let wanted = match std::env::var("METAL_SIM_ORIGINS").as_deref() {
            Ok("0") => false,
            Ok("1") => true,
            _ => cfg!(debug_assertions),
        };
        RECORDING.store(u8::from(wanted), Ordering::Relaxed);
        return here();
    }
    Box::into_raw(Box::new(Backtrace::force_capture()))
}

/// Frees what [`here`] gave.
///
/// # Safety
/// `origin` came from [`here`] and is not used afterwards.
pub(crate) unsafe fn forget(origin: Origin) {
    if !origin.is_null() {
        // SAFETY: the caller's promise: `here` leaked a box.
        drop(unsafe { Box::from_raw(origin) });
    }
}

/// An origin as the end of a fault's message: empty, or where the object was allocated.
pub(crate) struct Allocated(pub(crate) Option<String>);

impl Allocated {
    /// Resolves an origin, which takes a while.
    ///
    /// # Safety
    /// `origin` is null or came from [`here`] and was not freed.
    pub(crate) unsafe fn resolve(origin: Origin) -> Self {
        // SAFETY: the caller's promise.
        let stack = unsafe { origin.as_ref() };
        Self(stack.and_then(|stack| place(&stack.to_string())))
    }
}

impl fmt::Display for Allocated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(place) => write!(f, ", allocated at {place}"),
            None => Ok(()),
        }
    }
}

/// Where a program made a call, for reports about it: the stack, looked at only when somebody asks.
#[derive(Debug)]
pub struct Place(Backtrace);

impl Default for Place {
    /// A place that nobody asked for when the call was made.
    fn default() -> Self {
        Self(Backtrace::disabled())
    }
}

impl Place {
    /// The calling stack.
    pub fn here() -> Self {
        Self(Backtrace::force_capture())
    }

    /// File, line and function of the program's own call.
    pub fn text(&self) -> Option<String> {
        place(&self.0.to_string())
    }
}

/// The first frame of a printed stack that is neither ours nor the bindings'. A frame is
/// `  7: function`, in most cases followed by `      at file:line:column`.
fn place(stack: &str) -> Option<String> {
    let mut lines = stack.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((_, function)) = line.split_once(": ") else {
            continue;
        };
        let file = lines
            .peek()
            .and_then(|line| line.trim_start().strip_prefix("at "));
        if !is_machinery(function, file) {
            return Some(match file {
                Some(file) => format!("{file} in {function}"),
                None => function.to_owned(),
            });
        }
    }
    None
}

/// Whether a function is on the way from a program to its allocation: the standard library,
/// the bindings, this runtime and what is simulated on it (but not their own tests).
fn is_machinery(function: &str, file: Option<&str>) -> bool {
    if function.contains("::tests::") {
        return false;
    }
    if !function.contains("::") {
        // A C function, the ABI of this runtime; or debug information of lines only, in which an
        // inlined function has no path.
        return file.is_none_or(is_machinery_file);
    }
    is_machinery_crate(crate_of(function)) || file.is_some_and(is_machinery_file)
}

fn is_machinery_crate(name: &str) -> bool {
    matches!(name, "core" | "std" | "alloc" | "block2" | "test")
        || name.starts_with("objc2")
        || name.starts_with("metal_sim")
}

/// The same by the folder above `src`, which is named like its crate, with a version if it comes from
/// a registry. The standard library is somewhere below `/rustc`.
fn is_machinery_file(file: &str) -> bool {
    // What was compiled in the working folder is told from there.
    let here = file.strip_prefix("./").and_then(|rest| {
        let folder = std::env::current_dir().ok()?;
        Some(format!("{}/{rest}", folder.display()))
    });
    let file = here.as_deref().unwrap_or(file);
    // A registry is in a folder of that name, too.
    let above = file.rsplit_once("/src/").map_or(file, |(above, _)| above);
    let folder = above.rsplit('/').next().unwrap_or(above);
    let name = folder.split_once("-0.").map_or(folder, |(name, _)| name);
    file.starts_with("/rustc/")
        || (file.contains("/src/") && is_machinery_crate(&name.replace('-', "_")))
}

/// The crate that a function's path begins with: in `<type as trait>::name` the type's, or the
/// trait's where the type is a primitive or a parameter.
fn crate_of(function: &str) -> &str {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut paths = function.split(" as ").flat_map(|part| part.split(' '));
    let path = paths.find(|path| path.contains("::")).unwrap_or(function);
    let start = path.find(is_word).unwrap_or(path.len());
    let path = &path[start..];
    let end = path.find(|c| !is_word(c)).unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_foreign_frame_is_the_place() {
        let stack = "   0: std::backtrace::Backtrace::create
   1: metal_sim_objc::object::create
             at ./src/object.rs:80:5
   2: <metal_sim::model::buffer::SimBuffer as objc2::ClassType>::class
   3: objc_msgSend
   4: objc2_metal::generated::MTLDevice::newBufferWithLength_options
             at /registry/objc2-metal/src/generated/MTLDevice.rs:100:9
   4: <T as objc2::encode::EncodeArguments>::__invoke
             at /registry/objc2/src/encode.rs:433:26
   5: <app::Engine as app::Start>::start
             at /home/someone/app/src/engine.rs:12:34
   6: app::main
             at /home/someone/app/src/main.rs:3:5
";
        assert_eq!(
            place(stack).unwrap(),
            "/home/someone/app/src/engine.rs:12:34 in <app::Engine as app::Start>::start"
        );
        // An inlined function, and debug information of lines only.
        let stack = "   0: object_new
             at /home/someone/metal-sim-objc/src/object.rs:80:5
   1: send<(), *mut app::Engine>
             at /registry/src/index/objc2-0.6.5/src/runtime/message_receiver.rs:243:18
   2: call_once
             at /rustc/59807616/library/core/src/ops/function.rs:250:5
   3: start
             at /home/someone/app/src/engine.rs:12:34
";
        assert_eq!(
            place(stack).unwrap(),
            "/home/someone/app/src/engine.rs:12:34 in start"
        );
        assert_eq!(place("   0: app::main\n").unwrap(), "app::main");
        assert_eq!(place("disabled backtrace"), None);
    }
}
