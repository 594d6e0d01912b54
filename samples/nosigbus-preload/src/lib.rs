// SPDX-License-Identifier: MIT OR Apache-2.0

//! Opts in every mapping of a file that a program creates. `nosigbus run` loads this library by
//! LD_PRELOAD.
//!
//! The interposed functions can be called in any context: by allocators, in signal handlers,
//! between fork and exec, and before constructors have run. So this library does not allocate and
//! does not panic. Threads share single atomic words. Larger data has a lock that can be taken in
//! any context (`lock.rs`). The program gets the results of the plain calls; errno changes where a
//! plain call would have changed it. A mapping that cannot be opted in stays a plain mapping.
//!
//! The modules:
//!
//! * Interposed functions: `map`, `remap` and `protect` do what those in this file do. `mlock`,
//!   `sync`, `handlers`, `exec` and `end` have functions of their own. `next` finds the functions
//!   of libc.
//! * `cover` decides what is opted in, and opts in and out.
//! * Reports: `lost` keeps which mappings have had stand-ins, and `names` keeps the paths of their
//!   files. `notice` and `stats` print reports, and `outcome` changes the exit status. `output`
//!   writes the lines, and `holders` finds the processes that they name.
//! * `options`, `device`, `event` and `vfork` keep the state of the process. `fdinfo` and `vmas`
//!   read /proc.
//! * `kernel`, `lock` and `text` are used instead of libc, `Mutex` and `String`.

mod child;
mod cover;
mod device;
mod end;
mod event;
mod exec;
mod fdinfo;
mod handlers;
mod holders;
mod kernel;
mod lock;
mod lost;
mod map;
mod mlock;
mod names;
mod next;
mod notice;
mod options;
mod outcome;
mod output;
mod protect;
mod remap;
mod stats;
mod sync;
mod text;
mod vfork;
mod vmas;

use kernel::{Mmap, Mremap, Result};
use libc::{MREMAP_DONTUNMAP, MREMAP_FIXED, c_char, c_int, c_void, off_t, size_t};

/// Initializes this library before the program runs. Reads the options before the program can
/// change its environment. Opens the device before the program can confine itself so that it may
/// not.
extern "C" fn start(_: c_int, _: *const *const c_char, _: *const *const c_char) {
    options::read();
    device::get();
    output::start();
    vfork::start();
    event::start();
    stats::start();
    end::start();
    exec::start();
    sync::start();
    mlock::start();
    handlers::start();
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = start;

/// Converts a result to the convention of libc: -1 and errno.
fn returned(result: Result) -> isize {
    match result {
        Ok(value) => value as isize,
        Err(errno) => {
            // SAFETY: This thread's own.
            unsafe { *libc::__errno_location() = errno };
            -1
        }
    }
}

fn mapped(result: Result) -> *mut c_void {
    returned(result) as *mut c_void
}

/// # Safety
///
/// That of mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: size_t,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    let args = Mmap {
        addr: addr as usize,
        len,
        prot,
        flags,
        fd,
        offset,
    };
    // SAFETY: The caller's.
    mapped(unsafe { map::mmap(args) })
}

/// # Safety
///
/// That of mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: size_t,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: The caller's.
    unsafe { mmap(addr, len, prot, flags, fd, offset) }
}

/// Replaces mremap, which is variadic in C. On the architectures that Linux supports Rust on, that
/// makes no difference: the fifth argument is read from a register, even if the caller passed none.
///
/// # Safety
///
/// That of mremap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_len: size_t,
    len: size_t,
    flags: c_int,
    addr: *mut c_void,
) -> *mut c_void {
    let fixed = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) != 0;
    let args = Mremap {
        old: old as usize,
        old_len,
        len,
        flags,
        addr: if fixed { addr as usize } else { 0 },
    };
    // SAFETY: The caller's.
    let call = || unsafe { remap::mremap(args) };
    mapped(if flags & MREMAP_FIXED != 0 {
        lost::unmapping(&kernel::pages(args.addr, len), call)
    } else {
        call()
    })
}

/// # Safety
///
/// That of munmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munmap(addr: *mut c_void, len: size_t) -> c_int {
    let addr = addr as usize;
    // SAFETY: The caller's.
    let call = || unsafe { kernel::munmap(addr, len) };
    returned(lost::unmapping(&kernel::pages(addr, len), call)) as c_int
}

/// # Safety
///
/// That of mprotect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mprotect(addr: *mut c_void, len: size_t, prot: c_int) -> c_int {
    // SAFETY: The caller's.
    let call = |addr, len| unsafe { kernel::mprotect(addr, len, prot) };
    // SAFETY: The caller's.
    returned(unsafe { protect::mprotect(addr as usize, len, prot, call) }) as c_int
}

/// # Safety
///
/// That of pkey_mprotect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pkey_mprotect(
    addr: *mut c_void,
    len: size_t,
    prot: c_int,
    key: c_int,
) -> c_int {
    // SAFETY: The caller's.
    let call = |addr, len| unsafe { kernel::pkey_mprotect(addr, len, prot, key) };
    // SAFETY: The caller's.
    returned(unsafe { protect::mprotect(addr as usize, len, prot, call) }) as c_int
}
