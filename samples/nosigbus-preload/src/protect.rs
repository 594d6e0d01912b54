// SPDX-License-Identifier: MIT OR Apache-2.0

//! mprotect of opted-in mappings. One that is shared and was not writable when it opted in cannot be
//! made writable: EACCES. It has to be exchanged for one that opts in when it is writable.

use crate::{
    cover, device, handlers,
    kernel::{Mremap, NOSIGBUS_EVENTFD, Result, disable, munmap, page_size, pages, status},
    lock::Lock,
    lost, options,
    vmas::Vmas,
};
use libc::{EACCES, ENOMEM, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_WRITE};
use std::ops::Range;

static LOCK: Lock = Lock::new();

/// mprotect or pkey_mprotect, which `call` is, of an address and a length.
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
    // Parts of opted-in mappings stay parts, and there can be too many.
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
    // One VMA after the other, up to the first that fails, as the kernel does it.
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

/// Whether a range is in one opted-in VMA, where there is no /proc to tell.
fn is_in_one(range: &Range<usize>) -> bool {
    let grow = Mremap {
        old: range.start,
        old_len: range.len(),
        len: range.len() + page_size(),
        flags: 0,
        addr: 0,
    };
    // Such a VMA does not grow where it is: ENOMEM. What is beyond its end has another errno first.
    // SAFETY: Does nothing, if it is opted in.
    let does_not_grow = || unsafe { grow.call() } == Err(ENOMEM);
    let is_opted_in = || status(device::get()?, range.start).ok();
    is_opted_in().is_some() && does_not_grow()
}

/// Exchanges a VMA, or part of one, for a copy that is writable, at one blow: whatever other threads
/// do there, they find the one or the other, and no SIGBUS. `None`, and nothing has changed, if it
/// is not an opted-in mapping of this library, or its file may not be written to.
///
/// # Safety
///
/// That of mprotect.
unsafe fn exchange(part: &Range<usize>, call: impl Fn(usize, usize) -> Result) -> Option<()> {
    // One at a time: a second copy would not have what was written to the first. Who has had to wait
    // may find it done.
    let held = LOCK.get();
    if held.is_some() && call(part.start, part.len()).is_ok() {
        return Some(());
    }
    let device = device::get()?;
    let status = status(device, part.start).ok()?;
    // This library has one for all its mappings, or none.
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
        // SAFETY: Nobody knows of the copy. Nothing is lost with its stand-ins, which are zeros.
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
        // What cannot be opted in, because it is locked by now, is left plain.
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
