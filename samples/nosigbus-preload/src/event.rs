// SPDX-License-Identifier: MIT OR Apache-2.0

//! The eventfd that every mapping signals at its first stand-in. Polling it is a cheap way to find
//! out whether there were any stand-ins. It is never read, because forked processes share it.

use crate::{
    device,
    kernel::{self, close},
    options,
    text::{Text, number},
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fd::{BorrowedFd, IntoRawFd},
    fs::{Mode, OFlags, open},
    io::read,
};
use std::{
    ffi::CStr,
    fmt::Write,
    sync::atomic::{
        AtomicI32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// Stands for no file descriptor: creating the eventfd failed, or the program has closed it.
const LOST: i32 = -1;

static EVENT: AtomicI32 = AtomicI32::new(LOST);
/// The eventfd's id in fdinfo.
static ID: AtomicU64 = AtomicU64::new(0);

pub fn start() {
    if !options::watches() {
        return;
    }
    let Ok(fd) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else {
        return;
    };
    let fd = match device::duplicate(&fd) {
        Some(high) => {
            close(fd);
            high
        }
        None => fd,
    };
    let number = fd.into_raw_fd();
    match fdinfo(number) {
        Some((Some(id), _)) => {
            ID.store(id, Relaxed);
            EVENT.store(number, Release);
        }
        // SAFETY: Made above.
        _ => unsafe { rustix::io::close(number) },
    }
}

/// For NOSIGBUS_ENABLE.
pub fn get() -> Option<i32> {
    Some(EVENT.load(Acquire)).filter(|&fd| fd != LOST)
}

/// Gives the eventfd up, because not all mappings signal it.
pub fn is_lost() {
    EVENT.store(LOST, Relaxed);
}

/// Returns how often mappings have signalled it, in this process and in the forked processes that
/// share it. A mapping signals at its first stand-in, and at the first one after each status query.
/// Returns `None` if the count is not known.
///
/// The program may have closed the eventfd, and another file may have its number. If that file is
/// not readable, only `sure` detects it.
pub fn count(sure: bool) -> Option<u64> {
    let number = get()?;
    // SAFETY: Used at once, and only by the kernel. If the program has another file at this number,
    // polling does not change it.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).ok()?;
    let events = fds.first()?.revents();
    if events.contains(PollFlags::NVAL) {
        is_lost();
        return None;
    }
    if events.is_empty() && !sure {
        return Some(0);
    }
    // If it cannot be read now, because the program has too many files open, it can be later.
    let (id, count) = fdinfo(number)?;
    if id != Some(ID.load(Relaxed)) {
        is_lost();
        return None;
    }
    count
}

/// What /proc says of a file descriptor: its id and its count, if it is an eventfd. Returns `None` if
/// /proc cannot be read.
fn fdinfo(number: i32) -> Option<(Option<u64>, Option<u64>)> {
    let mut path = Text::<64>::new();
    write!(path, "/proc/thread-self/fdinfo/{number}\0").ok()?;
    let path = CStr::from_bytes_with_nul(path.bytes()).ok()?;
    let info = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0; 512];
    let len = read(&info, &mut buffer);
    kernel::close(info);
    let lines = buffer.get(..len.ok()?)?.split(|&byte| byte == b'\n');
    let (mut id, mut count) = (None, None);
    for line in lines {
        // The count is hexadecimal, with spaces before it.
        if let Some(value) = line.strip_prefix(b"eventfd-count:") {
            count = number_in(value, 16);
        } else if let Some(value) = line.strip_prefix(b"eventfd-id:") {
            id = number_in(value, 10);
        }
    }
    Some((id, count))
}

fn number_in(value: &[u8], base: u32) -> Option<u64> {
    number(value.trim_ascii(), base)
}
