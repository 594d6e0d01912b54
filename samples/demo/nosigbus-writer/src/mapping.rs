// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file mapped shared and writable, from its start, and not opted in.

use anyhow::{Context, Result};
use rustix::{
    fd::AsFd,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::ptr;

pub struct Mapping {
    addr: *mut u8,
    len: usize,
}

impl Mapping {
    pub fn new(file: impl AsFd, len: usize) -> Result<Self> {
        // SAFETY: A new mapping, where the kernel chooses.
        let addr = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .context("mmap")?;
        Ok(Self {
            addr: addr.cast(),
            len,
        })
    }

    pub fn store(&mut self, bytes: &[u8], offset: usize) {
        self.check(bytes.len(), offset);
        // SAFETY: Inside the mapping, to which there are no references.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.addr.add(offset), bytes.len()) };
    }

    pub fn load(&self, bytes: &mut [u8], offset: usize) {
        self.check(bytes.len(), offset);
        // SAFETY: Inside the mapping, and the destination is elsewhere.
        unsafe { ptr::copy_nonoverlapping(self.addr.add(offset), bytes.as_mut_ptr(), bytes.len()) };
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
