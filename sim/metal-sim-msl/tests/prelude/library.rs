//! Compiles a C++ source against the prelude as kernels are compiled, and loads it.

use std::{fs, path::PathBuf, process::Command};

use libloading::Symbol;
use metal_sim_msl::compiler::Compiler;

use crate::lanes::{self, Runtime};

/// As `compiler.rs` has them; those that change what numbers mean are the ones that matter here.
const FLAGS: [&str; 23] = [
    "-std=c++17",
    "-O1",
    "-g1",
    "-w",
    "-fPIC",
    "-shared",
    "-fsigned-char",
    "-fwrapv",
    "-fno-strict-aliasing",
    "-fno-strict-float-cast-overflow",
    "-Xclang",
    "-ffloat16-excess-precision=none",
    "-Xclang",
    "-fbfloat16-excess-precision=none",
    "-fdeclspec",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-caret-diagnostics",
    "-nostdinc",
    "-nostdinc++",
    "-Xclang",
    "-cl-single-precision-constant",
    "-ffp-contract=off",
];
pub const DETECT: [&str; 8] = [
    "-DMSL_DETECT",
    "-fsanitize=thread",
    "-mllvm",
    "-tsan-instrument-atomics=0",
    "-mllvm",
    "-tsan-instrument-func-entry-exit=0",
    "-mllvm",
    "-tsan-compound-read-before-write=1",
];

pub struct Library(libloading::Library);

impl Library {
    /// Compiles `source`, after `#include "metal.h"`; `name` is its file.
    pub fn new(name: &str, source: &str) -> Self {
        Self::with(name, source, &[])
    }

    pub fn with(name: &str, source: &str, flags: &[&str]) -> Self {
        let path =
            compile(name, source, flags).unwrap_or_else(|messages| panic!("{name}: {messages}"));
        // SAFETY: the library was compiled from this test's source a moment ago; it has no initialisers but the
        // sanitizer's, which the prelude leaves empty.
        let library =
            Self(unsafe { libloading::Library::new(path) }.expect("what was linked loads"));
        library.bind(&lanes::RUNTIME);
        library
    }

    pub fn bind(&self, runtime: &'static Runtime) {
        // SAFETY: runtime.h defines it with this signature; the table lives as long as the process.
        unsafe { self.get::<unsafe extern "C" fn(*const Runtime)>("msl_bind_1")(runtime) };
    }

    /// The function of this name.
    ///
    /// # Safety
    /// `F` is its type.
    pub unsafe fn get<F>(&self, name: &str) -> Symbol<'_, F> {
        // SAFETY: by the caller.
        unsafe { self.0.get(name.as_bytes()) }.unwrap_or_else(|e| panic!("{e}"))
    }

    /// `void name(const A*, R*, int)`: one result for each of `a`.
    pub fn map<A, R: Clone + Default>(&self, name: &str, a: &[A]) -> Vec<R> {
        let mut results = vec![R::default(); a.len()];
        // SAFETY: every function that tests call so has this type, and writes as many results as there are arguments.
        unsafe {
            self.get::<unsafe extern "C" fn(*const A, *mut R, i32)>(name)(
                a.as_ptr(),
                results.as_mut_ptr(),
                a.len() as i32,
            )
        };
        results
    }
}

/// The shared object, or what the compiler said.
pub fn compile(name: &str, source: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let input = folder.join(format!("{name}.cpp"));
    let output = folder.join(format!("{name}.so"));
    let prelude = concat!(env!("CARGO_MANIFEST_DIR"), "/prelude");
    fs::write(
        &input,
        format!("#include \"metal.h\"\nusing namespace metal;\n#line 1 \"{name}\"\n{source}"),
    )
    .expect("the target folder is writable");
    let found = Compiler::find().unwrap_or_else(|error| panic!("{error}"));
    let run = Command::new(found.path())
        .args(FLAGS)
        .args(flags)
        .args(["-I", prelude, "-o"])
        .args([&output, &input])
        .args(["-nostdlib", "-Wl,-z,defs", "-lm", "-lc", "-lgcc"])
        .output()
        .expect("it was found a moment ago");
    if run.status.success() {
        Ok(output)
    } else {
        Err(String::from_utf8_lossy(&run.stderr).into_owned())
    }
}
