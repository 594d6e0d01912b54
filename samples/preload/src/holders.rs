// SPDX-License-Identifier: GPL-2.0-only

//! Which other processes have a file: one of them may have cut it off. The kernel does not tell who it
//! was, nor who has made a file that came by a socket.

use crate::{
    fdinfo::FileId,
    kernel::{close, pid},
    text::{self, Text, number},
    vmas::Vmas,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, RawDir, major, minor, open, openat, statat},
    io::read,
};
use std::{
    ffi::CStr,
    fmt::Write,
    mem::MaybeUninit,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// For how many files this is found out at most: it takes a look at all processes, and a client could
/// have it done for one file after the other.
const FILES: u32 = 16;
/// How many are named.
const PROCESSES: usize = 3;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A directory of /proc, as far as it can be read.
struct Directory(Option<OwnedFd>);

impl Directory {
    /// Calls `f` with each name that is a number, until that returns `true`; whether it has.
    fn any_number(&self, mut f: impl FnMut(u64) -> bool) -> bool {
        let Some(fd) = &self.0 else {
            return false;
        };
        let mut buffer = [MaybeUninit::uninit(); 256];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            if number(entry.file_name().to_bytes(), 10).is_some_and(&mut f) {
                return true;
            }
        }
        false
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            close(fd);
        }
    }
}

fn has_open(directory: &OwnedFd, file: FileId) -> bool {
    let fds = Directory(openat(directory, c"fd", DIRECTORY, Mode::empty()).ok());
    fds.any_number(|fd| {
        let mut name = Text::<24>::new();
        let _ = write!(name, "{fd}\0");
        let Some((fds, name)) = fds.0.as_ref().zip(c_str(&name)) else {
            return false;
        };
        statat(fds, name, AtFlags::empty())
            .is_ok_and(|stat| (major(stat.st_dev), minor(stat.st_dev), stat.st_ino) == file)
    })
}

fn c_str<const SIZE: usize>(text: &Text<SIZE>) -> Option<&CStr> {
    CStr::from_bytes_with_nul(text.bytes()).ok()
}

/// Adds "; PID (NAME) has it too", if there are such processes that may be asked.
pub fn add<const SIZE: usize>(file: FileId, text: &mut Text<SIZE>) {
    static FOUND_OUT: AtomicU32 = AtomicU32::new(0);
    if FOUND_OUT.fetch_add(1, Relaxed) >= FILES {
        return;
    }
    let proc = Directory(open(c"/proc", DIRECTORY, Mode::empty()).ok());
    let mut named = 0;
    proc.any_number(|other| {
        if other == u64::from(pid()) {
            return false;
        }
        let mut name = Text::<24>::new();
        let _ = write!(name, "{other}\0");
        let Some((proc, name)) = proc.0.as_ref().zip(c_str(&name)) else {
            return false;
        };
        let Ok(process) = openat(proc, name, DIRECTORY, Mode::empty()) else {
            return false;
        };
        if Vmas::of(process.as_fd()).is_some_and(|vmas| vmas.has(file)) || has_open(&process, file)
        {
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

fn comm<const SIZE: usize>(process: &OwnedFd, text: &mut Text<SIZE>) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = openat(process, c"comm", flags, Mode::empty()) else {
        return;
    };
    let mut name = [0; 64];
    let len = read(&file, &mut name).unwrap_or(0);
    close(file);
    let name = name.get(..len).unwrap_or_default();
    text::escape(name.strip_suffix(b"\n").unwrap_or(name), text);
}
