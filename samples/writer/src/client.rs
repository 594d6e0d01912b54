// SPDX-License-Identifier: GPL-2.0-only

//! A Wayland client: draws frames into the buffers of a wl_shm pool, a sparse file, and hands
//! them to the compositor, which reads the file.

use crate::{mapping::Mapping, temporary::Temporary};
use anyhow::{Context, Result, bail, ensure};
use nosigbus::Device;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fd::{AsFd, OwnedFd},
};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
/// Bytes of a line; a pixel has four.
const STRIDE: usize = WIDTH * 4;
const BUFFER: usize = STRIDE * HEIGHT;
/// One to draw into while the compositor shows the other.
const BUFFERS: usize = 2;
const POOL: usize = BUFFER * BUFFERS;

/// Line `y` of a frame. No byte of it is zero.
fn line(frame: usize, y: usize) -> Vec<u8> {
    (0..WIDTH)
        .flat_map(|x| [x + frame, y + frame, x ^ y, 254].map(|shade| (shade % 255 + 1) as u8))
        .collect()
}

/// Where the lines of a frame are in the pool.
fn lines(frame: usize) -> impl Iterator<Item = (usize, usize)> {
    let buffer = frame % BUFFERS * BUFFER;
    (0..HEIGHT).map(move |y| (y, buffer + y * STRIDE))
}

/// What tells the client of pages that its file does not have.
struct Watch {
    device: Device,
    event: OwnedFd,
}

impl Watch {
    fn new(mapping: &Mapping) -> Result<Self> {
        let device = Device::open()?;
        let event = eventfd(0, EventfdFlags::CLOEXEC).context("eventfd")?;
        // SAFETY: The mapping holds nothing but pixels, and is only written to.
        unsafe { device.enable_recording(mapping.range(), Some(event.as_fd())) }
            .context("NOSIGBUS_ENABLE")?;
        Ok(Self { device, event })
    }

    /// Whether what was drawn is in the file. A client with an event loop has the eventfd in it,
    /// and makes no system call for this.
    fn check(&self, mapping: &Mapping) -> Result<()> {
        let mut fds = [PollFd::new(&self.event, PollFlags::IN)];
        if poll(&mut fds, Some(&Timespec::default())).context("poll")? == 0 {
            return Ok(());
        }
        let status = self
            .device
            .status(mapping.range().cast())
            .context("NOSIGBUS_STATUS")?;
        match status.error {
            Some(error) => bail!("the eventfd is signalled: {error}"),
            None => bail!("the eventfd is signalled: somebody has cut the file off"),
        }
    }
}

/// What the compositor does: reads the frame from the file.
fn compose(pool: &File, frame: usize) -> Result<()> {
    let mut pixels = vec![0; STRIDE];
    for (y, offset) in lines(frame) {
        pool.read_exact_at(&mut pixels, offset as u64)
            .context("pread")?;
        ensure!(
            pixels == line(frame, y),
            "the compositor shows another line {y}"
        );
    }
    Ok(())
}

/// Draws frames into a pool in `directory`.
pub fn run(recorded: bool, frames: usize, directory: &Path) -> Result<()> {
    let pool = create_pool(directory)?;
    let mut mapping = Mapping::new(&pool, POOL)?;
    let watch = recorded.then(|| Watch::new(&mapping)).transpose()?;

    for frame in 0..frames {
        for (y, offset) in lines(frame) {
            mapping.store(&line(frame, y), offset);
        }
        if let Some(watch) = &watch {
            watch
                .check(&mapping)
                .with_context(|| format!("frame {frame} is not handed over"))?;
        }
        compose(&pool, frame).with_context(|| format!("frame {frame}"))?;
        println!("frame {frame}: drawn and shown");
    }
    Ok(())
}

/// A file without a name and without a block.
fn create_pool(directory: &Path) -> Result<File> {
    let pool = Temporary::create(&directory.join("wl_shm"))?;
    let file = pool.file.try_clone()?;
    drop(pool);
    file.set_len(POOL as u64).context("ftruncate")?;
    Ok(file)
}
