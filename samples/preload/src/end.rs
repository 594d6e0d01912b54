// SPDX-License-Identifier: GPL-2.0-only

//! The ways in which a program ends, for `--stats`: exit and quick_exit, which call what was
//! registered, _exit, and exec.

use crate::{
    kernel::exit_group,
    next::{Next, next},
    options, stats,
};
use libc::{c_char, c_int, c_void};
use std::ptr;

unsafe extern "C" {
    /// What at_quick_exit is in a program.
    fn __cxa_at_quick_exit(
        function: extern "C" fn(*mut c_void),
        dso: *const *const c_void,
    ) -> c_int;
}

extern "C" fn at_quick_exit(_: *mut c_void) {
    stats::end();
}

extern "C" fn at_exit() {
    stats::end();
}

#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = at_exit;

pub fn start() {
    for function in [&EXECVE, &EXECV, &EXECVP, &EXECVPE, &FEXECVE] {
        function.get();
    }
    if options::stats() {
        // SAFETY: A function of this library, which is not unloaded.
        unsafe { __cxa_at_quick_exit(at_quick_exit, ptr::null()) };
    }
}

static EXECVE: Next = Next::new(c"execve");
static EXECV: Next = Next::new(c"execv");
static EXECVP: Next = Next::new(c"execvp");
static EXECVPE: Next = Next::new(c"execvpe");
static FEXECVE: Next = Next::new(c"fexecve");

type Strings = *const *const c_char;

/// # Safety
///
/// That of _exit(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    stats::end();
    exit_group(status)
}

/// # Safety
///
/// That of _Exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Exit(status: c_int) -> ! {
    stats::end();
    exit_group(status)
}

/// # Safety
///
/// That of execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
    stats::before_exec();
    let next = next!(EXECVE: *const c_char, Strings, Strings);
    // SAFETY: The caller's.
    unsafe { next(path, argv, envp) }
}

/// # Safety
///
/// That of execv(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, argv: Strings) -> c_int {
    stats::before_exec();
    let next = next!(EXECV: *const c_char, Strings);
    // SAFETY: The caller's.
    unsafe { next(path, argv) }
}

/// # Safety
///
/// That of execvp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const c_char, argv: Strings) -> c_int {
    stats::before_exec();
    let next = next!(EXECVP: *const c_char, Strings);
    // SAFETY: The caller's.
    unsafe { next(file, argv) }
}

/// # Safety
///
/// That of execvpe(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int {
    stats::before_exec();
    let next = next!(EXECVPE: *const c_char, Strings, Strings);
    // SAFETY: The caller's.
    unsafe { next(file, argv, envp) }
}

/// # Safety
///
/// That of fexecve(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
    stats::before_exec();
    let next = next!(FEXECVE: c_int, Strings, Strings);
    // SAFETY: The caller's.
    unsafe { next(fd, argv, envp) }
}
