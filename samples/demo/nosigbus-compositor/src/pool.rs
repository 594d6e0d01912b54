// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pools, the files that clients draw into, and the buffers in them.

use crate::{
    files::{ClientFile, Files, complaint},
    limits::{self, Kind, Share},
    log,
};
use nosigbus::{ErrorKind, MapOptions, Mapping};
use rustix::param::page_size;
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use wayland_server::{
    Client, Resource,
    backend::ClientId,
    protocol::{
        wl_buffer::WlBuffer,
        wl_shm::{self, WlShm},
    },
};

/// The mapping of a pool. It is read-only, so a stand-in costs no memory. In a writable mapping
/// each stand-in is a page of 4 KiB that cannot be swapped out, even for reads. A client could
/// make the compositor read a whole pool whose file has no pages.
struct Mapped {
    mapping: Mapping,
    bytes: Share,
}

pub struct Pool {
    /// The cookie by which the device reports the mapping.
    pub cookie: u64,
    /// The client's wl_shm. Errors are posted on it, because the buffer and the pool may be
    /// destroyed.
    shm: WlShm,
    file: ClientFile,
    files: Arc<Files>,
    mapped: Mutex<Mapped>,
    _share: Share,
}

impl Pool {
    /// Maps the file. If that fails, posts an error to the client and returns `None`.
    pub fn new(
        client: &Client,
        shm: &WlShm,
        file: ClientFile,
        len: usize,
        files: Arc<Files>,
    ) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let cookie = NEXT.fetch_add(1, Relaxed);
        let share = limits::take(client, Kind::Pools, 1, shm)?;
        let bytes = limits::take(client, Kind::Bytes, len, shm)?;
        let mapping = match files.map(MapOptions::new(len).cookie(cookie), &file) {
            Ok(mapping) => mapping,
            Err(error) => {
                refuse(shm, error);
                return None;
            }
        };
        Some(Self {
            cookie,
            shm: shm.clone(),
            file,
            files,
            mapped: Mutex::new(Mapped { mapping, bytes }),
            _share: share,
        })
    }

    fn mapped(&self) -> MutexGuard<'_, Mapped> {
        self.mapped.lock().expect("a panic ends the compositor")
    }

    pub fn len(&self) -> usize {
        self.mapped().mapping.len()
    }

    /// Grows the mapping, after the client has grown its file. The mapping may move, so it is used
    /// only under the lock. It keeps its counts and its recorded error.
    pub fn grow(&self, len: usize) {
        let mut mapped = self.mapped();
        let more = len.saturating_sub(mapped.mapping.len());
        if let Err(exceeded) = mapped.bytes.extend(more) {
            limits::refuse(&self.shm, exceeded);
        } else if let Err(error) = mapped.mapping.resize(len) {
            refuse(&self.shm, error);
        }
    }

    /// Posts an error to the client if an access found its file too short. Returns that client.
    pub fn tell(&self) -> Option<ClientId> {
        let complaint = complaint(&self.mapped().mapping);
        self.post(complaint?)
    }

    fn post(&self, complaint: String) -> Option<ClientId> {
        let client = self.shm.client()?;
        log::disconnected(&complaint);
        self.shm.post_error(wl_shm::Error::InvalidFd, complaint);
        Some(client.id())
    }
}

/// Posts the error for a file that cannot be mapped, or not be opted in.
fn refuse(shm: &WlShm, error: nosigbus::Error) {
    let message = match error.kind() {
        ErrorKind::NotTmpfs => {
            "the file is neither a memfd nor on a tmpfs, and its server may not answer".into()
        }
        _ => format!("the file cannot be mapped: {error}"),
    };
    log::disconnected(&message);
    shm.post_error(wl_shm::Error::InvalidFd, message);
}

/// Bytes of a pixel, in all formats that are offered.
pub const PIXEL: usize = 4;

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
    pub _share: Share,
}

impl Buffer {
    pub fn of(resource: &WlBuffer) -> &Arc<Self> {
        resource.data().expect("every wl_buffer has it")
    }

    /// Calls `line` with the first `width` pixels of each of the first `height` lines. It passes
    /// copies, which the client cannot change.
    pub fn read(&self, width: usize, height: usize, mut line: impl FnMut(usize, &[u8])) {
        let mapped = self.pool.mapped();
        let mut bytes = vec![0; width.min(self.shape.width) * PIXEL];
        for y in 0..height.min(self.shape.height) {
            let offset = self.offset + y * self.shape.stride;
            if mapped.mapping.read_at(offset, &mut bytes).is_ok() {
                line(y, &bytes);
            }
        }
    }

    /// Writes all lines into the client's file. Returns `false` if the file is too short. Only this
    /// function maps the file writable, and only the part that it writes.
    pub fn write<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) -> nosigbus::Result<bool> {
        let Shape { height, stride, .. } = self.shape;
        let before = self.offset % page_size();
        let options = MapOptions::new(before + height * stride)
            .offset((self.offset - before) as u64)
            .write(true);
        let mapping = self.pool.files.map(options, &self.pool.file)?;
        for (y, line) in lines.take(height).enumerate() {
            mapping.write_at(before + y * stride, line)?;
        }
        let complaint = complaint(&mapping);
        // `close` returns the same error as `complaint`, which is sent to the client.
        let _ = mapping.close();
        Ok(complaint
            .and_then(|complaint| self.pool.post(complaint))
            .is_none())
    }
}
