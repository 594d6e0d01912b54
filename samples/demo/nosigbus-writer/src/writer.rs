// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes an output file, as a linker does.

use crate::{
    image::{self, Output},
    mapping::Mapping,
    temporary::Temporary,
};
use anyhow::{Context, Result, bail};
use nosigbus::MapOptions;
use rustix::param::page_size;
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// How the bytes get into the file.
#[derive(Clone, Copy)]
pub enum How {
    /// By pwrite.
    Write,
    /// Through a mapping.
    Plain,
    /// Through a mapping that is opted in, with errors recorded.
    Recorded,
}

impl Output for File {
    fn write(&mut self, bytes: &[u8], offset: usize) -> Result<()> {
        self.write_all_at(bytes, offset as u64).context("pwrite")
    }

    fn read(&self, bytes: &mut [u8], offset: usize) -> Result<()> {
        self.read_exact_at(bytes, offset as u64).context("pread")
    }
}

impl Output for Mapping {
    fn write(&mut self, bytes: &[u8], offset: usize) -> Result<()> {
        self.store(bytes, offset);
        Ok(())
    }

    fn read(&self, bytes: &mut [u8], offset: usize) -> Result<()> {
        self.load(bytes, offset);
        Ok(())
    }
}

impl Output for nosigbus::Mapping {
    fn write(&mut self, bytes: &[u8], offset: usize) -> Result<()> {
        Ok(self.write_at(offset, bytes)?)
    }

    fn read(&self, bytes: &mut [u8], offset: usize) -> Result<()> {
        Ok(self.read_at(offset, bytes)?)
    }
}

/// Whether all that was stored through the mapping has gone into the file.
fn check(output: nosigbus::Mapping, size: usize) -> Result<()> {
    let status = output.status()?;
    if output.close().is_ok() {
        return Ok(());
    }
    let missing = format!(
        "{} of {} pages are missing",
        status.shadow_pages_held,
        size.div_ceil(page_size())
    );
    match status.error {
        Some(error) => bail!("{error}; {missing}"),
        None => bail!("somebody has cut the file off; {missing}"),
    }
}

fn write_plain(file: &File, size: usize, seed: u64) -> Result<()> {
    file.set_len(size as u64).context("ftruncate")?;
    image::write(&mut Mapping::new(file, size)?, size, seed)
}

fn write_recorded(file: &File, size: usize, seed: u64) -> Result<()> {
    file.set_len(size as u64).context("ftruncate")?;
    let mut output = MapOptions::new(size)
        .write(true)
        .record_errors(true)
        .map(&crate::open_device()?, file)?;
    image::write(&mut output, size, seed)?;
    check(output, size)
}

/// Writes `size` bytes to `path`, all or nothing.
pub fn run(how: How, size: usize, seed: u64, path: &Path) -> Result<()> {
    let mut output = Temporary::create(path)?;
    match how {
        How::Write => image::write(&mut output.file, size, seed)?,
        How::Plain => write_plain(&output.file, size, seed)?,
        How::Recorded => write_recorded(&output.file, size, seed)?,
    }
    // fsync reports errors that occur only at writeback, after all accesses.
    output.file.sync_all().context("fsync")?;
    output.rename(path)
}
