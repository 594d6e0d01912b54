// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the program's user is told something: its stderr, or what `--log` names.

use crate::{
    device,
    kernel::{close, pid},
    options,
    text::{self, Text},
};
use rustix::{
    fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd},
    fs::{Mode, OFlags, fstat, open},
    io::{Errno, ReadWriteFlags, pwritev2, writev},
};
use std::{
    ffi::{CStr, c_char},
    fmt::{self, Write},
    io::IoSlice,
    sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
};

const STDERR: i32 = 2;
/// RWF_NOSIGNAL.
const NO_SIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
}

/// Its file descriptor, and what fstat says of that: the program may close it, and have another file
/// at its number.
static OUTPUT: AtomicI32 = AtomicI32::new(STDERR);
static OUTPUT_FILE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

fn file_of(fd: impl AsFd) -> Option<[u64; 2]> {
    let stat = fstat(fd).ok()?;
    Some([stat.st_dev, stat.st_ino])
}

/// A file descriptor of this library that goes to where the program's user is told.
fn own() -> Option<OwnedFd> {
    if let Some(path) = options::log() {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let log = open(path, flags | OFlags::NOCTTY, Mode::from_raw_mode(0o666)).ok()?;
        let high = device::duplicate(&log);
        if high.is_some() {
            close(log);
            return high;
        }
        return Some(log);
    }
    // Many programs close their stderr before they are at their end. But who waits for them to close
    // it is not to wait for longer, unless it is wanted.
    // SAFETY: Used at once, and only by the kernel.
    let stderr = unsafe { BorrowedFd::borrow_raw(STDERR) };
    options::stats().then(|| device::duplicate(stderr))?
}

pub fn start() {
    if !options::watches() {
        return;
    }
    let fd = own().map_or(STDERR, IntoRawFd::into_raw_fd);
    // SAFETY: Used at once, and only by the kernel.
    let Some(file) = file_of(unsafe { BorrowedFd::borrow_raw(fd) }) else {
        return;
    };
    for (to, from) in OUTPUT_FILE.iter().zip(file) {
        to.store(from, Relaxed);
    }
    OUTPUT.store(fd, Relaxed);
}

fn current() -> Option<BorrowedFd<'static>> {
    let is_it = |fd: &BorrowedFd<'_>| {
        file_of(fd) == Some(OUTPUT_FILE.each_ref().map(|part| part.load(Relaxed)))
    };
    // SAFETY: Used at once, and only by the kernel.
    let fd = |number| unsafe { BorrowedFd::borrow_raw(number) };
    let output = fd(OUTPUT.load(Relaxed));
    if is_it(&output) {
        return Some(output);
    }
    // The duplicate may have been closed where stderr was not.
    Some(fd(STDERR)).filter(|fd| options::log().is_none() && is_it(fd))
}

/// Says a line, in one piece: the path of a file, if it is about one, and the text. It may be in a
/// signal handler, on a small stack.
pub fn say(path: &[u8], line: impl FnOnce(&mut Text<384>) -> fmt::Result) {
    let Some(output) = current() else {
        return;
    };
    // SAFETY: Set by libc before anything else, to a string.
    let name = unsafe { CStr::from_ptr(program_invocation_short_name) };
    let mut start = Text::<32>::new();
    let _ = write!(start, "nosigbus: {} (", pid());
    let mut said = Text::new();
    let _ = line(&mut said);
    // Both are whatever somebody wants them to be.
    let (mut own, mut escaped) = (Text::<64>::new(), Text::<512>::new());
    text::escape(name.to_bytes(), &mut own);
    let path = if text::is_plain(path) {
        path
    } else {
        text::escape(path, &mut escaped);
        escaped.bytes()
    };
    let parts = [
        start.bytes(),
        own.bytes(),
        b"): ",
        path,
        said.bytes(),
        b"\n",
    ];
    let parts = parts.map(IoSlice::new);
    // At the current position, and without SIGPIPE, which would be the program's death where nobody
    // reads. What knows no flags is no pipe or socket.
    if pwritev2(output, &parts, u64::MAX, NO_SIGNAL) == Err(Errno::OPNOTSUPP) {
        let _ = writev(output, &parts);
    }
}
