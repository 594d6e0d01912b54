// SPDX-License-Identifier: MIT OR Apache-2.0

//! The functions of libc that this library interposes.

use libc::{RTLD_NEXT, c_void};
use std::{
    ffi::CStr,
    ptr,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

/// A function of libc that is interposed here.
pub struct Next {
    name: &'static CStr,
    function: AtomicPtr<c_void>,
}

impl Next {
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            function: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Returns the function of libc. The constructor calls this first, because dlsym takes locks.
    /// Libc has all of these functions.
    pub fn get(&self) -> *mut c_void {
        let mut function = self.function.load(Relaxed);
        if function.is_null() {
            // SAFETY: A string.
            function = unsafe { libc::dlsym(RTLD_NEXT, self.name.as_ptr()) };
            self.function.store(function, Relaxed);
        }
        function
    }
}

/// Looks up the functions that a module interposes. The constructor calls this.
pub fn find<const COUNT: usize>(functions: [&Next; COUNT]) {
    for function in functions {
        function.get();
    }
}

/// Returns the function of libc as one with these arguments, which returns a `c_int`.
macro_rules! next {
    ($next:ident: $($type:ty),*) => {{
        // SAFETY: Libc has it, with that signature.
        unsafe {
            std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn($($type),*) -> libc::c_int>(
                $next.get(),
            )
        }
    }};
}
pub(crate) use next;
