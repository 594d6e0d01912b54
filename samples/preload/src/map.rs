// SPDX-License-Identifier: GPL-2.0-only

//! mmap of files, which are opted in.

use crate::{
    device,
    kernel::{Mmap, Mremap, Result, enable, munmap, pages},
    options, stats,
};
use libc::{MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MREMAP_FIXED, MREMAP_MAYMOVE};
use rustix::{
    fd::BorrowedFd,
    fs::{FileType, fstat},
};
use std::ops::Range;

/// mmap.
///
/// # Safety
///
/// That of mmap.
pub unsafe fn mmap(args: Mmap) -> Result {
    let of_file = args.flags & MAP_ANONYMOUS == 0;
    let replaces = args.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) == MAP_FIXED;
    // SAFETY: The caller's.
    let call = || unsafe { args.call() };
    if !replaces {
        let result = call();
        match result {
            Ok(addr) if of_file => {
                opt_in(&pages(addr, args.len));
            }
            _ => {}
        }
        return result;
    }

    let range = pages(args.addr, args.len);
    stats::unmapping(&range, || {
        // SAFETY: The caller's.
        if of_file && unsafe { replace(&args) }.is_some() {
            return Ok(args.addr);
        }
        let result = call();
        if of_file && result.is_ok() {
            opt_in(&range);
        }
        result
    })
}

/// Does what mmap with MAP_FIXED does, with a mapping that is opted in by the time that it is there:
/// other threads may access at any time what it replaces. `None`, and nothing has changed, if that
/// fails, for whatever cause.
///
/// # Safety
///
/// That of mmap.
unsafe fn replace(args: &Mmap) -> Option<()> {
    // What a device does when it is mapped twice is its own affair.
    if !is_regular(args.fd) {
        return None;
    }
    let elsewhere = Mmap {
        addr: 0,
        flags: args.flags & !MAP_FIXED,
        ..*args
    };
    // SAFETY: A new mapping, where the kernel chooses.
    let made = unsafe { elsewhere.call() }.ok()?;
    let range = pages(made, args.len);
    let to_its_place = Mremap {
        old: made,
        old_len: range.len(),
        len: range.len(),
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        addr: args.addr,
    };
    // SAFETY: To where the caller has it replace what is there.
    if opt_in(&range) && unsafe { to_its_place.call() }.is_ok() {
        return Some(());
    }
    // SAFETY: Made above, and nobody else knows of it.
    let _ = unsafe { munmap(made, range.len()) };
    None
}

fn is_regular(fd: i32) -> bool {
    // SAFETY: Used at once, and only by the kernel. -1 alone is not allowed.
    let stat = (fd >= 0).then(|| fstat(unsafe { BorrowedFd::borrow_raw(fd) }));
    matches!(stat, Some(Ok(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn opt_in(range: &Range<usize>) -> bool {
    let done =
        device::get().is_some_and(|device| enable(device, range, options::enable_flags()).is_ok());
    if done {
        stats::opted_in();
    }
    done
}
