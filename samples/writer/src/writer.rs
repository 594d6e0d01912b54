// SPDX-License-Identifier: GPL-2.0-only

//! Writes an output file, as a linker does.

use crate::{
    image::{self, Output},
    mapping::Mapping,
    temporary::Temporary,
};
use anyhow::{Context, Result, bail};
use nosigbus::Device;
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

/// Whether all that was stored through the mapping has gone into the file.
fn check(device: &Device, mapping: &Mapping, size: usize) -> Result<()> {
    let status = device
        .status(mapping.range().cast())
        .context("NOSIGBUS_STATUS")?;
    let missing = format!(
        "{} of {} pages are missing",
        status.shadow_pages_held,
        size.div_ceil(page_size())
    );
    match status.error {
        Some(error) => bail!("{error}; {missing}"),
        None if status.shadow_pages_held > 0 => bail!("somebody has cut the file off; {missing}"),
        None => Ok(()),
    }
}

fn write_mapped(file: &File, size: usize, seed: u64, device: Option<&Device>) -> Result<()> {
    file.set_len(size as u64).context("ftruncate")?;
    let mut mapping = Mapping::new(file, size)?;
    if let Some(device) = device {
        // SAFETY: The file is this program's own, the mapping the only one of it, and all that is
        // read from it are numbers to calculate with.
        unsafe { device.enable_recording(mapping.range(), None) }.context("NOSIGBUS_ENABLE")?;
    }
    image::write(&mut mapping, size, seed)?;
    // While it is mapped: with the mapping goes what is known of it.
    device.map_or(Ok(()), |device| check(device, &mapping, size))
}

/// Writes `size` bytes to `path`, all or nothing.
pub fn run(how: How, size: usize, seed: u64, path: &Path) -> Result<()> {
    let device = match how {
        How::Recorded => Some(Device::open()?),
        How::Write | How::Plain => None,
    };
    let mut output = Temporary::create(path)?;
    match how {
        How::Write => image::write(&mut output.file, size, seed)?,
        How::Plain | How::Recorded => write_mapped(&output.file, size, seed, device.as_ref())?,
    }
    // Errors that come only now are not of an access, and this is who tells of them.
    output.file.sync_all().context("fsync")?;
    output.rename(path)
}
