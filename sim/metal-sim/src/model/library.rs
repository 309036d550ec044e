//! `MTLLibrary` and `MTLFunction`: what a Metal source has in it. Making a library finds its kernels; machine code
//! is made for one kernel at a time, with its pipeline.

use super::descriptors::{SimCompileOptions, SimFunctionConstants};
use super::device::SimDevice;
use super::{Kept, given};
use crate::fault::fault;
use crate::lock;
use crate::rules::rules;
use block2::DynBlock;
use metal_sim_msl::{Checks, Constants, Library, Options};
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSArray, NSError, NSString, NSURL};
use objc2_metal::{MTLFunction, MTLFunctionType, MTLLibrary, MTLLibraryType};
use std::sync::Mutex;

/// `MTLLibraryError`s.
#[derive(Clone, Copy)]
pub(crate) enum Code {
    Unsupported = 1,
    CompileFailure = 3,
    FunctionNotFound = 5,
    FileNotFound = 6,
}

/// What a call that makes something answers: the object, or why there is none.
pub(crate) type Made<T> = Result<Retained<T>, Retained<NSError>>;

/// An error of libraries and pipelines.
pub(crate) fn error(code: Code, message: &str) -> Retained<NSError> {
    metal_sim_objc::foundation::error::new("MTLLibraryErrorDomain", code as isize, message)
}

/// Answers as methods with an `error:` do: the object, or nil with the error in its place.
///
/// # Safety
/// `place` is null or a place for an error.
pub(crate) unsafe fn answer<T>(made: Made<T>, place: *mut *mut NSError) -> Option<Retained<T>> {
    match made {
        Ok(object) => Some(object),
        Err(error) => {
            if !place.is_null() {
                // SAFETY: the caller's promise; errors are handed out autoreleased.
                unsafe { *place = Retained::autorelease_ptr(error) };
            }
            None
        }
    }
}

/// A completion handler of something that is made: the object or nil, the error or nil.
pub(crate) type Handler = DynBlock<dyn Fn(*mut AnyObject, *mut NSError)>;

/// Tells a handler, before the call returns: nothing here takes long enough to be worth a thread.
pub(crate) fn tell<T: Message>(made: Made<T>, handler: &Handler) {
    match &made {
        Ok(object) => handler.call((
            Retained::as_ptr(object).cast_mut().cast(),
            std::ptr::null_mut(),
        )),
        Err(error) => handler.call((std::ptr::null_mut(), Retained::as_ptr(error).cast_mut())),
    }
}

/// A library's instance variables.
pub struct LibraryCore {
    device: Kept<SimDevice>,
    library: Library,
    checks: Checks,
    label: Mutex<Option<String>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimLibrary"]
    #[ivars = LibraryCore]
    /// The class behind `MTLLibrary`.
    pub struct SimLibrary;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimLibrary {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLLibrary for SimLibrary {}

    impl SimLibrary {
        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.on().retain()
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.ivars().label).as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            *lock(&self.ivars().label) = label.map(ToString::to_string);
        }

        #[unsafe(method(type))]
        fn kind(&self) -> MTLLibraryType {
            MTLLibraryType::Executable
        }

        #[unsafe(method_id(installName))]
        fn install_name(&self) -> Option<Retained<NSString>> {
            None
        }

        #[unsafe(method_id(functionNames))]
        fn function_names(&self) -> Retained<NSArray> {
            let name = |function: &metal_sim_msl::Function| -> Retained<AnyObject> {
                NSString::from_str(&function.name).into()
            };
            let names = self.ivars().library.functions().iter().map(name);
            metal_sim_objc::foundation::array::new(names.collect())
        }

        #[unsafe(method_id(newFunctionWithName:))]
        fn new_function(&self, name: Option<&NSString>) -> Option<Retained<SimFunction>> {
            let name = given(name, "newFunctionWithName:", "name").to_string();
            self.function(&name, Constants::default()).ok()
        }

        #[unsafe(method_id(newFunctionWithName:constantValues:error:))]
        fn new_function_with_constants(
            &self,
            name: Option<&NSString>,
            constants: Option<&SimFunctionConstants>,
            place: *mut *mut NSError,
        ) -> Option<Retained<SimFunction>> {
            let made = self.specialised(name, constants, "newFunctionWithName:constantValues:error:");
            // SAFETY: the method's contract: null or a place for an error.
            unsafe { answer(made, place) }
        }

        #[unsafe(method(newFunctionWithName:constantValues:completionHandler:))]
        fn new_function_later(
            &self,
            name: Option<&NSString>,
            constants: Option<&SimFunctionConstants>,
            handler: &Handler,
        ) {
            const CALL: &str = "newFunctionWithName:constantValues:completionHandler:";
            tell(self.specialised(name, constants, CALL), handler);
        }
    }
);

// SAFETY: the library is immutable, the label behind a lock.
unsafe impl Send for SimLibrary {}
// SAFETY: as above.
unsafe impl Sync for SimLibrary {}

impl SimLibrary {
    /// Finds the kernels of a source.
    pub(crate) fn from_source(
        device: &SimDevice,
        name: &str,
        source: &str,
        options: Option<&SimCompileOptions>,
    ) -> Made<Self> {
        if options.is_some_and(SimCompileOptions::has_macros) {
            let message = "preprocessor macros: this simulator does not read them; put a #define into the source";
            return Err(error(Code::Unsupported, message));
        }
        let options = Options {
            name: name.to_owned(),
            fast_math: options.is_none_or(SimCompileOptions::is_fast),
            ..Options::default()
        };
        let mutant = rules().without_barrier.as_ref();
        let mutant = mutant.and_then(|barrier| {
            let taken = barrier.taken_from(source);
            taken.unwrap_or_else(|why| fault("METAL_SIM_WITHOUT_BARRIER", why))
        });
        let source = mutant.as_deref().unwrap_or(source);
        // A kernel's machine code is made with its pipeline, but its errors belong here.
        let library = Library::from_source(source, &options)
            .and_then(|library| library.check().map(|()| library))
            .map_err(|why| error(Code::CompileFailure, &why.to_string()))?;
        let core = LibraryCore {
            device: Kept::new(device),
            library,
            checks: rules().watched_in(source),
            label: Mutex::new(None),
        };
        // SAFETY: NSObject's `init` has this signature.
        Ok(unsafe { msg_send![super(Self::alloc().set_ivars(core)), init] })
    }

    /// The same for a source file.
    pub(crate) fn from_file(device: &SimDevice, url: &NSURL) -> Made<Self> {
        let path = url.path().map(|path| path.to_string()).unwrap_or_default();
        if path.ends_with(".metallib") {
            let message = format!(
                "{path}: compiled libraries hold code for Apple's GPUs; this simulator takes the .metal source"
            );
            return Err(error(Code::Unsupported, &message));
        }
        let source = std::fs::read_to_string(&path)
            .map_err(|why| error(Code::FileNotFound, &format!("{path}: {why}")))?;
        Self::from_source(device, &path, &source, None)
    }

    fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }

    fn specialised(
        &self,
        name: Option<&NSString>,
        constants: Option<&SimFunctionConstants>,
        call: &str,
    ) -> Made<SimFunction> {
        let name = given(name, call, "name").to_string();
        let constants = given(constants, call, "constantValues");
        self.function(&name, constants.values())
    }

    fn function(&self, name: &str, constants: Constants) -> Made<SimFunction> {
        let library = &self.ivars().library;
        if library.function(name).is_none() {
            let message = format!("Function {name} was not found in the library");
            return Err(error(Code::FunctionNotFound, &message));
        }
        Ok(SimFunction::new(FunctionCore {
            device: Kept::new(self.on()),
            library: library.clone(),
            name: name.to_owned(),
            constants,
            checks: self.ivars().checks,
            label: Mutex::new(None),
        }))
    }
}

/// A function's instance variables.
pub struct FunctionCore {
    pub(crate) device: Kept<SimDevice>,
    pub(crate) library: Library,
    pub(crate) name: String,
    pub(crate) constants: Constants,
    /// What its pipelines are watched for.
    pub(crate) checks: Checks,
    label: Mutex<Option<String>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimFunction"]
    #[ivars = FunctionCore]
    /// The class behind `MTLFunction`.
    pub struct SimFunction;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimFunction {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLFunction for SimFunction {}

    impl SimFunction {
        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.ivars().device.0.clone()
        }

        #[unsafe(method_id(name))]
        fn name(&self) -> Retained<NSString> {
            NSString::from_str(&self.ivars().name)
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.ivars().label).as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            *lock(&self.ivars().label) = label.map(ToString::to_string);
        }

        #[unsafe(method(functionType))]
        fn kind(&self) -> MTLFunctionType {
            MTLFunctionType::Kernel
        }
    }
);

// SAFETY: everything but the label is immutable, and that is behind a lock.
unsafe impl Send for SimFunction {}
// SAFETY: as above.
unsafe impl Sync for SimFunction {}

impl SimFunction {
    fn new(core: FunctionCore) -> Retained<Self> {
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(core)), init] }
    }

    /// What a pipeline is made of.
    pub(crate) fn core(&self) -> &FunctionCore {
        self.ivars()
    }
}
