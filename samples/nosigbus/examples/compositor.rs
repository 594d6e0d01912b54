// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a Wayland compositor does with the file of a client's buffers. It maps as many bytes as the
//! client has said, reads frames, and lets the pool grow. Its event loop tells when the file was
//! shorter than the client has said. Without the module it uses a plain mapping, and says so.

use nosigbus::{Device, MapOptions, Mapping, Notice};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::{AsFd, OwnedFd},
    fs::{MemfdFlags, ftruncate, memfd_create},
    io::pwrite,
};
use std::{io, process::ExitCode};

const FRAME: usize = 640 * 480 * 4;
/// The cookie of the only pool.
const POOL: u64 = 1;

/// Created when the compositor starts.
struct Shm {
    device: nosigbus::Result<Device>,
}

impl Shm {
    fn new() -> Self {
        let device = Device::open();
        if let Err(error) = &device {
            eprintln!("compositor: {error}: clients can end it by shrinking a file");
        }
        Self { device }
    }

    /// wl_shm.create_pool. The compositor only reads pools, so it maps them read-only. In such a
    /// mapping, a page that the file does not have costs no memory.
    fn create_pool(&self, cookie: u64, file: impl AsFd, size: usize) -> nosigbus::Result<Mapping> {
        MapOptions::new(size)
            .tmpfs_only(true)
            .record_errors(true)
            .cookie(cookie)
            .map_or_plain(&self.device, file)
    }

    /// Runs when the device is readable. Returns the cookies of the pools to check; `None` stands
    /// for all pools.
    fn pools_to_check(&self) -> nosigbus::Result<Vec<Option<u64>>> {
        let Ok(device) = &self.device else {
            return Ok(Vec::new());
        };
        let notices = device.notices()?.into_iter();
        Ok(notices
            .map(|notice| match notice {
                Notice::StandIn(stand_in) => Some(stand_in.cookie),
                _ => None,
            })
            .collect())
    }
}

/// wl_shm_pool.resize. If it fails, send the client the error `invalid_fd` of wl_shm.
fn resize_pool(pool: &mut Mapping, size: usize) -> nosigbus::Result<()> {
    pool.resize(size)
}

/// Returns whether the file of a pool was shorter than the client has said. If it was, send the
/// client the error `invalid_fd` of wl_shm, which disconnects it.
fn has_lied(pool: &Mapping) -> nosigbus::Result<bool> {
    // A plain mapping has no status: SIGBUS would have killed the compositor.
    Ok(pool.is_protected() && pool.status()?.check().is_err())
}

/// Does what the client does: it creates a file and draws into it.
fn client_draws(size: usize) -> io::Result<OwnedFd> {
    let pool = memfd_create("wl_shm", MemfdFlags::CLOEXEC)?;
    ftruncate(&pool, size as u64)?;
    pwrite(&pool, &vec![1; size], 0)?;
    Ok(pool)
}

fn run() -> io::Result<()> {
    let file = client_draws(2 * FRAME)?;
    let shm = Shm::new();
    let mut pool = shm.create_pool(POOL, &file, FRAME)?;
    resize_pool(&mut pool, 2 * FRAME)?;

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    if let Ok(device) = &shm.device {
        epoll::add(&epoll, device, data, epoll::EventFlags::IN)?;
    }

    let mut frame = vec![0; FRAME];
    for size in [2 * FRAME, FRAME + FRAME / 2, 0, 2 * FRAME] {
        // Without the module, the next read would be the compositor's end.
        if !pool.is_protected() && size < 2 * FRAME {
            continue;
        }
        ftruncate(&file, size as u64)?;
        pool.read_at(FRAME, &mut frame)?;

        let drawn = frame.iter().filter(|&&byte| byte != 0).count();
        println!("file: {size} bytes; frame: {drawn} bytes drawn");
        let mut ready = Vec::with_capacity(1);
        epoll::wait(
            &epoll,
            spare_capacity(&mut ready),
            Some(&Timespec::default()),
        )?;
        if ready.is_empty() {
            continue;
        }
        // First the notices, then the status: only then can the pool cause another notice.
        for cookie in shm.pools_to_check()? {
            if cookie.is_none_or(|cookie| cookie == POOL) && has_lied(&pool)? {
                println!("the client has cut its pool off");
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compositor: {error}");
            ExitCode::FAILURE
        }
    }
}
