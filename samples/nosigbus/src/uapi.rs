// SPDX-License-Identifier: MIT OR Apache-2.0

//! include/uapi/linux/nosigbus.h: what bindgen makes of it (bindings.rs), and the numbers of the
//! ioctls, which are macros that bindgen cannot evaluate.

use rustix::ioctl::{Opcode, opcode};
use std::mem::{offset_of, size_of};

pub(crate) use crate::bindings::*;

const MAGIC: u8 = NOSIGBUS_IOC_MAGIC as u8;

pub(crate) const QUERY: Opcode = opcode::read::<nosigbus_query>(MAGIC, 0);
pub(crate) const ENABLE: Opcode = opcode::write::<nosigbus_enable>(MAGIC, 1);
pub(crate) const DISABLE: Opcode = opcode::write::<nosigbus_disable>(MAGIC, 2);
pub(crate) const STATUS: Opcode = opcode::read_write::<nosigbus_status>(MAGIC, 3);

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
