// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mappings that other code has created.

use crate::{Device, Result, Status};
use std::ops::{Deref, DerefMut};

/// Something that has a file mapped.
///
/// A wrong implementation does not break memory safety: the kernel's answers are then wrong, or
/// about another mapping.
pub trait AsMapping {
    /// Returns address and length of one or more whole mappings, without a hole. The address is a
    /// multiple of the page size. [`Device`] rounds the length up to whole pages.
    fn as_mapping(&self) -> *const [u8];
}

impl<T: AsMapping + ?Sized> AsMapping for &T {
    fn as_mapping(&self) -> *const [u8] {
        (**self).as_mapping()
    }
}

#[cfg(feature = "memmap2")]
mod memmap2 {
    use super::AsMapping;
    use memmap2::{Mmap, MmapMut, MmapRaw};
    use rustix::param::page_size;
    use std::ptr;

    /// Returns the whole pages that memmap2 has mapped for a range: one page if the range is empty.
    fn pages_around(addr: *const u8, len: usize) -> *const [u8] {
        let before = addr.addr() % page_size();
        ptr::slice_from_raw_parts(addr.wrapping_sub(before), (before + len).max(1))
    }

    macro_rules! as_mapping {
        ($($type:ty),*) => {
            $(impl AsMapping for $type {
                fn as_mapping(&self) -> *const [u8] {
                    pages_around(self.as_ptr(), self.len())
                }
            })*
        };
    }
    as_mapping!(Mmap, MmapMut, MmapRaw);
}

/// A mapping that [`Device::protect`] has opted in. It stays opted in until it is unmapped, even if
/// this value is dropped or unwrapped.
#[derive(Debug)]
pub struct Protected<M> {
    mapping: M,
    device: Device,
}

impl<M: AsMapping> Protected<M> {
    pub(crate) fn new(mapping: M, device: Device) -> Self {
        Self { mapping, device }
    }

    /// Returns the status of the mapping, or of the first one if there are several. After this call
    /// the next stand-in signals the eventfd again.
    pub fn status(&self) -> Result<Status> {
        self.device.status(self.mapping.as_mapping().cast())
    }
}

impl<M> Protected<M> {
    /// The mapping itself, still opted in.
    pub fn into_inner(self) -> M {
        self.mapping
    }
}

impl<M> Deref for Protected<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.mapping
    }
}

impl<M> DerefMut for Protected<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.mapping
    }
}
