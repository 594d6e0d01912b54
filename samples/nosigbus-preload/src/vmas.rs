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
    fs::{Mode, OFlags, open},
};
use std::{mem::ManuallyDrop, ops::Range};

/// An open file "maps" in /proc.
pub struct Vmas<Fd: AsFd = Owned>(Fd);

/// A file descriptor that is closed without libc.
pub struct Owned(ManuallyDrop<OwnedFd>);

/// A VMA.
pub struct Vma {
    pub range: Range<usize>,
    pub file: FileId,
    /// Where in the file it starts, in bytes.
    offset: u64,
}

impl Vma {
    /// Whether the file goes on in `next` where it ends here.
    fn goes_on_in(&self, next: &Self) -> bool {
        self.file == next.file && self.offset + self.range.len() as u64 == next.offset
    }
}

impl Vmas {
    /// Those of this process.
    pub fn open() -> Option<Self> {
        // Not /proc/self/maps: it is empty once the main thread has exited.
        let path = c"/proc/thread-self/maps";
        let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(Self(Owned(ManuallyDrop::new(fd))))
    }
}

impl<Fd: AsFd> Vmas<Fd> {
    /// Those of the process that has this file "maps". A query waits for that process if it is
    /// changing its mappings.
    pub fn of(maps: Fd) -> Self {
        Self(maps)
    }

    /// The one that has the byte at `addr`.
    pub fn at(&self, addr: usize) -> Option<Vma> {
        self.query(addr, 0, &mut []).map(|(vma, _)| vma)
    }

    /// Whether the mapping of a file continues one beside it: it is part of a larger VMA, or the file
    /// goes on from one VMA to the next.
    pub fn continues(&self, range: &Range<usize>) -> bool {
        let Some(vma) = self.at(range.start) else {
            return false;
        };
        let before = range.start.checked_sub(1).and_then(|addr| self.at(addr));
        vma.range != *range
            || before.is_some_and(|before| before.goes_on_in(&vma))
            || self.at(range.end).is_some_and(|next| vma.goes_on_in(&next))
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
            offset: query.vma_offset,
        };
        Some((vma, query.vma_name_size as usize))
    }
}

impl AsFd for Owned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: Taken once, here.
        close(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}
