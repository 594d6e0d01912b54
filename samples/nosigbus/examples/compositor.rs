// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a Wayland compositor does with the file of a client's buffer: it maps as much as the client
//! has said, reads frames, and hears from its event loop when the client has lied.

use nosigbus::{Device, Event, MapOptions};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fs::{MemfdFlags, ftruncate, memfd_create},
    io::pwrite,
};
use std::{io, process::ExitCode};

const FRAME: usize = 640 * 480 * 4;

fn run() -> io::Result<()> {
    // The client's side.
    let pool = memfd_create("wl_shm", MemfdFlags::CLOEXEC)?;
    ftruncate(&pool, FRAME as u64)?;
    pwrite(&pool, &[1; FRAME], 0)?;

    // The compositor's.
    let event = Event::new()?;
    let mapping = MapOptions::new(FRAME)
        .event(&event)
        .map(&Device::open()?, &pool)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&epoll, &event, data, epoll::EventFlags::IN)?;

    let mut frame = vec![0; FRAME];
    for size in [FRAME, FRAME / 2, 0, FRAME] {
        ftruncate(&pool, size as u64)?;
        mapping.read_at(0, &mut frame)?;

        let drawn = frame.iter().filter(|&&byte| byte != 0).count();
        println!("file: {size} bytes; frame: {drawn} bytes drawn");
        let mut ready = Vec::with_capacity(1);
        epoll::wait(
            &epoll,
            spare_capacity(&mut ready),
            Some(&Timespec::default()),
        )?;
        // First take(), then status().
        if !ready.is_empty() && event.take()? {
            let pages = mapping.status()?.stand_ins();
            println!("the client has cut its pool off: {pages} stand-ins so far");
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
