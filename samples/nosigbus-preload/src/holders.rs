// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds the other processes that have a file open or mapped: one of them may have cut it off. The
//! kernel does not tell which process cut a file off, or which one created a file that came through
//! a socket.
//!
//! Other processes choose how many files they open, and on which file systems. They can also lock
//! their memory map for as long as they like. So a child process searches, which is killed after a
//! limit (`child.rs`).

use crate::{
    child,
    fdinfo::FileId,
    kernel::{close, pid},
    text::{self, Text, number},
    vmas::Vmas,
};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd},
    fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags, open, statx},
    io::read,
};
use std::{
    array,
    ffi::CStr,
    fmt::{self, Write},
    mem::MaybeUninit,
    sync::atomic::{
        AtomicI32, AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// For how many files to search at most. Without a limit a client could cause one search after the
/// other.
const FILES: u32 = 16;
/// How many processes are named at most.
const PROCESSES: usize = 3;

/// Stands for no file descriptor.
const CLOSED: i32 = -1;

/// What the child works on. It may be killed at any moment.
struct Search {
    file: FileId,
    /// The process whose child searches.
    own: u32,
    found: [Holder; PROCESSES],
    /// The directory /proc, and one other file of it.
    opened: [Opened; 2],
}

/// A process that has the file.
struct Holder {
    /// Set last; 0 before that.
    pid: AtomicU32,
    name: [u8; 64],
    len: usize,
}

/// A file descriptor that the child has open. If the child is killed, its parent closes it.
struct Opened(AtomicI32);

impl Opened {
    /// Opens a file for the time of a call. The path ends with a zero.
    fn with<R>(&self, path: fmt::Arguments<'_>, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        let mut text = Text::<40>::new();
        text.write_fmt(path).ok()?;
        let path = CStr::from_bytes_with_nul(text.bytes()).ok()?;
        let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        self.0.store(fd.as_raw_fd(), Relaxed);
        let result = f(fd.as_fd());
        self.0.store(CLOSED, Relaxed);
        close(fd);
        Some(result)
    }
}

/// Calls `f` with each name in a directory that is a number, until `f` returns `true`. Returns
/// whether it has.
fn any_number(directory: BorrowedFd<'_>, mut f: impl FnMut(u32) -> bool) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 256];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let number = number(entry.file_name().to_bytes(), 10);
        if number.is_some_and(|number| f(number as u32)) {
            return true;
        }
    }
    false
}

/// Whether a process has the file open at this file descriptor, which is in this directory.
fn is_at(directory: BorrowedFd<'_>, fd: u32, file: FileId) -> bool {
    let mut name = Text::<16>::new();
    let _ = write!(name, "{fd}\0");
    let Ok(name) = CStr::from_bytes_with_nul(name.bytes()) else {
        return false;
    };
    // The mask is empty, and STATX_DONT_SYNC keeps statx from asking a server. fdinfo would wait for
    // locks that not even a signal ends.
    let flags = AtFlags::STATX_DONT_SYNC;
    statx(directory, name, flags, StatxFlags::empty())
        .is_ok_and(|stat| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino) == file)
}

/// Searches in a child process.
fn search(search: &mut Search) {
    let Search { file, found, .. } = search;
    let own = [search.own, pid()];
    let [proc, inside] = &search.opened;
    let mut unused = found.iter_mut();
    let mut look_at = |process: u32| {
        let has_it_open = |fds: BorrowedFd<'_>| any_number(fds, |fd| is_at(fds, fd, *file));
        let has_it_mapped = |maps: BorrowedFd<'_>| {
            let vmas = Vmas::of(maps);
            vmas.of_files(0..usize::MAX).any(|vma| vma.file == *file)
        };
        // Mappings are last, because looking at them can take for ever.
        let has_it = !own.contains(&process)
            && (inside.with(format_args!("/proc/{process}/fd\0"), has_it_open) == Some(true)
                || inside.with(format_args!("/proc/{process}/maps\0"), has_it_mapped)
                    == Some(true));
        if !has_it {
            return false;
        }
        let Some(holder) = unused.next() else {
            return true;
        };
        let len = inside.with(format_args!("/proc/{process}/comm\0"), |comm| {
            read(comm, &mut holder.name).ok()
        });
        holder.len = len.flatten().unwrap_or(0);
        holder.pid.store(process, Release);
        unused.len() == 0
    };
    proc.with(format_args!("/proc\0"), |proc| {
        any_number(proc, &mut look_at)
    });
}

/// Appends "; PID (NAME) has it too" to `text` for processes that have the file. It finds only
/// processes whose directories in /proc this process may read.
pub fn add<const SIZE: usize>(file: FileId, text: &mut Text<SIZE>) {
    static FOUND_OUT: AtomicU32 = AtomicU32::new(0);
    /// This process while a child of it searches. A second child would find the first, which shares
    /// memory and file descriptors with this process.
    static SEARCHES: AtomicU32 = AtomicU32::new(0);
    let own = pid();
    if FOUND_OUT.fetch_add(1, Relaxed) >= FILES || SEARCHES.swap(own, Acquire) == own {
        return;
    }
    let none = Search {
        file,
        own,
        found: array::from_fn(|_| Holder {
            pid: AtomicU32::new(0),
            name: [0; 64],
            len: 0,
        }),
        opened: array::from_fn(|_| Opened(AtomicI32::new(CLOSED))),
    };
    // SAFETY: A search consists of numbers. It makes system calls without libc, and does not panic,
    // so it uses no thread-local data.
    let Some(done) = (unsafe { child::run(search, none) }) else {
        return;
    };
    SEARCHES.store(0, Release);
    for Opened(fd) in done.opened {
        let fd = fd.into_inner();
        if fd != CLOSED {
            // SAFETY: The child has opened it, and can close it no more.
            unsafe { rustix::io::close(fd) };
        }
    }
    let mut named = 0;
    for holder in &done.found {
        let pid = holder.pid.load(Relaxed);
        if pid != 0 {
            let _ = write!(text, "{}{pid} (", if named == 0 { "; " } else { ", " });
            comm(holder.name.get(..holder.len).unwrap_or_default(), text);
            let _ = text.write_char(')');
            named += 1;
        }
    }
    match named {
        0 => {}
        1 => text.push(b" has it too"),
        _ => text.push(b" have it too"),
    }
}

/// Appends the name of a process. The process chooses that name, so it is escaped: it must not look
/// like part of the message around it.
fn comm<const SIZE: usize>(name: &[u8], text: &mut Text<SIZE>) {
    for part in name
        .strip_suffix(b"\n")
        .unwrap_or(name)
        .split_inclusive(|byte| b"(),".contains(byte))
    {
        match part.split_last() {
            Some((byte, before)) if b"(),".contains(byte) => {
                text::escape(before, text);
                let _ = write!(text, "\\{byte:03o}");
            }
            _ => text::escape(part, text),
        }
    }
}
