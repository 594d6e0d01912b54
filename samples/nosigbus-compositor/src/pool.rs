// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pools, the files that clients draw into, and the buffers in them.

use crate::{
    guard::Guard,
    mapping::{Access, Mapping},
};
use rustix::fd::OwnedFd;
use std::{
    io,
    sync::{Arc, Mutex},
};
use wayland_server::{
    Resource,
    backend::ClientId,
    protocol::wl_shm::{self, WlShm},
};

pub struct Pool {
    /// Whose it is: errors are posted there, as the buffer and the pool may be gone.
    shm: WlShm,
    file: OwnedFd,
    guard: Option<Arc<Guard>>,
    mapping: Mutex<Mapping>,
}

impl Pool {
    pub fn new(
        shm: &WlShm,
        file: OwnedFd,
        len: usize,
        guard: Option<Arc<Guard>>,
    ) -> io::Result<Self> {
        let mapping = map(&file, len, Access::Read, guard.as_deref())?;
        Ok(Self {
            shm: shm.clone(),
            file,
            guard,
            mapping: Mutex::new(mapping),
        })
    }

    pub fn len(&self) -> usize {
        self.mapping.lock().unwrap().len()
    }

    /// Makes it longer: the client has made its file longer, and says so.
    pub fn grow(&self, len: usize) -> io::Result<()> {
        let longer = map(&self.file, len, Access::Read, self.guard.as_deref())?;
        // With the mapping goes what is known of it.
        self.tell();
        *self.mapping.lock().unwrap() = longer;
        Ok(())
    }

    /// Posts an error to the client if its file was found to be too short. Returns whose it is.
    pub fn tell(&self) -> Option<ClientId> {
        self.tell_of(&self.mapping.lock().unwrap())
    }

    fn tell_of(&self, mapping: &Mapping) -> Option<ClientId> {
        let complaint = match self.guard.as_ref()?.complaint(mapping) {
            Ok(complaint) => complaint?,
            Err(error) => format!("NOSIGBUS_STATUS: {error}"),
        };
        let client = self.shm.client()?;
        eprintln!("nosigbus-compositor: a client is disconnected: {complaint}");
        self.shm.post_error(wl_shm::Error::InvalidFd, complaint);
        Some(client.id())
    }

    /// Refuses the file as [`refuse`] does.
    pub fn refuse(&self, error: &io::Error) {
        refuse(&self.shm, error);
    }
}

/// Posts the error for a file that cannot be mapped, or not be opted in.
pub fn refuse(shm: &WlShm, error: &io::Error) {
    let message = format!("the file cannot be mapped: {error}");
    shm.post_error(wl_shm::Error::InvalidFd, message);
}

/// Maps a client's file. These are the lines that protect.
fn map(file: &OwnedFd, len: usize, access: Access, guard: Option<&Guard>) -> io::Result<Mapping> {
    let mapping = Mapping::new(file, len, access)?;
    if let Some(guard) = guard {
        guard.protect(&mapping)?;
    }
    Ok(mapping)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub width: usize,
    pub height: usize,
    pub stride: usize,
    pub format: wl_shm::Format,
}

/// Pixels of a pool; `shape` and `offset` are inside of it.
pub struct Buffer {
    pub pool: Arc<Pool>,
    pub offset: usize,
    pub shape: Shape,
}

impl Buffer {
    /// Hands over each of the first `height` lines, the first `width` pixels of it.
    pub fn read(&self, width: usize, height: usize, mut line: impl FnMut(usize, &[u8])) {
        let mapping = self.pool.mapping.lock().unwrap();
        let mut bytes = vec![0; width.min(self.shape.width) * 4];
        for y in 0..height.min(self.shape.height) {
            mapping.load(&mut bytes, self.offset + y * self.shape.stride);
            line(y, &bytes);
        }
    }

    /// Writes all lines into the client's file; `false` if it does not have them.
    pub fn write<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) -> io::Result<bool> {
        let guard = self.pool.guard.as_deref();
        let mut mapping = map(&self.pool.file, self.pool.len(), Access::ReadWrite, guard)?;
        for (y, line) in lines.take(self.shape.height).enumerate() {
            mapping.store(line, self.offset + y * self.shape.stride);
        }
        Ok(self.pool.tell_of(&mapping).is_none())
    }
}
