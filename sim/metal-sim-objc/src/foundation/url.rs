//! `NSURL`: file URLs, which is what Metal takes (libraries, captures).

use super::string;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use std::ffi::{CStr, CString, c_char};

/// A path, and whether it names a directory.
pub struct Path {
    path: CString,
    directory: bool,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSURL"]
    #[ivars = Path]
    /// The class behind `NSURL`.
    pub struct SimUrl;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimUrl {}

    impl SimUrl {
        #[unsafe(method_id(initFileURLWithFileSystemRepresentation:isDirectory:relativeToURL:))]
        fn init_file(
            this: Allocated<Self>,
            path: *const c_char,
            directory: bool,
            base: Option<&SimUrl>,
        ) -> Retained<Self> {
            // SAFETY: the method's contract: a NUL-terminated path.
            let path = unsafe { CStr::from_ptr(path) }.to_bytes();
            let path = match base {
                Some(base) if !path.starts_with(b"/") => {
                    [base.ivars().path.to_bytes(), b"/", path].concat()
                }
                _ => path.to_vec(),
            };
            init_with(this, path, directory)
        }

        #[unsafe(method_id(fileURLWithPath:))]
        fn file_url(path: &NSString) -> Retained<Self> {
            init_with(Self::alloc(), path.to_string().into_bytes(), false)
        }

        #[unsafe(method_id(initFileURLWithPath:))]
        fn init_path(this: Allocated<Self>, path: &NSString) -> Retained<Self> {
            init_with(this, path.to_string().into_bytes(), false)
        }

        #[unsafe(method(isFileURL))]
        fn is_file(&self) -> bool {
            true
        }

        #[unsafe(method(hasDirectoryPath))]
        fn has_directory_path(&self) -> bool {
            self.ivars().directory
        }

        #[unsafe(method(fileSystemRepresentation))]
        fn file_system_representation(&self) -> *const c_char {
            self.ivars().path.as_ptr()
        }

        #[unsafe(method(getFileSystemRepresentation:maxLength:))]
        fn get_file_system_representation(&self, into: *mut c_char, room: usize) -> bool {
            let path = self.ivars().path.as_bytes_with_nul();
            let fits = path.len() <= room;
            if fits {
                // SAFETY: the method's contract: `room` bytes.
                unsafe { std::ptr::copy_nonoverlapping(path.as_ptr().cast(), into, path.len()) };
            }
            fits
        }

        #[unsafe(method_id(path))]
        fn path(&self) -> Retained<NSString> {
            string::new(&self.ivars().path.to_string_lossy())
        }

        #[unsafe(method_id(absoluteString))]
        fn absolute_string(&self) -> Retained<NSString> {
            self.ivars().absolute()
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            self.ivars().absolute()
        }
    }
);

impl Path {
    fn absolute(&self) -> Retained<NSString> {
        string::new(&format!("file://{}", self.path.to_string_lossy()))
    }
}

fn init_with(this: Allocated<SimUrl>, mut path: Vec<u8>, directory: bool) -> Retained<SimUrl> {
    if directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let directory = directory || path.ends_with(b"/");
    path.retain(|byte| *byte != 0);
    let path = CString::new(path).expect("NULs were taken out");
    let this = this.set_ivars(Path { path, directory });
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}
