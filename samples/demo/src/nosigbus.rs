// SPDX-License-Identifier: GPL-2.0-only

//! The three lines that a compositor adds: open the device, fill in a request, one ioctl.

use anyhow::{Context, Result};
use rustix::{
    fs::{Mode, OFlags, open},
    ioctl::{Setter, ioctl, opcode},
};

mod uapi {
    #![allow(dead_code, non_camel_case_types, non_upper_case_globals, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/uapi.rs"));
}

const ENABLE: rustix::ioctl::Opcode =
    opcode::write::<uapi::nosigbus_enable>(uapi::NOSIGBUS_IOC_MAGIC as u8, 1);

/// Opts in the mapping at `addr`, of `len` bytes, a multiple of the page size.
pub fn enable(addr: *const u8, len: usize) -> Result<()> {
    let device = open(
        "/dev/nosigbus",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context("/dev/nosigbus: is the module loaded? (insmod nosigbus.ko)")?;
    let request = uapi::nosigbus_enable {
        addr: addr as u64,
        len: len as u64,
        flags: 0,
        eventfd: 0,
        reserved: [0; 3],
    };

    // SAFETY: NOSIGBUS_ENABLE reads a `struct nosigbus_enable`. It changes what memory past EOF
    // reads as, and that only where reading it would have killed the process.
    unsafe { ioctl(&device, Setter::<ENABLE, _>::new(request)) }.context("NOSIGBUS_ENABLE")
}
