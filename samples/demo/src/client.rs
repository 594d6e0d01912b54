// SPDX-License-Identifier: GPL-2.0-only

//! The client: draws into a memfd that the compositor maps, and shrinks it at the worst moments.

use crate::{channel, picture};
use anyhow::{Context, Result};
use rustix::{
    fd::AsFd,
    fs::{MemfdFlags, ftruncate, memfd_create},
    io::pwrite,
};

/// What the client does to the file in a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// Nothing: the compositor has to show the whole frame.
    None,
    /// Half of it is gone before the compositor is told of the frame.
    Half,
    /// All of it is gone before the compositor is told of the frame.
    All,
    /// Half of it goes while the compositor reads.
    While,
}

impl Trick {
    pub fn of(frame: u64) -> Self {
        match frame % 4 {
            0 => Self::None,
            1 => Self::Half,
            2 => Self::All,
            _ => Self::While,
        }
    }
}

fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    let mut offset = 0;
    while !bytes.is_empty() {
        let written = pwrite(&file, bytes, offset).context("pwrite")?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Draws frames 1 to `frames`, until the compositor is gone.
pub fn run(channel: impl AsFd, frames: u64) -> Result<()> {
    let file = memfd_create("wl_shm", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let shrink = |bytes: usize| ftruncate(&file, bytes as u64).context("ftruncate");

    shrink(picture::BYTES)?;
    channel::send_fd(&channel, file.as_fd())?;
    for frame in 1..=frames {
        // Restores what the last frame has cut off.
        write_all(&file, &picture::draw(frame))?;

        let trick = Trick::of(frame);
        match trick {
            Trick::Half => shrink(picture::BYTES / 2)?,
            Trick::All => shrink(0)?,
            Trick::None | Trick::While => {}
        }
        if !channel::send_frame(&channel, frame)? {
            break;
        }
        if trick == Trick::While {
            shrink(picture::BYTES / 2)?;
        }
        if channel::recv_frame(&channel)?.is_none() {
            break;
        }
    }
    Ok(())
}
