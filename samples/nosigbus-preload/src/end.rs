// SPDX-License-Identifier: MIT OR Apache-2.0

//! Interposes the ways in which a program ends: return from main, exit, quick_exit and _exit.
//! exit and quick_exit call the functions that were registered for them. At the end of the
//! program, this module prints the last reports, and may change the exit status.

use crate::{
    kernel::exit_group,
    next::{Next, find, next},
    notice, options, outcome, stats,
};
use libc::{c_char, c_int, c_void};
use std::{
    mem::transmute,
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, Ordering::Relaxed},
};

unsafe extern "C" {
    /// The function that at_quick_exit of a program calls.
    fn __cxa_at_quick_exit(
        function: extern "C" fn(*mut c_void),
        dso: *const *const c_void,
    ) -> c_int;
    fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    /// Flushes and closes all streams, as exit does.
    fn fcloseall() -> c_int;
}

/// The status that quick_exit was called with.
static QUICK: AtomicI32 = AtomicI32::new(0);

extern "C" fn at_quick_exit(_: *mut c_void) {
    tell();
    let status = QUICK.load(Relaxed);
    let other = outcome::instead_of(status);
    if other != status {
        exit_group(other);
    }
}

/// Runs after all other registered functions, and after all destructors.
extern "C" fn at_exit(status: c_int, _: *mut c_void) {
    tell();
    let other = outcome::instead_of(status);
    if other != status {
        // SAFETY: exit is about to do the same, and no other registered function runs after this.
        unsafe { fcloseall() };
        exit_group(other);
    }
}

fn tell() {
    notice::end();
    stats::end();
}

pub fn start() {
    find([&EXIT, &QUICK_EXIT]);
    if options::watches() {
        // SAFETY: The functions are of this library, which is not unloaded. The function that is
        // registered first is called last, and none was registered before these.
        unsafe {
            __cxa_at_quick_exit(at_quick_exit, ptr::null());
            on_exit(at_exit, ptr::null_mut());
        }
    }
}

static EXIT: Next = Next::new(c"exit");
static QUICK_EXIT: Next = Next::new(c"quick_exit");
static START_MAIN: Next = Next::new(c"__libc_start_main");

type Main = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;

static MAIN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Calls the program's main, then prints the reports while stderr is still open. Many programs
/// register a function with atexit that closes stderr.
unsafe extern "C" fn main(argc: c_int, argv: *mut *mut c_char, envp: *mut *mut c_char) -> c_int {
    // SAFETY: `__libc_start_main` has stored a `Main` there.
    let main = unsafe { transmute::<*mut c_void, Main>(MAIN.load(Relaxed)) };
    // SAFETY: The caller's.
    let status = unsafe { main(argc, argv, envp) };
    notice::end();
    status
}

/// Is the first function of libc that every program calls.
///
/// # Safety
///
/// That of libc's `__libc_start_main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_start_main(
    of_program: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    init: *mut c_void,
    fini: *mut c_void,
    rtld_fini: *mut c_void,
    stack_end: *mut c_void,
) -> c_int {
    let next = next!(START_MAIN: Main, c_int, *mut *mut c_char, *mut c_void, *mut c_void, *mut c_void, *mut c_void);
    MAIN.store(of_program as *mut c_void, Relaxed);
    let main = if options::notices() { main } else { of_program };
    // SAFETY: The caller's.
    unsafe { next(main, argc, argv, init, fini, rtld_fini, stack_end) }
}

/// # Safety
///
/// That of exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exit(status: c_int) -> ! {
    notice::end();
    let next = next!(EXIT: c_int);
    // SAFETY: The caller's.
    unsafe { next(status) };
    exit_group(status)
}

/// # Safety
///
/// That of quick_exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quick_exit(status: c_int) -> ! {
    QUICK.store(status, Relaxed);
    let next = next!(QUICK_EXIT: c_int);
    // SAFETY: The caller's.
    unsafe { next(status) };
    exit_group(status)
}

/// # Safety
///
/// That of _exit(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    tell();
    exit_group(outcome::instead_of(status))
}

/// # Safety
///
/// That of _Exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Exit(status: c_int) -> ! {
    // SAFETY: The caller's.
    unsafe { _exit(status) }
}
