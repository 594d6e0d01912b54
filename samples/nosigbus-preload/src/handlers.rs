// SPDX-License-Identifier: MIT OR Apache-2.0

//! Detects whether the program has installed a handler for SIGBUS. Such a handler may treat an
//! error better than this library does.

use crate::{
    cover,
    next::{Next, find},
    options,
};
use libc::{SIG_DFL, SIG_ERR, SIG_IGN, SIGBUS, c_int, sigaction as Action, sighandler_t};
use std::{
    mem::transmute,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

static INSTALLED: AtomicBool = AtomicBool::new(false);

static SIGACTION: Next = Next::new(c"sigaction");
static SIGNAL: Next = Next::new(c"signal");
static SYSV_SIGNAL: Next = Next::new(c"__sysv_signal");

pub fn start() {
    find([&SIGACTION, &SIGNAL, &SYSV_SIGNAL]);
}

/// Returns whether the program's own handler gets SIGBUS for errors of file systems.
pub fn have_errors() -> bool {
    INSTALLED.load(Relaxed) && !options::force()
}

/// Returns whether the program's own handler also gets SIGBUS for truncated files.
pub fn have_all() -> bool {
    have_errors() && options::keeps_handlers()
}

fn installed(signal: c_int, handler: sighandler_t) {
    if signal != SIGBUS {
        return;
    }
    let is_one = ![SIG_DFL, SIG_IGN, SIG_ERR].contains(&handler);
    if !INSTALLED.swap(is_one, Relaxed) && is_one && have_errors() {
        // From here on, errors reach the new handler.
        if options::records_errors() || have_all() {
            cover::renew();
        }
    }
}

/// # Safety
///
/// That of sigaction(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    type Function = unsafe extern "C" fn(c_int, *const Action, *mut Action) -> c_int;
    // SAFETY: Libc has it, with that signature.
    let next = unsafe { transmute::<*mut libc::c_void, Function>(SIGACTION.get()) };
    // SAFETY: The caller's.
    let result = unsafe { next(signal, new, old) };
    if result == 0 && !new.is_null() {
        // SAFETY: The caller's.
        installed(signal, unsafe { (*new).sa_sigaction });
    }
    result
}

/// # Safety
///
/// That of the next function.
unsafe fn by_signal(next: &Next, signal: c_int, handler: sighandler_t) -> sighandler_t {
    type Function = unsafe extern "C" fn(c_int, sighandler_t) -> sighandler_t;
    // SAFETY: Libc has them, with that signature.
    let next = unsafe { transmute::<*mut libc::c_void, Function>(next.get()) };
    // SAFETY: The caller's.
    let old = unsafe { next(signal, handler) };
    if old != SIG_ERR {
        installed(signal, handler);
    }
    old
}

/// # Safety
///
/// That of signal(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: The caller's.
    unsafe { by_signal(&SIGNAL, signal, handler) }
}

/// Replaces signal in a program that is compiled for System V or strict POSIX.
///
/// # Safety
///
/// That of signal(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: The caller's.
    unsafe { by_signal(&SYSV_SIGNAL, signal, handler) }
}
