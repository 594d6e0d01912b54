// SPDX-License-Identifier: MIT OR Apache-2.0

//! mmap that opts in mappings of files.

use crate::{
    cover::{TOO_MANY, is_wanted, make_room, opt_in, opt_in_again},
    kernel::{Mmap, Mremap, Result, munmap, page_size, pages},
    lost, notice,
    vmas::Vmas,
};
use libc::{
    EINVAL, ENOMEM, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MREMAP_FIXED, MREMAP_MAYMOVE,
};
use nosigbus::{file::Kind, guards::Guards};
use rustix::fd::BorrowedFd;
use std::ops::Range;

/// mmap.
///
/// # Safety
///
/// That of mmap.
pub unsafe fn mmap(args: Mmap) -> Result {
    let of_file = args.flags & MAP_ANONYMOUS == 0 && is_wanted(args.prot, args.flags);
    if of_file {
        notice::look();
    }
    let replaces = args.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) == MAP_FIXED;
    let call = || {
        // SAFETY: The caller's.
        let call = || unsafe { args.call() };
        match call() {
            Err(ENOMEM) if make_room() => call(),
            result => result,
        }
    };
    if !replaces {
        let result = call();
        match result {
            Ok(addr) if of_file => {
                let range = pages(addr, args.len);
                if opt_in_there(&range) == Err(EINVAL) && is_ordinary(args.fd) {
                    // SAFETY: In exchange for what was made just now.
                    return unsafe { exchange_for_opted_in(&args, &range) };
                }
            }
            _ => {}
        }
        return result;
    }

    let range = pages(args.addr, args.len);
    lost::unmapping(&range, || {
        // SAFETY: The caller's.
        if of_file && unsafe { replace(&args) }.is_some() {
            return Ok(args.addr);
        }
        let result = call();
        if of_file && result.is_ok() {
            let _ = opt_in_there(&range);
        }
        result
    })
}

/// Opts in a new mapping that is where it stays.
///
/// If there are too many mappings, one that continues another stays plain, because the kernel may
/// merge the two. Any other takes a VMA of its own, opted in or not, as long as no mapping continues
/// it ([`make_room`]). It must not stay plain: a client could create many mappings in a server, and
/// kill it by the next one. If /proc does not tell of its neighbours, it is opted in.
fn opt_in_there(range: &Range<usize>) -> Result<()> {
    match opt_in(range) {
        Err(TOO_MANY) if Vmas::open().is_some_and(|vmas| vmas.continues(range)) => {
            notice::too_many();
            Err(TOO_MANY)
        }
        Err(TOO_MANY) => opt_in_again(range).inspect(|()| lost::opted_in()),
        result => result,
    }
}

/// Exchanges a new mapping for one that is opted in. The kernel has merged the new mapping with a
/// neighbour that another thread is about to opt in.
///
/// # Safety
///
/// That of mmap. No other code may use the range.
unsafe fn exchange_for_opted_in(args: &Mmap, range: &Range<usize>) -> Result {
    // SAFETY: The caller's.
    let Some(made) = (unsafe { Made::with_guards(args) }) else {
        return Ok(range.start);
    };
    // SAFETY: The caller's.
    if unsafe { made.move_to(range.start) }.is_err() {
        // Either the first mapping is still there, or mremap unmapped it before it failed. In the
        // second case, map it again.
        let again = Mmap {
            addr: range.start,
            flags: args.flags | MAP_FIXED_NOREPLACE,
            ..*args
        };
        // SAFETY: Replaces nothing.
        let _ = unsafe { again.call() };
    }
    Ok(range.start)
}

/// Does what mmap with MAP_FIXED does, with a mapping that is opted in before it is moved to its
/// address: other threads may access the replaced range at any time. Returns `None` if it fails,
/// for any reason.
///
/// After a failure nothing has changed, except in one case: mremap has unmapped the old mapping and
/// then run out of memory. After every failure the caller uses plain MAP_FIXED. In that one case it
/// can replace a mapping that another thread has created there meanwhile. The kernel offers no way
/// to detect that.
///
/// # Safety
///
/// That of mmap.
unsafe fn replace(args: &Mmap) -> Option<()> {
    // Mapping a device a second time can have side effects.
    if !is_ordinary(args.fd) {
        return None;
    }
    // SAFETY: The caller's.
    let made = unsafe { Made::anywhere(args) }?;
    // SAFETY: The caller asks to replace the mapping at that address.
    unsafe { made.move_to(args.addr) }.ok().map(|_| ())
}

/// A new opted-in mapping that no other code has a pointer to.
struct Made {
    range: Range<usize>,
    /// Dropping it unmaps the guard pages, if there are any.
    _guards: Option<Guards>,
}

impl Made {
    /// Where the kernel chooses.
    ///
    /// # Safety
    ///
    /// That of mmap.
    unsafe fn anywhere(args: &Mmap) -> Option<Self> {
        let elsewhere = Mmap {
            addr: 0,
            flags: args.flags & !MAP_FIXED,
            ..*args
        };
        // SAFETY: A new mapping.
        let range = pages(unsafe { elsewhere.call() }.ok()?, args.len);
        let opted_in = opt_in(&range);
        let made = Self {
            range,
            _guards: None,
        };
        match opted_in {
            Ok(()) => return Some(made),
            // SAFETY: Nobody knows of it.
            Err(_) => unsafe { made.unmap() },
        }
        // SAFETY: The caller's.
        (opted_in == Err(EINVAL)).then(|| unsafe { Self::with_guards(args) })?
    }

    /// Creates it between guard pages, so that the kernel cannot merge it.
    ///
    /// # Safety
    ///
    /// That of mmap.
    unsafe fn with_guards(args: &Mmap) -> Option<Self> {
        let len = pages(0, args.len).len();
        let guards = Guards::around(len, page_size()).ok()?;
        let start = guards.place() as usize;
        let made = Self {
            range: start..start + len,
            _guards: Some(guards),
        };
        let inside = Mmap {
            addr: start,
            flags: args.flags & !MAP_FIXED_NOREPLACE | MAP_FIXED,
            ..*args
        };
        // SAFETY: The place is reserved for it, and no other code knows it.
        unsafe { inside.call() }.ok()?; // Otherwise drops the guards, but leaves the place alone.
        if opt_in(&made.range).is_err() {
            // SAFETY: Nobody knows of it.
            unsafe { made.unmap() };
            return None;
        }
        Some(made)
    }

    /// Moves it to an address, and replaces the mapping there.
    ///
    /// # Safety
    ///
    /// That of mremap.
    unsafe fn move_to(self, addr: usize) -> Result {
        let to_its_place = Mremap {
            old: self.range.start,
            old_len: self.range.len(),
            len: self.range.len(),
            flags: MREMAP_MAYMOVE | MREMAP_FIXED,
            addr,
        };
        // SAFETY: The caller's.
        let result = unsafe { to_its_place.call() };
        // After the move, the old place may belong to another thread, so it is not unmapped.
        if result.is_err() {
            // SAFETY: No other code knows the mapping.
            unsafe { self.unmap() };
        }
        result
    }

    /// # Safety
    ///
    /// It is still where it was made.
    unsafe fn unmap(self) {
        // SAFETY: The caller's.
        let _ = unsafe { munmap(self.range.start, self.range.len()) };
    }
}

/// Returns whether a file is an ordinary file, which can be mapped a second time.
fn is_ordinary(fd: i32) -> bool {
    if fd < 0 {
        return false;
    }
    // SAFETY: Used at once, and only by the kernel. -1 alone is not allowed.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    Kind::of(fd) == Ok(Kind::Ordinary)
}
