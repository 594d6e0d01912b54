// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file descriptor of the device. It stays open, for /proc/PID/fdinfo to list what was opted in
//! through it, but the program may close it, or have another file take its number.

use crate::{event, kernel::close};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd},
    fs::{FileType, Mode, OFlags, fstat, open},
    io::fcntl_dupfd_cloexec,
};
use std::{
    ffi::CStr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

const PATH: &CStr = c"/dev/nosigbus";

/// Out of the way of programs that expect a certain number, below FD_SETSIZE and most limits. The
/// second is for low limits.
const NUMBERS: [i32; 2] = [400, 40];

/// The file descriptor, and above it how many have been before it, so that a thread that has found
/// it closed does not replace another thread's new one that has the same number.
static DEVICE: AtomicU64 = AtomicU64::new(u32::MAX as u64);

/// What fstat says of the device; 0 if it was never open.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Duplicates a file descriptor to where it is out of the program's way.
pub fn duplicate(fd: impl AsFd) -> Option<OwnedFd> {
    let mut numbers = NUMBERS.iter();
    numbers.find_map(|&number| fcntl_dupfd_cloexec(&fd, number).ok())
}

/// The number of the device, if `fd` is one.
fn number_of(fd: impl AsFd) -> Option<u64> {
    let stat = fstat(fd).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice).then_some(stat.st_rdev)
}

/// # Safety
///
/// Not beyond the next system call that may close it.
unsafe fn borrow(device: u64) -> Option<BorrowedFd<'static>> {
    let fd = device as u32 as i32;
    // SAFETY: Not -1; the rest is the caller's.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// The device: the one that is open, or opened anew.
pub fn get() -> Option<BorrowedFd<'static>> {
    let seen = DEVICE.load(Relaxed);
    let is_device =
        |fd: &BorrowedFd<'_>| number_of(fd).is_some_and(|number| number == NUMBER.load(Relaxed));
    // SAFETY: Used at once. A program that closes what it has not opened, in another thread at this
    // very moment, makes this the file that takes its number, which knows no such ioctl.
    if let Some(fd) = unsafe { borrow(seen) }.filter(is_device) {
        return Some(fd);
    }

    if NUMBER.load(Relaxed) != 0 {
        // The program closes what it has not opened, or has another file there.
        event::is_lost();
    }
    let fd = open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let Some(number) = number_of(&fd) else {
        close(fd);
        return None;
    };
    let fd = match duplicate(&fd) {
        Some(high) => {
            close(fd);
            high
        }
        None => fd,
    };
    NUMBER.store(number, Relaxed);
    let new = (((seen >> 32) + 1) << 32) | fd.as_raw_fd() as u64;
    let now = match DEVICE.compare_exchange(seen, new, Relaxed, Relaxed) {
        Ok(_) => {
            // It stays open.
            let _ = fd.into_raw_fd();
            new
        }
        Err(others) => {
            close(fd);
            others
        }
    };
    // SAFETY: As above.
    unsafe { borrow(now) }
}
