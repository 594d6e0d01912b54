// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files that a client draws into, and the pools that it creates from them.

use crate::session::Session;
use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
    path::PathBuf,
    thread,
};
use wayland_client::protocol::{
    wl_buffer::WlBuffer,
    wl_shm::{Format, WlShm},
    wl_shm_pool::WlShmPool,
};

/// Red, green, blue.
pub type Color = [u8; 3];

pub const PIXEL: i32 = 4;

/// Where files are created.
pub enum Place {
    /// memfd_create
    Memory,
    /// Ordinary files, without a name.
    Directory(PathBuf),
}

impl Place {
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory)
    }

    pub fn create(&self) -> Result<File> {
        Ok(match self {
            Self::Memory => memfd_create("wl_shm", MemfdFlags::CLOEXEC)
                .context("memfd_create")?
                .into(),
            Self::Directory(directory) => {
                let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
                open(directory, flags, Mode::RUSR | Mode::WUSR)
                    .with_context(|| format!("no file in {}", directory.display()))?
                    .into()
            }
        })
    }
}

pub struct Pool {
    pub file: File,
    pub proxy: WlShmPool,
}

impl Pool {
    /// Creates a pool from a file. `size` is the size that the compositor gets to know.
    pub fn new(session: &Session, file: File, size: i32) -> Result<Self> {
        let shm: WlShm = session.bind(1..=1)?;
        let proxy = shm.create_pool(file.as_fd(), size, &session.handle, ());
        Ok(Self { file, proxy })
    }

    /// A buffer of the first or second half of the pool.
    pub fn buffer(
        &self,
        session: &Session,
        number: usize,
        (width, height): (i32, i32),
    ) -> WlBuffer {
        self.proxy.create_buffer(
            number as i32 * bytes((width, height)),
            width,
            height,
            width * PIXEL,
            Format::Xrgb8888,
            &session.handle,
            number,
        )
    }

    /// Shrinks the file to nothing.
    pub fn shrink(&self) -> Result<()> {
        self.file.set_len(0).context("ftruncate")
    }

    /// Shrinks the file and makes it as long as it was, again and again, as long as this process
    /// lives.
    pub fn shrink_and_regrow(&self) -> Result<()> {
        let file = self.file.try_clone()?;
        let len = file.metadata()?.len();
        thread::spawn(move || {
            while file.set_len(0).and_then(|()| file.set_len(len)).is_ok() {}
            eprintln!("nosigbus-hostile: the file cannot be shrunk and grown any more");
        });
        Ok(())
    }
}

/// Bytes of a buffer.
pub fn bytes((width, height): (i32, i32)) -> i32 {
    width * height * PIXEL
}

/// Draws that many bytes of one colour into a file.
pub fn draw(file: &File, color: Color, bytes: i32, offset: i32) -> Result<()> {
    let [red, green, blue] = color;
    let pixels = [blue, green, red, 0].repeat((bytes / PIXEL) as usize);
    file.write_all_at(&pixels, offset as u64).context("pwrite")
}
