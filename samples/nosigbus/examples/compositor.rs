// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a Wayland compositor does with the file of a client's buffers: it maps as much as the client
//! has said, reads frames, lets the pool grow, and hears from its event loop when the client has
//! lied. Where the module is not loaded it does the same with a plain mapping, and says so.

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
/// What the pool of the only client is known by.
const POOL: u64 = 1;

/// What there is once: made when the compositor starts.
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

    /// wl_shm.create_pool. The compositor reads from pools only, so they are mapped read-only: what
    /// stands in for a page costs no memory then.
    fn create_pool(&self, cookie: u64, file: impl AsFd, size: usize) -> nosigbus::Result<Mapping> {
        MapOptions::new(size)
            .tmpfs_only(true)
            .record_errors(true)
            .cookie(cookie)
            .map_or_plain(&self.device, file)
    }

    /// When the device is readable: the cookies of the pools to look at; `None` stands for all.
    fn told_of(&self) -> nosigbus::Result<Vec<Option<u64>>> {
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

/// wl_shm_pool.resize. What fails here is to become an error of wl_shm, `invalid_fd`.
fn resize_pool(pool: &mut Mapping, size: usize) -> nosigbus::Result<()> {
    pool.resize(size)
}

/// Of a pool that was told of. If this is true it belongs to a client to be sent away, with an error
/// of wl_shm, `invalid_fd`.
fn has_lied(pool: &Mapping) -> nosigbus::Result<bool> {
    // A plain one has no status: its client would have ended the compositor.
    Ok(pool.is_protected() && pool.status()?.check().is_err())
}

/// The client's side.
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
        // First the notices, then the status.
        if ready.is_empty() {
            continue;
        }
        for cookie in shm.told_of()? {
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
