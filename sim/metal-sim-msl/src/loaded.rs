//! A compiled library in this process. A file is loaded once, however many pipelines use it: its function constants are
//! its own variables, so a dispatch that writes them has the library to itself.

use crate::abi::{self, symbol};
use crate::error::Error;
use crate::runtime::table::RUNTIME;
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A library and its tables.
pub struct Loaded {
    path: PathBuf,
    table: &'static abi::Library,
    derive: abi::Derive,
    /// With the detector only.
    watch: Option<abi::SetWatch>,
    variables: &'static [abi::Variable],
    /// Held while a dispatch needs the constants to stay as they are.
    constants: Mutex<()>,
    // Last: the tables above are in it.
    _library: libloading::Library,
}

// SAFETY: the tables are constants of the library; what changes is behind the mutex.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

static LOADED: Mutex<Option<HashMap<PathBuf, Weak<Loaded>>>> = Mutex::new(None);

impl Loaded {
    pub fn open(path: &Path) -> Result<Arc<Self>, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(library) = loaded.get(path).and_then(Weak::upgrade) {
            return Ok(library);
        }
        let library = Arc::new(Self::load(path)?);
        loaded.insert(path.to_owned(), Arc::downgrade(&library));
        Ok(library)
    }

    fn load(path: &Path) -> Result<Self, Error> {
        let failed = |why: String| Error::Load {
            path: path.to_owned(),
            why,
        };
        let missing = |error: libloading::Error| failed(error.to_string());
        // SAFETY: the compiler of this crate made the file; its functions have the types of the contract, which the
        // number in their names and in the table says, and its tables live as long as it is loaded.
        unsafe {
            let library = libloading::Library::new(path).map_err(missing)?;
            let table = library
                .get::<abi::GetLibrary>(symbol::LIBRARY)
                .map_err(missing)?();
            if (*table).abi != abi::ABI {
                return Err(failed(format!(
                    "it is of version {}, not {}",
                    (*table).abi,
                    abi::ABI
                )));
            }
            library.get::<abi::Bind>(symbol::BIND).map_err(missing)?(&raw const RUNTIME);
            let derive = *library
                .get::<abi::Derive>(symbol::DERIVE)
                .map_err(missing)?;
            let watch = library.get::<abi::SetWatch>(symbol::WATCH).ok();
            let watch = watch.map(|watch| *watch);
            let mut count = 0;
            let variables = library
                .get::<abi::GetVariables>(symbol::VARIABLES)
                .map_err(missing)?(&raw mut count);
            Ok(Self {
                path: path.to_owned(),
                table: &*table,
                derive,
                watch,
                variables: list(variables, count),
                constants: Mutex::new(()),
                _library: library,
            })
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn kernel(&self, name: &str) -> Result<&'static abi::Kernel, Error> {
        // SAFETY: a table of the library.
        let kernels = unsafe { list(self.table.kernels, self.table.kernel_count) };
        let found = kernels.iter().find(|kernel| text(kernel.name) == name);
        found.ok_or_else(|| Error::NoFunction {
            name: name.to_owned(),
            library: self.path.display().to_string(),
            nearest: None,
        })
    }

    fn constant_table(&self) -> &'static [abi::Constant] {
        // SAFETY: a table of the library.
        unsafe { list(self.table.constants, self.table.constant_count) }
    }

    /// The number of a constant in the table, by its name or by its index.
    pub fn constant(&self, which: &Which) -> Option<usize> {
        self.constant_table()
            .iter()
            .position(|constant| match which {
                Which::Index(index) => constant.index == *index && *index != abi::NONE,
                Which::Name(name) => text(constant.name) == *name && constant.index != abi::NONE,
            })
    }

    /// Checks a value for a constant.
    pub fn check_value(&self, number: usize, type_name: &str, bytes: &[u8]) -> Result<(), Error> {
        let constant = &self.constant_table()[number];
        let declared = text(constant.type_name);
        if constant.size as usize == bytes.len() && (type_name.is_empty() || type_name == declared)
        {
            return Ok(());
        }
        let why = format!(
            "it is declared {declared} ({} bytes), the value is {type_name} ({} bytes)",
            constant.size,
            bytes.len()
        );
        Err(Error::BadConstant {
            constant: format!("`{}`", text(constant.name)),
            why,
        })
    }

    /// Writes the values of the constants, by their numbers, and computes those derived from them. Without any constants
    /// there is nothing to hold, unless the detector watches.
    pub fn set_constants(
        &self,
        values: &[(usize, Vec<u8>)],
        watched: bool,
    ) -> Option<MutexGuard<'_, ()>> {
        let table = self.constant_table();
        if table.is_empty() && !watched {
            return None;
        }
        let guard = self
            .constants
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (number, constant) in table.iter().enumerate() {
            if constant.index == abi::NONE {
                continue;
            }
            let value = values.iter().find(|(one, _)| *one == number);
            // SAFETY: variables of the library, of the size that its table says and `check_value` compared; no kernel of
            // it runs, as each dispatch holds the lock.
            unsafe {
                match value {
                    Some((_, bytes)) => constant
                        .value
                        .cast::<u8>()
                        .copy_from(bytes.as_ptr(), bytes.len()),
                    None => constant
                        .value
                        .cast::<u8>()
                        .write_bytes(0, constant.size as usize),
                }
                if !constant.defined.is_null() {
                    constant.defined.write(value.is_some().into());
                }
            }
        }
        // SAFETY: as above.
        unsafe { (self.derive)() };
        Some(guard)
    }

    /// Tells the library what its accesses look at, or null. Whoever does holds what [`Loaded::set_constants`] returned.
    ///
    /// # Safety
    /// It stays until null is told, with the cells that it names.
    pub unsafe fn set_watch(&self, watch: *mut abi::Watch, code: usize) {
        // A stamp would not tell places in more code than this apart.
        let fits = code < (abi::SITES << abi::SITE_STEP) as usize;
        if let (Some(set), true) = (self.watch, fits) {
            // SAFETY: a function of the library; the rest as the caller says.
            unsafe { set(watch) };
        }
    }

    /// Whether the argument is there, as far as its constant says. The constants are set.
    pub fn is_on(&self, argument: &abi::Argument) -> bool {
        self.constant_table()
            .get(argument.constant as usize)
            .is_none_or(|constant| {
                // SAFETY: a variable of the library, of that size.
                let bytes = unsafe {
                    slice::from_raw_parts(constant.value.cast::<u8>(), constant.size as usize)
                };
                bytes.iter().any(|&byte| byte != 0)
            })
    }

    /// The constant that an argument needs and that has no value.
    pub fn missing_constant(
        &self,
        argument: &abi::Argument,
        values: &[(usize, Vec<u8>)],
    ) -> Option<(String, u32)> {
        let number = argument.constant as usize;
        let constant = self.constant_table().get(number)?;
        let given = constant.index == abi::NONE || values.iter().any(|(one, _)| *one == number);
        (!given).then(|| (text(constant.name).to_owned(), constant.index))
    }

    /// Bytes of all variables in threadgroup memory, as they are placed.
    pub fn threadgroup_variables(&self) -> usize {
        let place = |end: usize, variable: &abi::Variable| {
            end.next_multiple_of((variable.align as usize).max(16)) + variable.size as usize
        };
        self.variables.iter().fold(0, place)
    }
}

/// How a function constant is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    Index(u32),
    Name(String),
}

/// The arguments of a kernel.
pub fn arguments(kernel: &abi::Kernel) -> &[abi::Argument] {
    // SAFETY: a table of the kernel's library.
    unsafe { list(kernel.arguments, kernel.argument_count) }
}

/// # Safety
/// A table of a loaded library, null only if it is empty.
unsafe fn list<'a, T>(first: *const T, count: u32) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { slice::from_raw_parts(first, count as usize) }
}

/// A text in a table.
pub fn text<'a>(text: *const c_char) -> &'a str {
    if text.is_null() {
        return "";
    }
    // SAFETY: texts in tables of libraries are literals.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .unwrap_or("(not UTF-8)")
}
