//! What a source has in it: its kernels with their arguments, and its function constants. Making a [`Library`] runs
//! the preprocessor and the rewriter only; a kernel is compiled when [`Library::build`] is asked for it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::{
    cache::{self, Cache, Key},
    compiler::{self, Compiler},
    error::Error,
    front::Unit,
};

/// How a source is to be read.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file, as messages and findings call it.
    pub name: String,
    pub defines: Vec<(String, String)>,
    /// Defines `__FAST_MATH__`. Arithmetic stays exact.
    pub fast_math: bool,
    /// Major and minor; `bfloat` comes with 3.1.
    pub language_version: (u32, u32),
    /// Where `#include "…"` looks.
    pub includes: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "program_source".into(),
            defines: Vec::new(),
            fast_math: true,
            language_version: (3, 1),
            includes: Vec::new(),
        }
    }
}

/// A source that was understood; clones share it.
#[derive(Clone, Debug)]
pub struct Library {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    unit: Unit,
    functions: Vec<Function>,
    constants: Vec<Constant>,
    compiler: &'static Compiler,
    cache: Cache,
    /// Of the source and the compiler.
    key: Key,
    built: Mutex<HashMap<(String, bool), PathBuf>>,
}

impl Library {
    /// Preprocesses a source and reads what is in it. Errors within functions are found by [`check`](Self::check), or
    /// when the kernel is built.
    pub fn from_source(source: &str, options: &Options) -> Result<Self, Error> {
        let compiler = Compiler::shared()?;
        let cache = Cache::open()?;
        let mut key = Key::new();
        key.feed(compiler.identity());
        let text = preprocess(source, options, compiler, &cache, &key)?;
        key.feed(&text);
        let unit = Unit::parse(text, &options.name)?;
        let functions = unit.functions().cloned().collect();
        let constants = unit.constants().cloned().collect();
        let (name, built) = (options.name.clone(), Mutex::default());
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                unit,
                functions,
                constants,
                compiler,
                cache,
                key,
                built,
            }),
        })
    }

    /// The file, as the options named it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// All kernels, instantiations included, by `host_name`.
    pub fn functions(&self) -> &[Function] {
        &self.inner.functions
    }

    /// The kernel of that name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions().iter().find(|f| f.name == name)
    }

    /// The function constants, and those derived from them, as the compiled table numbers them.
    pub fn constants(&self) -> &[Constant] {
        &self.inner.constants
    }

    /// Compiles one kernel, if that was not done before on this machine, and says where it is.
    pub fn build(&self, function: &str, checks: Checks) -> Result<PathBuf, Error> {
        if self.function(function).is_none() {
            return Err(Error::NoFunction {
                name: function.into(),
                library: self.inner.name.clone(),
                nearest: self.nearest(function),
            });
        }
        let slot = (function.to_string(), checks.races);
        if let Some(path) = self.built().get(&slot) {
            return Ok(path.clone());
        }
        let path = self.compile(&format!("kernel {function}"), checks, |name| {
            name == function
        })?;
        self.built().insert(slot, path.clone());
        Ok(path)
    }

    /// Compiles every kernel into one library.
    pub fn build_all(&self, checks: Checks) -> Result<PathBuf, Error> {
        self.compile("all", checks, |_| true)
    }

    /// The folder of the prelude's headers, as debug information names them.
    pub fn prelude(&self) -> Result<PathBuf, Error> {
        self.inner.cache.prelude()
    }

    /// Has the compiler look through the whole source for errors, which takes a while; once on a machine for a source
    /// without any.
    pub fn check(&self) -> Result<(), Error> {
        let inner = &*self.inner;
        let prelude = inner.cache.prelude()?;
        let key = inner
            .key
            .with("check")
            .with(&compiler::flags(false).join(" "));
        let make = |path: &Path| {
            inner
                .compiler
                .check(&inner.unit.emit_unused(), &prelude, &inner.name)?;
            cache::write(path, "")
        };
        inner.cache.entry(&key, "checked", make).map(|_| ())
    }

    fn compile(
        &self,
        what: &str,
        checks: Checks,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<PathBuf, Error> {
        let inner = &*self.inner;
        let prelude = inner.cache.prelude()?;
        let key = inner
            .key
            .with(&compiler::flags(checks.races).join(" "))
            .with(what);
        inner.cache.entry(&key, "so", |path| {
            inner.compiler.compile(
                &inner.unit.emit(wanted),
                &prelude,
                checks.races,
                path,
                &inner.name,
            )
        })
    }

    fn built(&self) -> std::sync::MutexGuard<'_, HashMap<(String, bool), PathBuf>> {
        self.inner
            .built
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The name with the longest beginning and end in common.
    fn nearest(&self, name: &str) -> Option<String> {
        let common = |other: &str| {
            let front = name
                .bytes()
                .zip(other.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            let back = name
                .bytes()
                .rev()
                .zip(other.bytes().rev())
                .take_while(|(a, b)| a == b)
                .count();
            front + back
        };
        let best = self.functions().iter().max_by_key(|f| common(&f.name))?;
        (common(&best.name) * 2 >= name.len()).then(|| best.name.clone())
    }
}

/// Preprocessed text, from the cache if all that the source includes is the prelude's.
fn preprocess(
    source: &str,
    options: &Options,
    compiler: &Compiler,
    cache: &Cache,
    key: &Key,
) -> Result<String, Error> {
    let prelude = cache.prelude()?;
    let own = |line: &str| {
        let directive = line.trim_start().strip_prefix('#').map(str::trim_start);
        directive
            .and_then(|d| d.strip_prefix("include"))
            .is_some_and(|i| !i.trim_start().starts_with("<metal"))
    };
    if source.lines().any(own) {
        return compiler.preprocess(source, options, &prelude);
    }
    let key = key
        .with("preprocessed")
        .with(&format!("{options:?}"))
        .with(source);
    let path = cache.entry(&key, "ii", |path| {
        let text = compiler.preprocess(source, options, &prelude)?;
        cache::write(path, &text)
    })?;
    fs::read_to_string(&path).map_err(|e| Error::io(format!("reading {}", path.display()), e))
}

/// A kernel, as the table of its library describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its `host_name`, or else its own.
    pub name: String,
    pub arguments: Vec<Argument>,
    /// The function constants that it names itself, or by one derived from them, unless the source asks somewhere
    /// whether they are defined. Each needs a value.
    pub constants: Vec<String>,
    pub line: u32,
}

/// One argument of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    pub kind: ArgumentKind,
    /// As written, such as `device const float *`.
    pub type_name: String,
    /// A device buffer without `const`.
    pub writable: bool,
    pub line: u32,
    /// The name in `[[function_constant(name)]]`.
    pub constant: Option<String>,
}

/// Where the value of an argument comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArgumentKind {
    /// `[[buffer(index)]]`, given or assigned.
    Buffer(u32),
    /// `[[threadgroup(index)]]`, given or assigned.
    Threadgroup(u32),
    Builtin(Builtin),
}

/// What a kernel can ask of the thread that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    ThreadPositionInGrid,
    ThreadPositionInThreadgroup,
    ThreadgroupPositionInGrid,
    ThreadsPerThreadgroup,
    DispatchThreadsPerThreadgroup,
    ThreadgroupsPerGrid,
    ThreadsPerGrid,
    ThreadIndexInThreadgroup,
    ThreadIndexInSimdgroup,
    SimdgroupIndexInThreadgroup,
    SimdgroupsPerThreadgroup,
    ThreadsPerSimdgroup,
    ThreadIndexInQuadgroup,
    QuadgroupIndexInThreadgroup,
    QuadgroupsPerThreadgroup,
}

impl Builtin {
    /// The attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::ThreadPositionInGrid => "thread_position_in_grid",
            Self::ThreadPositionInThreadgroup => "thread_position_in_threadgroup",
            Self::ThreadgroupPositionInGrid => "threadgroup_position_in_grid",
            Self::ThreadsPerThreadgroup => "threads_per_threadgroup",
            Self::DispatchThreadsPerThreadgroup => "dispatch_threads_per_threadgroup",
            Self::ThreadgroupsPerGrid => "threadgroups_per_grid",
            Self::ThreadsPerGrid => "threads_per_grid",
            Self::ThreadIndexInThreadgroup => "thread_index_in_threadgroup",
            Self::ThreadIndexInSimdgroup => "thread_index_in_simdgroup",
            Self::SimdgroupIndexInThreadgroup => "simdgroup_index_in_threadgroup",
            Self::SimdgroupsPerThreadgroup => "simdgroups_per_threadgroup",
            Self::ThreadsPerSimdgroup => "threads_per_simdgroup",
            Self::ThreadIndexInQuadgroup => "thread_index_in_quadgroup",
            Self::QuadgroupIndexInThreadgroup => "quadgroup_index_in_threadgroup",
            Self::QuadgroupsPerThreadgroup => "quadgroups_per_threadgroup",
        }
    }
}

/// A function constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    pub name: String,
    /// As written.
    pub type_name: String,
    /// None: it is derived from others.
    pub index: Option<u32>,
    pub line: u32,
}

/// What is checked while a kernel runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checks {
    /// Races, bounds, uninitialised reads, divergence.
    pub races: bool,
    /// A barrier orders only the memory that its `mem_flags` name.
    pub strict_flags: bool,
}
