// SPDX-License-Identifier: GPL-2.0-only

//! The compositor: maps the client's file and reads it, frame by frame, without a SIGBUS handler.

use crate::{channel, client::Trick, picture};
use anyhow::{Context, Result, ensure};
use nosigbus::{AsMapping, Device};
use rustix::{
    fd::{AsFd, OwnedFd},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{ffi::c_void, path::Path, ptr};

/// A client's buffer, mapped.
struct Buffer {
    addr: *mut c_void,
}

impl Buffer {
    fn map(file: &OwnedFd) -> Result<Self> {
        // SAFETY: A new mapping, where the kernel chooses.
        let addr = unsafe {
            mmap(
                ptr::null_mut(),
                picture::BYTES,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .context("mmap")?;
        Ok(Self { addr })
    }

    /// Copies the buffer out, as a compositor uploads it to a texture.
    fn read(&self) -> Vec<u8> {
        let mut pixels = vec![0; picture::BYTES];
        // SAFETY: The mapping is as long as the copy, and the copy is the compositor's own. The
        // client may write meanwhile, or shrink the file: that is what this demo is about.
        unsafe {
            ptr::copy_nonoverlapping(self.addr.cast(), pixels.as_mut_ptr(), picture::BYTES);
        }
        pixels
    }
}

impl AsMapping for Buffer {
    fn as_mapping(&self) -> *const [u8] {
        ptr::slice_from_raw_parts(self.addr.cast(), picture::BYTES)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to the mapping any more. It is there, so this cannot fail.
        let _ = unsafe { munmap(self.addr, picture::BYTES) };
    }
}

/// Reads frames until the client is gone; writes the last one to `png`.
pub fn run(channel: impl AsFd, opt_in: bool, png: Option<&Path>) -> Result<()> {
    let file = channel::recv_fd(&channel)?;
    let buffer = Buffer::map(&file)?;
    if opt_in {
        Device::open()?.protect(&buffer)?;
    }

    let (mut frames, mut incomplete) = (0, 0);
    let mut last = None;
    while let Some(frame) = channel::recv_frame(&channel)? {
        let pixels = buffer.read();

        let missing = picture::missing_pixels(&pixels);
        if Trick::of(frame) == Trick::None {
            ensure!(
                pixels == picture::draw(frame),
                "frame {frame} is not what the client drew ({missing} pixels are missing)"
            );
        }
        frames += 1;
        incomplete += u64::from(missing > 0);
        last = Some(pixels);
        channel::send_frame(&channel, frame)?;
    }

    println!(
        "   compositor: read {frames} frames to the end; {incomplete} of them had lost pages, \
         which read as zeros"
    );
    if let (Some(png), Some(pixels)) = (png, last) {
        picture::write_png(png, &pixels)?;
    }
    Ok(())
}
