// SPDX-License-Identifier: MIT OR Apache-2.0

//! Queries the VMAs of a process without allocating memory.

use crate::{
    fdinfo::FileId,
    kernel::{
        PROCMAP_QUERY_COVERING_OR_NEXT_VMA, PROCMAP_QUERY_FILE_BACKED_VMA, close, procmap_query,
        query_map,
    },
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{CWD, Mode, OFlags, openat},
};
use std::{ffi::CStr, mem::ManuallyDrop, ops::Range};

/// An open file "maps" in /proc.
pub struct Vmas(ManuallyDrop<OwnedFd>);

/// A VMA.
pub struct Vma {
    pub range: Range<usize>,
    pub file: FileId,
}

impl Vmas {
    /// Those of this process.
    pub fn open() -> Option<Self> {
        // Not /proc/self/maps: it is empty once the main thread has exited.
        Self::open_at(CWD, c"/proc/thread-self/maps")
    }

    /// Those of the process that has this directory in /proc.
    pub fn of(process: BorrowedFd<'_>) -> Option<Self> {
        Self::open_at(process, c"maps")
    }

    fn open_at(directory: BorrowedFd<'_>, path: &CStr) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = openat(directory, path, flags, Mode::empty()).ok()?;
        Some(Self(ManuallyDrop::new(fd)))
    }

    /// The one that has the byte at `addr`.
    pub fn at(&self, addr: usize) -> Option<Vma> {
        self.query(addr, 0, &mut []).map(|(vma, _)| vma)
    }

    /// Those of files that have a byte in the range.
    pub fn of_files(&self, range: Range<usize>) -> impl Iterator<Item = Vma> + '_ {
        let mut next = range.start;
        std::iter::from_fn(move || {
            let flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA | PROCMAP_QUERY_FILE_BACKED_VMA;
            let (vma, _) = self.query(next, flags, &mut [])?;
            next = vma.range.end;
            (vma.range.start < range.end).then_some(vma)
        })
    }

    /// Writes the path of the file that is mapped at `addr` into `name`. Returns the length, or
    /// `None` if `name` is too short.
    pub fn name_at(&self, addr: usize, name: &mut [u8]) -> Option<usize> {
        let (_, len) = self.query(addr, PROCMAP_QUERY_FILE_BACKED_VMA, name)?;
        // It ends with a zero.
        len.checked_sub(1)
    }

    /// A VMA, and the length of its name.
    fn query(&self, addr: usize, flags: u32, name: &mut [u8]) -> Option<(Vma, usize)> {
        let mut query = procmap_query {
            query_addr: addr as u64,
            query_flags: flags.into(),
            ..Default::default()
        };
        if !name.is_empty() {
            query.vma_name_addr = name.as_mut_ptr().addr() as u64;
            query.vma_name_size = name.len() as u32;
        }
        // SAFETY: The buffer is the slice.
        unsafe { query_map(self.0.as_fd(), &mut query) }.ok()?;
        let vma = Vma {
            range: query.vma_start as usize..query.vma_end as usize,
            file: (query.dev_major, query.dev_minor, query.inode),
        };
        Some((vma, query.vma_name_size as usize))
    }
}

impl Drop for Vmas {
    fn drop(&mut self) {
        // SAFETY: Taken once, here.
        close(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}
