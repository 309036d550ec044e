//! A kernel that is ready to run: compiled, loaded, its function constants chosen. A dispatch is checked before anything
//! runs; what cannot be known before (an argument that is used and not bound) is an error afterwards.

use crate::abi;
use crate::detect::{Bounds, Detector, Lines, Region, loaded};
use crate::dispatch::{Binding, Dispatch, Outcome};
use crate::error::Error;
use crate::library::{Argument, Checks, Library};
use crate::loaded::{Loaded, Which, arguments, text};
use crate::runtime::fault::NEAR_NULL;
use crate::runtime::launch::Launch;
use crate::runtime::memory;
use crate::runtime::shape::Shape;
use crate::runtime::table::RUNTIME;
use crate::runtime::threadgroup::{Call, Stop};
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::Arc;

/// The most threads of a threadgroup, if the kernel does not say less.
const THREADS: u32 = 1024;
/// Arguments whose constant is off read zeros.
const ZEROS: usize = 1 << 20;

/// Values for function constants, by index or by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Constants(Vec<(Which, String, Vec<u8>)>);

impl Constants {
    /// A value for `[[function_constant(index)]]`. `type_name` is as MSL says it, such as `bool`; if it is empty, only
    /// the size is checked.
    pub fn set_index(&mut self, index: u32, type_name: &str, bytes: &[u8]) {
        self.set(Which::Index(index), type_name, bytes);
    }

    /// A value by the constant's name.
    pub fn set_name(&mut self, name: &str, type_name: &str, bytes: &[u8]) {
        self.set(Which::Name(name.to_owned()), type_name, bytes);
    }

    fn set(&mut self, which: Which, type_name: &str, bytes: &[u8]) {
        self.0.retain(|(one, ..)| *one != which);
        self.0.push((which, type_name.to_owned(), bytes.to_vec()));
    }
}

/// A compiled kernel, as it comes from the compiler.
#[derive(Clone, Debug)]
pub struct Code<'a> {
    /// The shared object.
    pub path: &'a Path,
    pub kernel: &'a str,
    /// The `.metal` file, as findings call it.
    pub source: &'a str,
    /// The folder of the prelude: its lines are not the kernel's.
    pub prelude: &'a Path,
    pub arguments: Vec<Argument>,
    pub checks: Checks,
}

/// A kernel that can be dispatched. Clones share it.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    library: Arc<Loaded>,
    kernel: &'static abi::Kernel,
    name: String,
    source: String,
    prelude: PathBuf,
    arguments: Vec<Argument>,
    checks: Checks,
    /// By the constant's number in the library's table.
    constants: Vec<(usize, Vec<u8>)>,
}

// SAFETY: the kernel is a constant table of the library, which it holds; see `Loaded`.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Pipeline {
    /// Compiles one kernel of a library, if that was not done before on this machine, and loads it.
    pub fn new(
        library: &Library,
        function: &str,
        constants: &Constants,
        checks: Checks,
    ) -> Result<Self, Error> {
        let path = library.build(function, checks)?;
        let prelude = library.prelude()?;
        let found = library.function(function);
        for name in found.iter().flat_map(|function| &function.constants) {
            let index = library
                .constants()
                .iter()
                .find(|constant| constant.name == *name)
                .and_then(|one| one.index);
            let given = |(which, ..): &(Which, String, Vec<u8>)| match which {
                Which::Index(given) => Some(*given) == index,
                Which::Name(given) => given == name,
            };
            if let Some(index) = index.filter(|_| !constants.0.iter().any(given)) {
                return Err(Error::MissingConstant {
                    name: name.clone(),
                    index,
                    kernel: function.to_owned(),
                });
            }
        }
        let code = Code {
            path: &path,
            kernel: function,
            source: library.name(),
            prelude: &prelude,
            arguments: found
                .map(|function| function.arguments.clone())
                .unwrap_or_default(),
            checks,
        };
        Self::open(code, constants)
    }

    /// Loads a compiled kernel.
    pub fn open(code: Code, constants: &Constants) -> Result<Self, Error> {
        let library = Loaded::open(code.path)?;
        let kernel = library.kernel(code.kernel)?;
        let mut values = Vec::new();
        for (which, type_name, bytes) in &constants.0 {
            // Values for constants that the kernel does not have are no error, as with Metal.
            if let Some(number) = library.constant(which) {
                library.check_value(number, type_name, bytes)?;
                values.push((number, bytes.clone()));
            }
        }
        for argument in arguments(kernel) {
            if let Some((name, index)) = library.missing_constant(argument, &values) {
                return Err(Error::MissingConstant {
                    name,
                    index,
                    kernel: code.kernel.to_owned(),
                });
            }
        }
        let off: Vec<&str> = {
            let _values = library.set_constants(&values, false);
            let all = arguments(kernel).iter();
            let off = all.filter(|argument| !library.is_on(argument));
            off.map(|argument| text(argument.name)).collect()
        };
        let is_on = |argument: &Argument| !off.contains(&argument.name.as_str());
        let arguments = code.arguments.into_iter().filter(is_on).collect();
        let inner = Inner {
            library,
            kernel,
            name: code.kernel.to_owned(),
            source: code.source.to_owned(),
            prelude: code.prelude.to_owned(),
            arguments,
            checks: code.checks,
            constants: values,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub fn max_total_threads_per_threadgroup(&self) -> u32 {
        match self.inner.kernel.max_total_threads {
            0 => THREADS,
            said => said.min(THREADS),
        }
    }

    pub fn thread_execution_width(&self) -> u32 {
        abi::SIMD
    }

    /// Bytes of the variables in threadgroup memory, as the compiled kernel lists them.
    pub fn static_threadgroup_memory_length(&self) -> u32 {
        self.inner.library.threadgroup_variables() as u32
    }

    /// Without those that its function constants turn off: whatever is bound in their place is not looked at.
    pub fn arguments(&self) -> &[Argument] {
        &self.inner.arguments
    }

    /// Runs the kernel on a grid, and returns when all of it ran.
    ///
    /// The kernel may read and write the buffers from several OS threads; whoever made the bindings sees to it that
    /// they are there and that nobody else uses them until then.
    pub fn dispatch(&self, dispatch: &Dispatch) -> Result<Outcome, Error> {
        self.run(dispatch, None)
    }

    /// The same, and counts the bytes that the kernel touches of those buffers, by their index, of which `counts` is
    /// true. With the detector only; without it nothing is counted.
    pub fn dispatch_counted(
        &self,
        dispatch: &Dispatch,
        counts: &dyn Fn(usize) -> bool,
    ) -> Result<Outcome, Error> {
        self.run(dispatch, Some(counts))
    }

    fn run(
        &self,
        dispatch: &Dispatch,
        counts: Option<&dyn Fn(usize) -> bool>,
    ) -> Result<Outcome, Error> {
        let inner = &*self.inner;
        let shape = Shape::new(dispatch.grid).map_err(|why| Error::BadGrid {
            kernel: inner.name.clone(),
            why,
        })?;
        self.check_sizes(&shape, dispatch)?;
        // Held until the end: the kernel reads the constants while it runs.
        let races = inner.checks.races;
        let constants = inner.library.set_constants(&inner.constants, races);
        let addresses = inner.addresses(dispatch)?;
        let mut detector = races.then(|| inner.detector(dispatch, shape, &addresses, counts));
        let launch = Launch {
            call: Call {
                entry: inner.kernel.entry,
                buffers: addresses.as_ptr(),
            },
            shape,
            schedule: dispatch.schedule,
            os_threads: dispatch.threads,
            threadgroup_memory: dispatch.threadgroup_memory,
        };
        let (_, code) = loaded(inner.kernel.entry as usize).unwrap_or_default();
        let watch = detector.as_mut().map(|detector| detector.watch());
        // SAFETY: the compiler made the kernel for this table of buffers, and whoever bound them keeps them. The detector
        // is there until the kernel has ended.
        let ran = unsafe {
            if let Some(watch) = watch {
                inner.library.set_watch(watch, code.len());
            }
            let ran = launch.run(detector);
            inner.library.set_watch(null_mut(), 0);
            ran
        };
        drop(constants);
        let ran = ran.map_err(|error| Error::Io {
            doing: "stacks for GPU threads (see vm.max_map_count)".into(),
            error,
        })?;
        if let Some(stop) = ran.stop {
            inner.why(stop, dispatch)?;
        }
        let detector = ran.detector;
        Ok(detector.map_or_else(Outcome::default, |detector| detector.into_outcome()))
    }

    fn check_sizes(&self, shape: &Shape, dispatch: &Dispatch) -> Result<(), Error> {
        let kernel = || self.inner.name.clone();
        let threads = shape.threads.iter().map(|&axis| u64::from(axis)).product();
        let limit = self.max_total_threads_per_threadgroup();
        if threads > u64::from(limit) {
            return Err(Error::ThreadgroupTooLarge {
                kernel: kernel(),
                threads,
                limit,
            });
        }
        let arguments = dispatch
            .threadgroup_memory
            .iter()
            .map(|size| size.next_multiple_of(16))
            .sum::<usize>();
        let needed = arguments + self.inner.library.threadgroup_variables();
        if needed > memory::LIMIT {
            return Err(Error::ThreadgroupMemory {
                kernel: kernel(),
                arguments,
                needed,
                limit: memory::LIMIT,
            });
        }
        Ok(())
    }
}

fn bound<'a>(dispatch: &'a Dispatch, index: u32) -> Option<&'a Binding> {
    dispatch.buffers.get(index as usize)?.as_ref()
}

impl Inner {
    /// What the kernel is called with, by buffer index.
    fn addresses(&self, dispatch: &Dispatch) -> Result<Vec<*mut c_void>, Error> {
        let all = arguments(self.kernel);
        let highest = all
            .iter()
            .filter(|one| one.kind == abi::BUFFER)
            .map(|one| one.index as usize + 1)
            .max();
        let mut addresses = vec![null_mut(); highest.unwrap_or(0).max(dispatch.buffers.len())];
        for (address, binding) in addresses.iter_mut().zip(dispatch.buffers) {
            *address = binding
                .as_ref()
                .map_or(null_mut(), |binding| binding.address.cast());
        }
        for argument in all {
            let on = self.library.is_on(argument);
            let index = argument.index;
            let named = || (self.name.clone(), text(argument.name).to_owned());
            match argument.kind {
                abi::BUFFER if !on => addresses[index as usize] = zeros(),
                // A reference is read whole; how much of what a pointer names is used, only the run shows.
                abi::BUFFER if text(argument.type_name).trim_end().ends_with('&') => {
                    let needed = argument.size as usize;
                    let length = bound(dispatch, index).map(|binding| binding.length);
                    if let Some(length) = length.filter(|&length| length < needed) {
                        let (kernel, argument) = named();
                        return Err(Error::SmallBuffer {
                            kernel,
                            argument,
                            index,
                            needed,
                            length,
                        });
                    }
                }
                abi::THREADGROUP if on => {
                    let size = dispatch
                        .threadgroup_memory
                        .get(index as usize)
                        .copied()
                        .unwrap_or(0);
                    if size == 0 {
                        let (kernel, argument) = named();
                        return Err(Error::NoThreadgroupMemory {
                            kernel,
                            argument,
                            index,
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(addresses)
    }

    /// Arguments that are on and have no buffer.
    fn unbound<'a>(&'a self, dispatch: &'a Dispatch) -> impl Iterator<Item = &'a abi::Argument> {
        arguments(self.kernel).iter().filter(|argument| {
            argument.kind == abi::BUFFER
                && self.library.is_on(argument)
                && bound(dispatch, argument.index).is_none()
        })
    }

    fn lines(&self) -> Lines {
        Lines::new(
            self.library.path(),
            &self.source,
            &self.prelude,
            self.kernel.line,
        )
    }

    fn detector(
        &self,
        dispatch: &Dispatch,
        shape: Shape,
        addresses: &[*mut c_void],
        counts: Option<&dyn Fn(usize) -> bool>,
    ) -> Box<Detector> {
        let name = |index: usize, label: &str| {
            let is_it =
                |one: &&abi::Argument| one.kind == abi::BUFFER && one.index as usize == index;
            let argument = arguments(self.kernel)
                .iter()
                .find(is_it)
                .map(|one| format!(" `{}`", text(one.name)));
            let label = if label.is_empty() {
                String::new()
            } else {
                format!(" ({label})")
            };
            format!("buffer {index}{}{label}", argument.unwrap_or_default())
        };
        let buffers = dispatch
            .buffers
            .iter()
            .enumerate()
            .filter_map(|(index, binding)| {
                let binding = binding.as_ref()?;
                Some(Region {
                    start: binding.address.addr(),
                    length: binding.length,
                    written: binding.written.clone(),
                    name: name(index, &binding.label),
                    counts: counts.is_some_and(|counts| counts(index)),
                })
            });
        let (base, code) = loaded(self.kernel.entry as usize).unwrap_or((0, 0..0));
        let table = addresses.as_ptr().addr();
        let runtime = (&raw const RUNTIME).addr();
        let zeros = zeros().addr();
        let bounds = Bounds {
            buffers: buffers.collect(),
            unbound: self.unbound(dispatch).next().is_some(),
            quiet: vec![
                code,
                runtime..runtime + size_of::<abi::Runtime>(),
                table..table + size_of_val(addresses),
                zeros..zeros + ZEROS,
            ],
        };
        let mut detector = Detector::new(
            &self.name,
            self.lines(),
            shape,
            bounds,
            base,
            self.checks.strict_flags,
        );
        if counts.is_some() {
            detector.count_traffic();
        }
        detector
    }

    /// The error for what stopped the kernel; none if the findings say it.
    fn why(&self, stop: Stop, dispatch: &Dispatch) -> Result<(), Error> {
        let kernel = self.name.clone();
        let place = |site: usize| {
            let pc = loaded(site).filter(|(_, code)| code.contains(&(self.kernel.entry as usize)));
            // The lines are of return addresses, which are after what they belong to.
            self.lines()
                .place(pc.map_or(0, |(base, _)| (site - base) as u32 + 1))
                .to_string()
        };
        Err(match stop {
            Stop::Findings => return Ok(()),
            Stop::Spinning { site } => Error::Stuck {
                kernel,
                place: place(site),
            },
            Stop::Memory => {
                let arguments = dispatch
                    .threadgroup_memory
                    .iter()
                    .map(|size| size.next_multiple_of(16))
                    .sum();
                let needed = arguments + self.library.threadgroup_variables();
                Error::ThreadgroupMemory {
                    kernel,
                    arguments,
                    needed,
                    limit: memory::LIMIT,
                }
            }
            Stop::Argument { index } => {
                let is_it =
                    |one: &&abi::Argument| one.kind == abi::THREADGROUP && one.index == index;
                let argument = arguments(self.kernel)
                    .iter()
                    .find(is_it)
                    .map_or("", |one| text(one.name))
                    .to_owned();
                Error::NoThreadgroupMemory {
                    kernel,
                    argument,
                    index,
                }
            }
            Stop::Fault {
                address,
                site,
                overflow,
            } => {
                let near = address.is_some_and(|address| address < NEAR_NULL);
                if let (true, Some(first)) = (near, self.unbound(dispatch).next()) {
                    let names: Vec<&str> = self
                        .unbound(dispatch)
                        .map(|argument| text(argument.name))
                        .collect();
                    return Err(Error::UnboundArgument {
                        kernel,
                        argument: names.join("` or `"),
                        index: first.index,
                    });
                }
                let what = match address {
                    Some(_) if overflow => "overflowed its stack".to_owned(),
                    Some(address) => {
                        format!("accessed memory that is not there, at address {address:#x},")
                    }
                    None => "divided an integer by zero".to_owned(),
                };
                Error::Fault {
                    kernel,
                    what,
                    place: place(site),
                }
            }
        })
    }
}

/// Memory of zeros that nobody can write.
fn zeros() -> *mut c_void {
    use std::sync::OnceLock;
    static START: OnceLock<usize> = OnceLock::new();
    let start = *START.get_or_init(|| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at a place of the system's choice; a kernel that writes there faults.
        unsafe { libc::mmap(null_mut(), ZEROS, libc::PROT_READ, flags, -1, 0) }.expose_provenance()
    });
    std::ptr::with_exposed_provenance_mut(start)
}
