// SPDX-License-Identifier: MIT OR Apache-2.0

//! Address space between guard pages.
//!
//! No function here allocates memory or changes errno.

use rustix::{
    io::{Errno, Result},
    mm::{MapFlags, ProtFlags, mmap_anonymous, munmap},
};
use std::ptr;

/// Reserves address space that is not accessible.
pub(crate) fn reserve(len: usize) -> Result<*mut u8> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: A new mapping, where the kernel chooses.
    let addr = unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) }?;
    Ok(addr.cast())
}

/// Inaccessible pages on both sides of a place for a mapping. As long as they exist, the mapping
/// has no neighbour that the kernel could merge it with. Dropping this unmaps only the two pages.
#[derive(Debug)]
pub struct Guards {
    place: *mut u8,
    len: usize,
    page: usize,
}

impl Guards {
    /// Reserves a place of `len` bytes, and a guard page on each side. `len` is a multiple of
    /// `page`, the page size.
    ///
    /// The caller maps something over the whole place. If that fails, the place must not be
    /// unmapped: the kernel may have unmapped it, and another thread may use it.
    pub fn around(len: usize, page: usize) -> Result<Self> {
        let start = reserve(len.checked_add(2 * page).ok_or(Errno::NOMEM)?)?;
        Ok(Self {
            place: start.wrapping_add(page),
            len,
            page,
        })
    }

    /// Returns the address of the place.
    pub fn place(&self) -> *mut u8 {
        self.place
    }
}

impl Drop for Guards {
    fn drop(&mut self) {
        let before = self.place.wrapping_sub(self.page);
        let after = self.place.wrapping_add(self.len);
        for guard in [before, after] {
            // SAFETY: `around` has mapped it, and no other code knows it.
            let _ = unsafe { munmap(guard.cast(), self.page) };
        }
    }
}
