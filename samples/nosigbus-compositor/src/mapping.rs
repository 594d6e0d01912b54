// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client's file, mapped shared from its start.

use rustix::{
    fd::AsFd,
    fs::fstatfs,
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{io, ptr};

#[derive(Clone, Copy)]
pub enum Access {
    Read,
    ReadWrite,
}

pub struct Mapping {
    addr: *mut u8,
    len: usize,
}

// SAFETY: The memory can be accessed from any thread, and is only by these functions.
unsafe impl Send for Mapping {}

/// The magic number of file systems of huge pages, memfds with such among them.
const HUGETLBFS: i64 = 0x958458f6;

impl Mapping {
    /// Files of huge pages are refused: their mappings are longer than what was asked for, and
    /// cannot be unmapped by that length.
    pub fn new(file: impl AsFd, len: usize, access: Access) -> io::Result<Self> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        if fstatfs(&file)?.f_type == HUGETLBFS {
            return Err(Errno::OPNOTSUPP.into());
        }
        // SAFETY: A new mapping, where the kernel chooses.
        let addr = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
        Ok(Self {
            addr: addr.cast(),
            len,
        })
    }

    pub fn range(&self) -> *const [u8] {
        ptr::slice_from_raw_parts(self.addr, self.len)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies out of the mapping. The client may write to it meanwhile, or shrink the file.
    pub fn load(&self, bytes: &mut [u8], offset: usize) {
        self.check(bytes.len(), offset);
        // SAFETY: Inside the mapping, and the destination is elsewhere.
        unsafe { ptr::copy_nonoverlapping(self.addr.add(offset), bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Copies into the mapping, which must be writable.
    pub fn store(&mut self, bytes: &[u8], offset: usize) {
        self.check(bytes.len(), offset);
        // SAFETY: Inside the mapping, to which there are no references.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.addr.add(offset), bytes.len()) };
    }

    fn check(&self, len: usize, offset: usize) {
        assert!(offset <= self.len && len <= self.len - offset);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to the mapping any more. It is there, so this cannot fail.
        let _ = unsafe { munmap(self.addr.cast(), self.len) };
    }
}
