// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file descriptor of the device. It stays open, so that /proc/PID/fdinfo lists the mappings
//! that were opted in through it. But the program may close it, and another file may get its
//! number.

use crate::{event, kernel::close};
use nosigbus::uapi;
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd},
    fs::{FileType, Mode, OFlags, fstat, open},
    io::fcntl_dupfd_cloexec,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The lowest file descriptors to use for duplicates. They are above the numbers that programs
/// expect for their own files, and below FD_SETSIZE and most limits. The second is for low limits.
const LOWEST_FDS: [i32; 2] = [400, 40];

/// The file descriptor in the lower 32 bits, and a counter of reopenings in the upper ones. A
/// thread that finds the descriptor closed compares both. So it does not replace a new descriptor
/// of another thread that has the same number.
static FD: AtomicU64 = AtomicU64::new(u32::MAX as u64);

/// The device number from fstat; 0 if the device was never open.
static DEVICE_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Duplicates a file descriptor to a number that programs rarely use.
pub fn duplicate(fd: impl AsFd) -> Option<OwnedFd> {
    let mut lowest = LOWEST_FDS.iter();
    lowest.find_map(|&lowest| fcntl_dupfd_cloexec(&fd, lowest).ok())
}

/// Returns the device number of a character device.
fn device_number(fd: impl AsFd) -> Option<u64> {
    let stat = fstat(fd).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice).then_some(stat.st_rdev)
}

/// # Safety
///
/// `value` must be a value of `FD`. The result may be used only until the next system call that may
/// close the descriptor.
unsafe fn borrow(value: u64) -> Option<BorrowedFd<'static>> {
    let fd = value as u32 as i32;
    // SAFETY: Not -1; the rest is the caller's.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Returns the open device, or opens it again.
pub fn get() -> Option<BorrowedFd<'static>> {
    let seen = FD.load(Relaxed);
    let is_device = |fd: &BorrowedFd<'_>| {
        device_number(fd).is_some_and(|number| number == DEVICE_NUMBER.load(Relaxed))
    };
    // SAFETY: Used at once. Another thread of the program may close this descriptor at this moment,
    // although the program has not opened it. Another file that gets its number does not know these
    // ioctls.
    if let Some(fd) = unsafe { borrow(seen) }.filter(is_device) {
        return Some(fd);
    }

    if DEVICE_NUMBER.load(Relaxed) != 0 {
        // The program has closed the descriptor, and may have another file at its number.
        event::is_lost();
    }
    let fd = open(uapi::DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let Some(number) = device_number(&fd) else {
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
    DEVICE_NUMBER.store(number, Relaxed);
    let new = (((seen >> 32) + 1) << 32) | fd.as_raw_fd() as u64;
    let now = match FD.compare_exchange(seen, new, Relaxed, Relaxed) {
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
