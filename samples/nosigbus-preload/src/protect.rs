// SPDX-License-Identifier: MIT OR Apache-2.0

//! mprotect of opted-in mappings. A shared mapping that was not writable when it was opted in
//! cannot be made writable: the kernel returns EACCES. So this module exchanges it for a copy, and
//! opts the copy in after making it writable.

use crate::{
    cover, device, handlers,
    kernel::{Mremap, Result, disable, munmap, page_size, pages, status},
    lock::Lock,
    lost, options,
    vmas::Vmas,
};
use libc::{EACCES, ENOMEM, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_WRITE};
use nosigbus::uapi::NOSIGBUS_EVENTFD;
use std::ops::Range;

static LOCK: Lock = Lock::new();

/// Changes the protection of a range. `call` is mprotect or pkey_mprotect with an address and a
/// length.
///
/// # Safety
///
/// That of mprotect.
pub unsafe fn mprotect(
    addr: usize,
    len: usize,
    prot: i32,
    call: impl Fn(usize, usize) -> Result,
) -> Result {
    let result = call(addr, len);
    // The kernel does not merge parts of opted-in mappings again, so there can be too many.
    // SAFETY: A program that has no memory for its mappings does not live long.
    if result == Err(ENOMEM) && !lost::has_none() && unsafe { cover::merge(&pages(addr, len)) } {
        return call(addr, len);
    }
    if result != Err(EACCES) || prot & PROT_WRITE == 0 {
        return result;
    }
    let mut rest = pages(addr, len);
    let Some(vmas) = Vmas::open() else {
        // SAFETY: The caller's.
        let done = is_in_one(&rest) && unsafe { exchange(&rest, &call) }.is_some();
        return if done { Ok(0) } else { result };
    };
    // Handles one VMA after the other, and stops at the first that fails, as the kernel does.
    while !rest.is_empty() {
        let Some(vma) = vmas.at(rest.start) else {
            // A hole, which the kernel has an errno for.
            return call(rest.start, rest.len());
        };
        let part = rest.start..rest.end.min(vma.range.end);
        match call(part.start, part.len()) {
            // SAFETY: The caller's.
            Err(EACCES) if unsafe { exchange(&part, &call) }.is_some() => {}
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        rest.start = part.end;
    }
    Ok(0)
}

/// Returns whether a range is inside one opted-in VMA. It does not need /proc.
fn is_in_one(range: &Range<usize>) -> bool {
    let grow = Mremap {
        old: range.start,
        old_len: range.len(),
        len: range.len() + page_size(),
        flags: 0,
        addr: 0,
    };
    // An opted-in VMA does not grow in place: ENOMEM. If the range goes beyond the end of the VMA,
    // mremap returns another errno before that.
    // SAFETY: Does nothing, if it is opted in.
    let does_not_grow = || unsafe { grow.call() } == Err(ENOMEM);
    let is_opted_in = || status(device::get()?, range.start).ok();
    is_opted_in().is_some() && does_not_grow()
}

/// Exchanges a VMA, or part of one, for a writable copy, in one step. Other threads see either the
/// old or the new VMA, and never get SIGBUS. Returns `None` if the mapping was not opted in by this
/// library, or its file may not be written to. Then nothing has changed.
///
/// # Safety
///
/// That of mprotect.
unsafe fn exchange(part: &Range<usize>, call: impl Fn(usize, usize) -> Result) -> Option<()> {
    // Only one thread at a time: a second copy would not have the data written to the first. After
    // waiting for the lock, another thread may have done the exchange already.
    let held = LOCK.get();
    if held.is_some() && call(part.start, part.len()).is_ok() {
        return Some(());
    }
    let device = device::get()?;
    let status = status(device, part.start).ok()?;
    // This library sets an eventfd only if `options::watches()`.
    if status.flags & NOSIGBUS_EVENTFD != 0 && !options::watches() {
        return None;
    }
    let duplicate = Mremap {
        old: part.start,
        old_len: 0,
        len: part.len(),
        flags: MREMAP_MAYMOVE,
        addr: 0,
    };
    // SAFETY: A second mapping of the same pages, where the kernel chooses. A private one is
    // refused, and needs none.
    let copy = unsafe { duplicate.call() }.ok()?;
    let range = copy..copy + part.len();
    let writable = || {
        // SAFETY: No other code knows the copy. Its stand-ins are zeros, so dropping them loses no
        // data.
        unsafe { disable(device, &range) }.ok()?;
        call(copy, part.len()).ok()?;
        // SAFETY: The copy goes where the program has this very mapping.
        let replace = Mremap {
            old: copy,
            old_len: part.len(),
            len: part.len(),
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            addr: part.start,
        };
        // If the copy cannot be opted in, because it is locked by now, it stays a plain mapping.
        if !options::shared_read_only() && !handlers::have_all() {
            let _ = cover::opt_in_again(&range);
        }
        // SAFETY: As above.
        lost::unmapping(part, || unsafe { replace.call() }).ok()
    };
    let done = writable();
    if done.is_none() {
        // SAFETY: Made above, and nobody else knows of it.
        let _ = unsafe { munmap(copy, part.len()) };
    }
    done.map(|_| ())
}
