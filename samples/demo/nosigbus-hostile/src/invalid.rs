// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests that no compositor should believe.

use crate::{Options, pool::Pool, session::Session};
use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    fs::File,
    os::{fd::OwnedFd, unix::net::UnixStream},
};
use wayland_client::protocol::wl_shm::Format::{self, C8, Xrgb8888};

const SIZE: i32 = 1 << 16;

/// Offset, width, height, bytes of a line, and format: one of them is wrong.
const BUFFERS: [(&str, [i32; 4], Format); 12] = [
    ("offset-negative", [-4, 16, 16, 64], Xrgb8888),
    ("offset-outside", [SIZE, 16, 16, 64], Xrgb8888),
    ("offset-overflow", [i32::MAX - 3, 16, 16, 64], Xrgb8888),
    ("width-zero", [0, 0, 16, 64], Xrgb8888),
    ("width-negative", [0, -16, 16, 64], Xrgb8888),
    ("width-overflow", [0, 1 << 30, 16, 64], Xrgb8888),
    ("height-zero", [0, 16, 0, 64], Xrgb8888),
    ("height-outside", [0, 16, SIZE / 64 + 1, 64], Xrgb8888),
    ("height-overflow", [0, 16, 1 << 26, 64], Xrgb8888),
    ("stride-negative", [0, 16, 16, -64], Xrgb8888),
    ("stride-short", [0, 16, 16, 63], Xrgb8888),
    ("format", [0, 16, 16, 64], C8),
];

/// The size of a pool, at first and after a resize.
const POOLS: [(&str, [i32; 2]); 5] = [
    ("pool-zero", [0, 0]),
    ("pool-negative", [-1, -1]),
    ("resize-zero", [SIZE, 0]),
    ("resize-negative", [SIZE, i32::MIN]),
    ("resize-shorter", [SIZE, SIZE - 1]),
];

/// A file descriptor that cannot be mapped.
const NO_FILE: &str = "file";
/// A file whose pages are huge, of which some mappings cannot be undone.
const HUGE_PAGES: &str = "file-huge-pages";

pub fn cases() -> impl Iterator<Item = &'static str> {
    let buffers = BUFFERS.iter().map(|buffer| buffer.0);
    let pools = POOLS.iter().map(|pool| pool.0);
    buffers.chain(pools).chain([NO_FILE, HUGE_PAGES])
}

pub fn run(session: &mut Session, options: &Options, case: &str) -> Result<()> {
    if case == NO_FILE {
        let (socket, _peer) = UnixStream::pair()?;
        Pool::new(session, File::from(OwnedFd::from(socket)), SIZE)?;
        return session.roundtrip();
    }
    if case == HUGE_PAGES {
        let file: File = memfd_create("wl_shm", MemfdFlags::HUGETLB)
            .context("memfd_create")?
            .into();
        Pool::new(session, file, SIZE)?;
        return session.roundtrip();
    }
    let file = options.place.create()?;
    file.set_len(SIZE as u64).context("ftruncate")?;
    if let Some((_, [size, resized])) = POOLS.iter().find(|pool| pool.0 == case) {
        Pool::new(session, file, *size)?.proxy.resize(*resized);
    } else if let Some((_, [offset, width, height, stride], format)) =
        BUFFERS.iter().find(|buffer| buffer.0 == case)
    {
        let pool = Pool::new(session, file, SIZE)?.proxy;
        pool.create_buffer(
            *offset,
            *width,
            *height,
            *stride,
            *format,
            &session.handle,
            0,
        );
    } else {
        bail!("no such case: {case}; \"invalid list\" lists them");
    }
    session.roundtrip()
}
