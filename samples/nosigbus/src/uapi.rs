// SPDX-License-Identifier: MIT OR Apache-2.0

//! include/uapi/linux/nosigbus.h: what bindgen makes of it (bindings.rs), and the ioctls. bindgen
//! cannot evaluate the macros that are their numbers.
//!
//! No function here allocates memory or changes errno.

use rustix::{
    fd::AsFd,
    io,
    ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode},
};
use std::mem::{offset_of, size_of};

pub use crate::bindings::*;

pub const DEVICE: &str = "/dev/nosigbus";

const MAGIC: u8 = NOSIGBUS_IOC_MAGIC as u8;
const QUERY: Opcode = opcode::read::<nosigbus_query>(MAGIC, 0);
const ENABLE: Opcode = opcode::write::<nosigbus_enable>(MAGIC, 1);
const DISABLE: Opcode = opcode::write::<nosigbus_disable>(MAGIC, 2);
const STATUS: Opcode = opcode::read_write::<nosigbus_status>(MAGIC, 3);

/// Asks what the module can do.
pub fn query(device: impl AsFd) -> io::Result<nosigbus_query> {
    // SAFETY: NOSIGBUS_QUERY fills in a `struct nosigbus_query`, and nothing else.
    unsafe { ioctl(device, Getter::<QUERY, _>::new()) }
}

/// Opts a range in.
///
/// # Safety
///
/// With `NOSIGBUS_RECORD_ERRORS`, that of [`Device::enable_recording`](crate::Device).
pub unsafe fn enable(device: impl AsFd, request: nosigbus_enable) -> io::Result<()> {
    // SAFETY: NOSIGBUS_ENABLE reads a `struct nosigbus_enable`. "What is unsafe" in the crate's
    // documentation says what it does to memory. The caller answers for NOSIGBUS_RECORD_ERRORS.
    unsafe { ioctl(device, Setter::<ENABLE, _>::new(request)) }
}

/// Opts a range out.
///
/// # Safety
///
/// That of [`Device::disable`](crate::Device).
pub unsafe fn disable(device: impl AsFd, request: nosigbus_disable) -> io::Result<()> {
    // SAFETY: NOSIGBUS_DISABLE reads a `struct nosigbus_disable`. The caller guarantees that no
    // code relies on the memory that it changes.
    unsafe { ioctl(device, Setter::<DISABLE, _>::new(request)) }
}

/// Asks for the status of a mapping.
///
/// # Safety
///
/// With `NOSIGBUS_CLEAR_ERROR`, that of [`Device::clear_error`](crate::Device).
pub unsafe fn status(device: impl AsFd, status: &mut nosigbus_status) -> io::Result<()> {
    // SAFETY: NOSIGBUS_STATUS reads and fills in a `struct nosigbus_status`. It changes other
    // memory only for NOSIGBUS_CLEAR_ERROR, and the caller answers for that.
    unsafe { ioctl(device, Updater::<STATUS, _>::new(status)) }
}

/// Asserts the size of a structure and the offsets of all its fields.
macro_rules! layout {
    ($name:ident: $size:literal { $($field:ident: $offset:literal),* $(,)? }) => {
        const _: () = assert!(size_of::<$name>() == $size);
        $(const _: () = assert!(offset_of!($name, $field) == $offset);)*
        // All of them: a field that is not listed does not compile.
        const _: fn($name) = |$name { $($field: _),* }| {};
    };
}

layout!(nosigbus_query: 64 {
    version: 0,
    reserved: 4,
    features: 8,
    enable_flags: 16,
    reserved2: 24,
});
layout!(nosigbus_enable: 48 {
    addr: 0,
    len: 8,
    flags: 16,
    eventfd: 20,
    cookie: 24,
    reserved: 32,
});
layout!(nosigbus_disable: 32 {
    addr: 0,
    len: 8,
    reserved: 16,
});
layout!(nosigbus_event: 32 {
    cookie: 0,
    offset: 8,
    kind: 16,
    flags: 20,
    reserved: 24,
});
layout!(nosigbus_status: 128 {
    addr: 0,
    request: 8,
    flags: 12,
    zero_pages: 16,
    private_pages: 24,
    shadow_pages: 32,
    shadow_pages_held: 40,
    given_back: 48,
    errors: 56,
    error_offset: 64,
    error: 72,
    error_flags: 76,
    reserved: 80,
});
