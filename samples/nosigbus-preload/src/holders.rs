// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds the other processes that have a file open or mapped: one of them may have cut it off. The
//! kernel does not tell which process cut a file off, or which one created a file that came through
//! a socket.
//!
//! Other processes choose how many files they open, and on which file systems. So the search has a
//! time limit, and asks no file system that could wait for a server.

use crate::{
    fdinfo::FileId,
    kernel::{close, pid},
    text::{self, Text, number},
    vmas::Vmas,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags, open, openat, statx},
    io::read,
    time::{ClockId, clock_gettime},
};
use std::{
    ffi::CStr,
    fmt::Write,
    mem::MaybeUninit,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// For how many files to search at most, and for how many milliseconds each. Without limits a
/// client could cause one search after the other.
const FILES: u32 = 16;
const LONGEST: i64 = 100;
/// How many processes are named at most.
const PROCESSES: usize = 3;

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = READ.union(OFlags::DIRECTORY);

fn milliseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// A directory of /proc that is read until a deadline.
struct Directory {
    fd: Option<OwnedFd>,
    end: i64,
}

impl Directory {
    fn open(within: impl AsFd, path: &CStr, end: i64) -> Self {
        let fd = openat(within, path, DIRECTORY, Mode::empty()).ok();
        Self { fd, end }
    }

    /// Calls `f` with each name that is a number, until `f` returns `true`. Returns whether it has.
    fn any_number(&self, mut f: impl FnMut(u64) -> bool) -> bool {
        let Some(fd) = &self.fd else {
            return false;
        };
        let mut buffer = [MaybeUninit::uninit(); 256];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            if number(entry.file_name().to_bytes(), 10).is_some_and(&mut f) {
                return true;
            }
            if milliseconds() >= self.end {
                return false;
            }
        }
        false
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            close(fd);
        }
    }
}

fn c_str<const SIZE: usize>(text: &Text<SIZE>) -> Option<&CStr> {
    CStr::from_bytes_with_nul(text.bytes()).ok()
}

/// The start of a file in a directory of /proc.
fn start_of(directory: impl AsFd, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
    let file = openat(directory, path, READ, Mode::empty()).ok()?;
    let len = read(&file, buffer).ok();
    close(file);
    len
}

/// Whether the process has the file open at this file descriptor.
fn has_open_at(process: &OwnedFd, fd: u64, file: FileId) -> bool {
    let (mut info, mut name) = (Text::<40>::new(), Text::<40>::new());
    let _ = write!(info, "fdinfo/{fd}\0");
    let _ = write!(name, "fd/{fd}\0");
    let Some((info, name)) = c_str(&info).zip(c_str(&name)) else {
        return false;
    };
    // The inode number in fdinfo rules out most files. /proc itself knows it.
    let mut buffer = [0; 128];
    let Some(len) = start_of(process, info, &mut buffer) else {
        return false;
    };
    let info = buffer.get(..len).unwrap_or_default();
    let mut lines = info.split(|&byte| byte == b'\n');
    let ino = lines.find_map(|line| number(line.strip_prefix(b"ino:\t")?, 10));
    if ino != Some(file.2) {
        return false;
    }
    // The mask is empty, and STATX_DONT_SYNC keeps statx from asking a server.
    let flags = AtFlags::STATX_DONT_SYNC;
    statx(process, name, flags, StatxFlags::empty())
        .is_ok_and(|stat| (stat.stx_dev_major, stat.stx_dev_minor) == (file.0, file.1))
}

/// Appends "; PID (NAME) has it too" to `text` for processes that have the file. It finds only
/// processes whose directories in /proc this process may read.
pub fn add<const SIZE: usize>(file: FileId, text: &mut Text<SIZE>) {
    static FOUND_OUT: AtomicU32 = AtomicU32::new(0);
    if FOUND_OUT.fetch_add(1, Relaxed) >= FILES {
        return;
    }
    let end = milliseconds() + LONGEST;
    let Ok(proc) = open(c"/proc", DIRECTORY, Mode::empty()) else {
        return;
    };
    let proc = Directory {
        fd: Some(proc),
        end,
    };
    let mut named = 0;
    proc.any_number(|other| {
        if other == u64::from(pid()) {
            return false;
        }
        let mut name = Text::<24>::new();
        let _ = write!(name, "{other}\0");
        let Some((proc, name)) = proc.fd.as_ref().zip(c_str(&name)) else {
            return false;
        };
        let Ok(process) = openat(proc, name, DIRECTORY, Mode::empty()) else {
            return false;
        };
        let has_it_open = || {
            Directory::open(&process, c"fd", end).any_number(|fd| has_open_at(&process, fd, file))
        };
        let has_it_mapped = || {
            let vmas = Vmas::of(process.as_fd())?;
            vmas.of_files(0..usize::MAX)
                .take_while(|_| milliseconds() < end)
                .find(|vma| vma.file == file)
        };
        if has_it_mapped().is_some() || has_it_open() {
            let _ = write!(text, "{}{other} (", if named == 0 { "; " } else { ", " });
            comm(&process, text);
            let _ = text.write_char(')');
            named += 1;
        }
        close(process);
        named == PROCESSES
    });
    match named {
        0 => {}
        1 => text.push(b" has it too"),
        _ => text.push(b" have it too"),
    }
}

/// Appends the name of a process. The process chooses that name, so it is escaped: it must not look
/// like part of the message around it.
fn comm<const SIZE: usize>(process: &OwnedFd, text: &mut Text<SIZE>) {
    let mut name = [0; 64];
    let len = start_of(process, c"comm", &mut name).unwrap_or(0);
    let name = name.get(..len).unwrap_or_default();
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
