//! The host's compiler: clang, because only clang keeps a call `convergent`, which every simd operation and barrier
//! needs to stay the one call that lanes meet at. It preprocesses, compiles and links; its messages come back with
//! their lines.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::UNIX_EPOCH,
};

use crate::{error::Error, library::Options, messages::failure};

/// Names the compiler.
pub const CLANG: &str = "METAL_SIM_CLANG";

/// The versions of clang that Debian and others install under a name of their own, best first.
const VERSIONS: std::ops::RangeInclusive<u32> = 16..=29;
const PREFERRED: u32 = 19;

/// A clang that can compile kernels.
#[derive(Clone, Debug)]
pub struct Compiler {
    path: PathBuf,
    /// Changes when the compiler does; part of the cache's key.
    identity: String,
}

impl Compiler {
    /// The one that `METAL_SIM_CLANG` names, or `clang++-19`, a newer, an older, or `clang++` if it is 16 or newer.
    pub fn find() -> Result<Self, Error> {
        Self::find_in(
            env::var_os(CLANG).filter(|v| !v.is_empty()).as_deref(),
            env::var_os("PATH").as_deref(),
        )
    }

    /// The one of this process.
    pub(crate) fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceLock<Compiler> = OnceLock::new();
        if let Some(found) = SHARED.get() {
            return Ok(found);
        }
        let found = Self::find()?;
        Ok(SHARED.get_or_init(|| found))
    }

    fn find_in(named: Option<&OsStr>, path: Option<&OsStr>) -> Result<Self, Error> {
        let folders: Vec<PathBuf> = path.map(env::split_paths).into_iter().flatten().collect();
        let lookup = |name: &OsStr| -> Option<PathBuf> {
            if Path::new(name).components().count() > 1 {
                return Some(PathBuf::from(name)).filter(|p| p.is_file());
            }
            folders.iter().map(|f| f.join(name)).find(|p| p.is_file())
        };
        if let Some(name) = named {
            let unusable = |why: String| Error::UnusableCompiler {
                path: name.to_string_lossy().into(),
                why,
            };
            let path = lookup(name).ok_or_else(|| unusable("there is no such program".into()))?;
            let version = version(&path).map_err(|e| unusable(e.to_string()))?;
            return judge(&version)
                .map_err(unusable)
                .and_then(|()| Self::at(path));
        }
        let newer = PREFERRED..=*VERSIONS.end();
        let older = (*VERSIONS.start()..PREFERRED).rev();
        for number in newer.chain(older) {
            // Such a name says which version it is; only `clang++` has to be asked.
            if let Some(path) = lookup(OsStr::new(&format!("clang++-{number}"))) {
                return Self::at(path);
            }
        }
        let tried = match lookup(OsStr::new("clang++")) {
            None => "neither clang++-19 nor clang++ is on the PATH".to_string(),
            Some(path) => match version(&path)
                .map_err(|e| e.to_string())
                .and_then(|v| judge(&v))
            {
                Ok(()) => return Self::at(path),
                Err(why) => format!("{}: {why}", path.display()),
            },
        };
        Err(Error::NoCompiler { tried })
    }

    fn at(path: PathBuf) -> Result<Self, Error> {
        let metadata = fs::metadata(&path)
            .map_err(|e| Error::io(format!("looking at {}", path.display()), e))?;
        let changed = metadata
            .modified()
            .ok()
            .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        let identity = format!(
            "{} {} {}",
            path.display(),
            metadata.len(),
            changed.as_nanos()
        );
        Ok(Self { path, identity })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The source after its directives, with stand-ins for Apple's headers and line markers that name it as the
    /// options do.
    pub(crate) fn preprocess(
        &self,
        source: &str,
        options: &Options,
        prelude: &Path,
    ) -> Result<String, Error> {
        let mut command = Command::new(&self.path);
        command.args([
            "-E",
            "-x",
            "c++",
            "-std=c++17",
            "-nostdinc",
            "-nostdinc++",
            "-fno-color-diagnostics",
        ]);
        command
            .args(definitions(options))
            .arg("-I")
            .arg(prelude.join("pp"));
        for folder in &options.includes {
            command.arg("-I").arg(folder);
        }
        let name = options.name.replace('\\', "\\\\").replace('"', "\\\"");
        let output = self.run(command.arg("-"), &format!("#line 1 \"{name}\"\n{source}"))?;
        if !output.status.success() {
            return Err(failure(&output, &options.name));
        }
        String::from_utf8(output.stdout)
            .map_err(|e| Error::io(format!("reading {}", options.name), io::Error::other(e)))
    }

    /// Compiles and links C++ to a shared object; with `detect`, every access calls the runtime.
    pub(crate) fn compile(
        &self,
        cpp: &str,
        prelude: &Path,
        detect: bool,
        out: &Path,
        name: &str,
    ) -> Result<(), Error> {
        let mut command = Command::new(&self.path);
        command
            .args(flags(detect))
            .arg("-I")
            .arg(prelude)
            .args(["-shared", "-o"])
            .arg(out)
            .args(["-x", "c++", "-"]);
        // Only the functions that the compiler itself calls: memcpy, expf, conversions of halves.
        command.args(["-x", "none", "-nostdlib", "-lm", "-lc", "-lgcc"]);
        // The list of threadgroup variables is each library's own.
        command.args(["-Wl,-z,start-stop-visibility=hidden", "-Wl,-z,defs"]);
        let output = self.run(&mut command, cpp)?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failure(&output, name))
        }
    }

    /// Looks for errors only; templates that nothing uses are not looked into.
    pub(crate) fn check(&self, cpp: &str, prelude: &Path, name: &str) -> Result<(), Error> {
        let mut command = Command::new(&self.path);
        command
            .args(flags(false))
            .arg("-I")
            .arg(prelude)
            .args(["-fsyntax-only", "-x", "c++", "-"]);
        let output = self.run(&mut command, cpp)?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failure(&output, name))
        }
    }

    fn run(&self, command: &mut Command, input: &str) -> Result<Output, Error> {
        let failed = |e| Error::io(format!("running {}", self.path.display()), e);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut stdin = child.stdin.take().expect("it was piped");
        std::thread::scope(|scope| {
            // It may print before it has read everything; that it stops reading is told by its messages.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        })
        .map_err(failed)
    }
}

/// What Apple's compiler defines, and what the options ask for.
fn definitions(options: &Options) -> Vec<String> {
    let (major, minor) = options.language_version;
    let version = major * 100 + minor * 10;
    let mut all = vec![
        "-D__METAL__=1".to_string(),
        format!("-D__METAL_VERSION__={version}"),
    ];
    if version >= 310 {
        all.push("-D__HAVE_BFLOAT__=1".into());
    }
    if options.fast_math {
        all.push("-D__FAST_MATH__=1".into());
    }
    all.extend(
        options
            .defines
            .iter()
            .map(|(name, value)| format!("-D{name}={value}")),
    );
    all
}

/// How kernels are compiled; part of the cache's key.
pub(crate) fn flags(detect: bool) -> Vec<&'static str> {
    let mut all = vec![
        "-std=c++17",
        "-O1",
        "-g1",
        // What is compiled does not depend on where.
        "-fdebug-compilation-dir=/",
        "-w",
        "-fPIC",
        "-fvisibility=hidden",
        "-fsigned-char",
        "-fno-strict-aliasing",
        // A vector is where a pointer says, aligned or not.
        "-fmax-type-align=1",
        "-fdeclspec",
        "-fno-exceptions",
        "-fno-rtti",
        "-fno-stack-protector",
        "-fno-color-diagnostics",
        "-fno-caret-diagnostics",
        "-ferror-limit=20",
        "-nostdinc",
        "-nostdinc++",
        // 1.0 is a float in Metal.
        "-Xclang",
        "-cl-single-precision-constant",
        "-ffp-contract=off",
        // Each operation on small floats rounds to them, as on a GPU.
        "-Xclang",
        "-ffloat16-excess-precision=none",
        "-Xclang",
        "-fbfloat16-excess-precision=none",
        // Too large a float becomes the largest integer, and integers wrap.
        "-fno-strict-float-cast-overflow",
        "-fwrapv",
        // Where lanes meet is told by where the call returns to: into the branch it stands in, not to its caller.
        "-fno-optimize-sibling-calls",
        // A function of the source may have a barrier in it, so calls of it stay where they are as well.
        "-Xclang",
        "-fconvergent-functions",
    ];
    if detect {
        all.extend([
            "-DMSL_DETECT",
            "-fsanitize=thread",
            "-mllvm",
            "-tsan-instrument-atomics=0",
            "-mllvm",
            "-tsan-instrument-func-entry-exit=0",
            // `x += 1` reads, too.
            "-mllvm",
            "-tsan-compound-read-before-write=1",
        ]);
    }
    #[cfg(target_arch = "x86_64")]
    {
        // Conversions of halves and fma are otherwise calls.
        if is_x86_feature_detected!("f16c") {
            all.push("-mf16c");
        }
        if is_x86_feature_detected!("fma") {
            all.push("-mfma");
        }
    }
    all
}

fn version(path: &Path) -> io::Result<String> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether what `--version` printed is of a clang that is new enough.
fn judge(version: &str) -> Result<(), String> {
    let first = version.lines().next().unwrap_or_default();
    let Some(number) = first.split("clang version ").nth(1) else {
        return Err(format!(
            "it says `{first}`, which is not clang, and only clang knows `convergent`, that simd operations need"
        ));
    };
    let major = number.split('.').next().and_then(|n| n.parse::<u32>().ok());
    match major {
        Some(major) if VERSIONS.contains(&major) => Ok(()),
        _ => Err(format!(
            "it is clang {}, too old",
            number.split_whitespace().next().unwrap_or(number)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_compiler_says_how_to_get_one() {
        let error = Compiler::find_in(None, Some(OsStr::new("/nowhere")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("apt-get install clang-19") && error.contains("METAL_SIM_CLANG"),
            "{error}"
        );
    }

    #[test]
    fn other_compilers_and_old_ones_are_refused() {
        let gcc = judge("g++ (Debian 12.2.0-14) 12.2.0\nCopyright").unwrap_err();
        assert!(gcc.contains("convergent"), "{gcc}");
        assert!(
            judge("Debian clang version 14.0.6")
                .unwrap_err()
                .contains("14.0.6, too old")
        );
        assert_eq!(judge("Ubuntu clang version 19.1.1 (1ubuntu1)"), Ok(()));
        let error = Compiler::find_in(Some(OsStr::new("/nowhere/clang++")), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no such program") && error.contains("apt-get install clang-19"),
            "{error}"
        );
    }
}
