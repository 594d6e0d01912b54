// SPDX-License-Identifier: MIT OR Apache-2.0

//! All that protecting takes: opt each mapping in, have the eventfd in the event loop, and ask each
//! mapping for its status when that is signalled.

use crate::mapping::Mapping;
use nosigbus::{Device, Event};
use rustix::fd::{AsFd, BorrowedFd};
use std::io;

pub struct Guard {
    device: Device,
    event: Event,
}

impl Guard {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            device: Device::open()?,
            event: Event::new()?,
        })
    }

    /// Opts a mapping in. Errors of the file system are answered like a lost page: a client may
    /// send a sparse file of a full file system, or one of a file system of its own (FUSE).
    pub fn protect(&self, mapping: &Mapping) -> io::Result<()> {
        // SAFETY: What is mapped are pixels: nothing relies on what they are.
        unsafe {
            self.device
                .enable_recording(mapping.range(), Some(self.event.as_fd()))?;
        }
        Ok(())
    }

    /// Whether a mapping may have got its first stand-in since it was last asked for its status.
    /// To be called before that.
    pub fn was_signalled(&self) -> io::Result<bool> {
        Ok(self.event.take()?)
    }

    /// What is wrong with the file, if the compositor has met a page that it does not have.
    pub fn complaint(&self, mapping: &Mapping) -> io::Result<Option<String>> {
        let status = self.device.status(mapping.range().cast())?;
        Ok(match status.error {
            Some(error) => Some(format!("the file cannot be accessed: {error}")),
            None if status.stand_ins() > 0 => Some("the file is shorter than its pool".into()),
            None => None,
        })
    }
}

impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
