// SPDX-License-Identifier: MIT OR Apache-2.0

//! Interposes mlock, mlock2, mlockall and madvise. The kernel locks no pages of opted-in mappings,
//! and refuses some advice for them. So these functions opt the mappings out.

use crate::{
    cover,
    kernel::{page_size, pages},
    lost,
    next::{Next, find, next},
    notice,
};
use libc::{EINVAL, MADV_DODUMP, MADV_DOFORK, MCL_CURRENT, c_int, c_uint, c_void, size_t};
use std::ops::Range;

static MLOCK: Next = Next::new(c"mlock");
static MLOCK2: Next = Next::new(c"mlock2");
static MLOCKALL: Next = Next::new(c"mlockall");
static MADVISE: Next = Next::new(c"madvise");

pub fn start() {
    find([&MLOCK, &MLOCK2, &MLOCKALL, &MADVISE]);
}

/// Locks the range by `call`. That does not lock opted-in mappings: if there are any, opts them out
/// and calls `call` again.
fn lock(range: Range<usize>, call: impl Fn() -> c_int) -> c_int {
    let result = call();
    // SAFETY: From here on the program gets the file's pages or SIGBUS, as it does without this
    // library.
    if result == 0 && !lost::has_none() && unsafe { cover::opt_out(range) } {
        notice::locked();
        return call();
    }
    result
}

/// Returns the pages that contain a byte of `len` bytes at `addr`.
fn pages_of(addr: usize, len: usize) -> Range<usize> {
    let start = addr & !(page_size() - 1);
    pages(start, len.saturating_add(addr - start))
}

/// # Safety
///
/// That of mlock(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlock(addr: *const c_void, len: size_t) -> c_int {
    let next = next!(MLOCK: *const c_void, size_t);
    // SAFETY: The caller's.
    lock(pages_of(addr as usize, len), || unsafe { next(addr, len) })
}

/// # Safety
///
/// That of mlock2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlock2(addr: *const c_void, len: size_t, flags: c_uint) -> c_int {
    let next = next!(MLOCK2: *const c_void, size_t, c_uint);
    // SAFETY: The caller's.
    lock(pages_of(addr as usize, len), || unsafe {
        next(addr, len, flags)
    })
}

/// # Safety
///
/// That of mlockall(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlockall(flags: c_int) -> c_int {
    let next = next!(MLOCKALL: c_int);
    // SAFETY: The caller's.
    let call = || unsafe { next(flags) };
    if flags & MCL_CURRENT != 0 {
        lock(0..usize::MAX, call)
    } else {
        call()
    }
}

/// # Safety
///
/// That of madvise(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn madvise(addr: *mut c_void, len: size_t, advice: c_int) -> c_int {
    let next = next!(MADVISE: *mut c_void, size_t, c_int);
    // SAFETY: This thread's own.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    // SAFETY: The caller's.
    let call = || unsafe { next(addr, len, advice) };
    let mut result = call();
    let is_refused =
        result != 0 && *errno == EINVAL && [MADV_DODUMP, MADV_DOFORK].contains(&advice);
    // SAFETY: As for `lock`.
    if is_refused && !lost::has_none() && unsafe { cover::opt_out(pages_of(addr as usize, len)) } {
        notice::locked();
        result = call();
    }
    if result == 0 {
        *errno = before;
    }
    result
}
