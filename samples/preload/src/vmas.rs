// SPDX-License-Identifier: GPL-2.0-only

//! The VMAs of this process, without memory to be allocated for them.

use crate::kernel::{
    PROCMAP_QUERY_COVERING_OR_NEXT_VMA, PROCMAP_QUERY_FILE_BACKED_VMA, PROCMAP_QUERY_VMA_SHARED,
    PROCMAP_QUERY_VMA_WRITABLE, close, procmap_query, query_map,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags, open},
};
use std::{mem::ManuallyDrop, ops::Range};

/// /proc/self/maps.
pub struct Vmas(ManuallyDrop<OwnedFd>);

/// A VMA.
pub struct Vma {
    pub range: Range<usize>,
    pub shared: bool,
    pub writable: bool,
    /// Major and minor number of the device, and the inode.
    pub file: (u32, u32, u64),
}

impl Vmas {
    pub fn open() -> Option<Self> {
        let fd = open(
            c"/proc/self/maps",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        Some(Self(ManuallyDrop::new(fd.ok()?)))
    }

    /// The one that has the byte at `addr`, or the next one; of a file only, if `of_file`.
    pub fn at_or_behind(&self, addr: usize, of_file: bool) -> Option<Vma> {
        self.query(addr, of_file, &mut []).map(|(vma, _)| vma)
    }

    /// The same, and its name, if there is space for it.
    pub fn at_or_behind_named<'a>(
        &self,
        addr: usize,
        name: &'a mut [u8],
    ) -> Option<(Vma, &'a [u8])> {
        let (vma, len) = match self.query(addr, true, name) {
            Some(found) => found,
            None => self.query(addr, true, &mut [])?,
        };
        Some((vma, name.get(..len.saturating_sub(1)).unwrap_or_default()))
    }

    fn query(&self, addr: usize, of_file: bool, name: &mut [u8]) -> Option<(Vma, usize)> {
        let mut query = procmap_query {
            query_addr: addr as u64,
            query_flags: PROCMAP_QUERY_COVERING_OR_NEXT_VMA.into(),
            vma_name_size: name.len() as u32,
            ..Default::default()
        };
        if of_file {
            query.query_flags |= u64::from(PROCMAP_QUERY_FILE_BACKED_VMA);
        }
        if !name.is_empty() {
            query.vma_name_addr = name.as_mut_ptr().addr() as u64;
        }
        // SAFETY: The buffer is the slice.
        unsafe { query_map(self.0.as_fd(), &mut query) }.ok()?;
        let has = |flag: u32| query.vma_flags & u64::from(flag) != 0;
        let vma = Vma {
            range: query.vma_start as usize..query.vma_end as usize,
            shared: has(PROCMAP_QUERY_VMA_SHARED),
            writable: has(PROCMAP_QUERY_VMA_WRITABLE),
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
