// SPDX-License-Identifier: MIT OR Apache-2.0

//! The eventfd that every mapping signals at its first stand-in. It tells at little cost whether there
//! was any, and is never read: processes that were forked have it in common.

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

/// Not a file descriptor: there was none to be had, or the program has closed it.
const LOST: i32 = -1;

static EVENT: AtomicI32 = AtomicI32::new(LOST);
/// What the kernel calls it.
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
        Some((id, _)) => {
            ID.store(id, Relaxed);
            EVENT.store(number, Release);
        }
        // SAFETY: Made above.
        None => unsafe { rustix::io::close(number) },
    }
}

/// For NOSIGBUS_ENABLE.
pub fn get() -> Option<i32> {
    Some(EVENT.load(Acquire)).filter(|&fd| fd != LOST)
}

/// There are mappings that do not signal it.
pub fn is_lost() {
    EVENT.store(LOST, Relaxed);
}

/// How many mappings have signalled it, in this process and those that have it as well; more than
/// that, if some have been asked for their status since. `None`: nobody knows.
///
/// It takes `sure` to find out that there is another file at the number, in which nothing happens.
pub fn count(sure: bool) -> Option<u64> {
    let number = get()?;
    // SAFETY: Used at once, and only by the kernel. If the program has another file there, nothing
    // happens to it.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).ok()?;
    let events = fds.first()?.revents();
    if events.is_empty() && !sure {
        return Some(0);
    }
    match fdinfo(number) {
        Some((id, count)) if id == ID.load(Relaxed) => Some(count),
        _ => {
            is_lost();
            None
        }
    }
}

/// What /proc says of the eventfd: its id, and its count.
fn fdinfo(number: i32) -> Option<(u64, u64)> {
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
        // In hexadecimal, with spaces before it.
        if let Some(value) = line.strip_prefix(b"eventfd-count:") {
            count = number_in(value, 16);
        } else if let Some(value) = line.strip_prefix(b"eventfd-id:") {
            id = number_in(value, 10);
        }
    }
    Some((id?, count?))
}

fn number_in(value: &[u8], base: u32) -> Option<u64> {
    number(value.trim_ascii(), base)
}
