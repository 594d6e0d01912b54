// SPDX-License-Identifier: MIT OR Apache-2.0

//! A Wayland client: draws frames into the buffers of a wl_shm pool, a sparse file, and hands
//! them to the compositor, which reads the file.

use crate::{mapping::Mapping, temporary::Temporary};
use anyhow::{Context, Result, bail, ensure};
use nosigbus::{Event, MapOptions};
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

/// The pool, mapped.
enum Memory {
    Plain(Mapping),
    /// Errors are recorded, and the event tells of them.
    Recorded(nosigbus::Mapping, Event),
}

impl Memory {
    fn plain(pool: &File) -> Result<Self> {
        Ok(Self::Plain(Mapping::new(pool, POOL)?))
    }

    fn recorded(pool: &File) -> Result<Self> {
        let event = Event::new()?;
        let mapping = MapOptions::new(POOL)
            .write(true)
            .record_errors(true)
            .event(&event)
            .map(&crate::open_device()?, pool)?;
        Ok(Self::Recorded(mapping, event))
    }

    fn store(&mut self, bytes: &[u8], offset: usize) -> Result<()> {
        match self {
            Self::Plain(mapping) => mapping.store(bytes, offset),
            Self::Recorded(mapping, _) => mapping.write_at(offset, bytes)?,
        }
        Ok(())
    }

    /// Checks, as far as possible, that the drawn pixels are in the file. A client with an event
    /// loop would add the event to the loop, and would need no system call here.
    fn check(&self) -> Result<()> {
        let Self::Recorded(mapping, event) = self else {
            return Ok(());
        };
        if !event.take()? {
            return Ok(());
        }
        match mapping.status()?.error {
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
    let mut memory = match recorded {
        true => Memory::recorded(&pool)?,
        false => Memory::plain(&pool)?,
    };

    for frame in 0..frames {
        for (y, offset) in lines(frame) {
            memory.store(&line(frame, y), offset)?;
        }
        memory
            .check()
            .with_context(|| format!("frame {frame} is not handed over"))?;
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
