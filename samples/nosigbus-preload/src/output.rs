// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes messages to the user: to the program's stderr, or to the file that `--log` names.

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

/// The file descriptor of the output, and its device and inode from fstat. The program may close
/// the descriptor, and another file may then get the same number.
static OUTPUT: AtomicI32 = AtomicI32::new(STDERR);
static OUTPUT_FILE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

fn file_of(fd: impl AsFd) -> Option<[u64; 2]> {
    let stat = fstat(fd).ok()?;
    Some([stat.st_dev, stat.st_ino])
}

/// Opens or duplicates a file descriptor for the output that belongs to this library.
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
    // Many programs close their stderr before they exit. A duplicate keeps it open, so a process
    // that waits for the end of stderr would wait longer. So it is duplicated only for `--stats`.
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
    // The program may have closed the duplicate, but not stderr.
    Some(fd(STDERR)).filter(|fd| options::log().is_none() && is_it(fd))
}

/// Writes one line with a single system call: `path`, which is empty if the line is not about a
/// file, and the text. May run in a signal handler, on a small stack.
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
    // The program's name and the path can contain any bytes, so both are escaped.
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
    // Offset -1 writes at the current position. RWF_NOSIGNAL prevents SIGPIPE, which would kill the
    // program if the pipe has no reader. A file that supports no flags is not a pipe or socket.
    if pwritev2(output, &parts, u64::MAX, NO_SIGNAL) == Err(Errno::OPNOTSUPP) {
        let _ = writev(output, &parts);
    }
}
