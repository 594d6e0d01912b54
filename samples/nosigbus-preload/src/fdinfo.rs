// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads the fdinfo of the device in /proc: a line for each mapping that was opted in through it.
//! A mapping that was split or moved still has one line. nosigbus(4) describes the format.

use crate::{
    device,
    kernel::close,
    text::{Text, number},
};
use rustix::{
    fd::{AsRawFd, OwnedFd},
    fs::{Mode, OFlags, open},
    io::read,
};
use std::{ffi::CStr, fmt::Write};

/// Major and minor number of the device, and the inode.
pub type FileId = (u32, u32, u64);

/// The fields of a line that identify a mapping. Other mappings may have the same values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub pid: u64,
    pub file: FileId,
    /// First byte and length of the class name. Together they are unique: only "shared-read" and
    /// "shared-write" have the same first byte, and their lengths differ.
    class: (u8, usize),
    offset: u64,
    pub len: u64,
}

impl Identity {
    pub fn is_shared_write(&self) -> bool {
        self.class == (b's', "shared-write".len())
    }
}

/// What a line says.
#[derive(Clone, Copy)]
pub struct Entry {
    pub identity: Identity,
    pub zero_pages: u64,
    pub private_pages: u64,
    pub shadow_pages: u64,
    pub errors: u64,
    pub error: u64,
    pub error_offset: u64,
    pub deduced: bool,
}

impl Entry {
    pub const NONE: Self = Self {
        identity: Identity {
            pid: 0,
            file: (0, 0, 0),
            class: (0, 0),
            offset: 0,
            len: 0,
        },
        zero_pages: 0,
        private_pages: 0,
        shadow_pages: 0,
        errors: 0,
        error: 0,
        error_offset: 0,
        deduced: false,
    };

    pub fn has_stand_ins(&self) -> bool {
        self.zero_pages | self.private_pages | self.shadow_pages != 0
    }

    /// Returns whether it may be a later state of `other`. The counts never decrease.
    pub fn may_have_been(&self, other: &Self) -> bool {
        self.identity == other.identity
            && self.zero_pages >= other.zero_pages
            && self.private_pages >= other.private_pages
            && self.shadow_pages >= other.shadow_pages
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut entry = Self::NONE;
        for word in line
            .strip_prefix(b"nosigbus:\t")?
            .split(|&byte| byte == b' ')
        {
            let equals = word.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (word.get(..equals)?, word.get(equals + 1..)?);
            let decimal = || number(value, 10);
            match name {
                b"pid" => entry.identity.pid = decimal()?,
                b"class" => entry.identity.class = (*value.first()?, value.len()),
                b"file" => entry.identity.file = file_id(value)?,
                b"offset" => entry.identity.offset = decimal()?,
                b"length" => entry.identity.len = decimal()?,
                b"zero_pages" => entry.zero_pages = decimal()?,
                b"private_pages" => entry.private_pages = decimal()?,
                b"shadow_pages" => entry.shadow_pages = decimal()?,
                b"errors" => entry.errors = decimal()?,
                b"error" => entry.error = decimal()?,
                b"error_offset" => entry.error_offset = decimal()?,
                b"error_flags" => entry.deduced = value != b"0x0",
                _ => {}
            }
        }
        Some(entry)
    }
}

fn file_id(text: &[u8]) -> Option<FileId> {
    let mut parts = text.split(|&byte| byte == b':');
    let mut next = |base| number(parts.next()?, base);
    Some((next(16)? as u32, next(16)? as u32, next(10)?))
}

fn open_fdinfo() -> Option<OwnedFd> {
    let mut path = Text::<64>::new();
    // The thread's directory, not the process's: a thread can have its own file descriptor table.
    write!(
        path,
        "/proc/thread-self/fdinfo/{}\0",
        device::get()?.as_raw_fd()
    )
    .ok()?;
    let path = CStr::from_bytes_with_nul(path.bytes()).ok()?;
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Calls `f` for every mapping that fdinfo lists. Returns how many mappings it does not list, or
/// `None` if fdinfo cannot be read.
pub fn for_each(mut f: impl FnMut(&Entry)) -> Option<u64> {
    let mut more = Some(0);
    let info = open_fdinfo()?;
    // Longer than a line.
    let mut buffer = [0; 1024];
    let mut filled = 0;
    while let Some(space) = buffer.get_mut(filled..) {
        match read(&info, space) {
            Ok(0) => break,
            Err(_) => {
                more = None;
                break;
            }
            Ok(len) => filled += len,
        }
        let mut start = 0;
        while let Some(rest) = buffer.get(start..filled) {
            let Some(len) = rest.iter().position(|&byte| byte == b'\n') else {
                break;
            };
            let line = rest.get(..len).unwrap_or_default();
            if let Some(entry) = Entry::parse(line) {
                f(&entry);
            } else if let Some(count) = line.strip_prefix(b"nosigbus_more:\t") {
                more = number(count, 10);
            }
            start += len + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
    close(info);
    more
}
