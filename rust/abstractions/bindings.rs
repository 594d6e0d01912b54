// SPDX-License-Identifier: GPL-2.0-only

//! The output of bindgen for `rust/bindings_helper.h`: the helpers of `rust/helpers`, the uAPI, and
//! functions, types and constants that `kernel::bindings` lacks. Types that `kernel::bindings`
//! has are taken from there.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::{
    bindings::*,
    ffi,
    transmute::{
        AsBytes,
        FromBytes, //
    },
};

include!(env!("NOSIGBUS_BINDINGS"));

// SAFETY: The structure is integers without padding (`assert_layout` below), so any bytes are a
// valid value of it.
unsafe impl FromBytes for nosigbus_enable {}

// SAFETY: The structure is integers without padding (`assert_layout` below), so any bytes are a
// valid value of it.
unsafe impl FromBytes for nosigbus_disable {}

// SAFETY: The structure is integers without padding (`assert_layout` below), so any bytes are a
// valid value of it.
unsafe impl FromBytes for nosigbus_status {}

// SAFETY: The structure is integers without padding (`assert_layout` below), so all its bytes are
// initialised.
unsafe impl AsBytes for nosigbus_status {}

// SAFETY: The structure is integers without padding (`assert_layout` below), so all its bytes are
// initialised.
unsafe impl AsBytes for nosigbus_query {}

// SAFETY: The structure is integers without padding (`assert_layout` below), so all its bytes are
// initialised.
unsafe impl AsBytes for nosigbus_event {}

/// Asserts the layout of a uAPI structure: each field lies at `start..end` (bytes), the fields
/// cover the structure, and there is no padding. The trailing literal is the size.
macro_rules! assert_layout {
    ($type:ty { $($field:ident: $start:literal..$end:literal),* $(,)? } $size:literal) => {
        $(
            kernel::static_assert!(core::mem::offset_of!($type, $field) == $start);
            // SAFETY: Evaluated by the compiler; the value is integers, for which zeros are valid.
            kernel::static_assert!(
                size_of_val(&unsafe { core::mem::zeroed::<$type>() }.$field) == $end - $start
            );
        )*
        kernel::static_assert!(0 $(+ $end - $start)* == $size);
        kernel::static_assert!(size_of::<$type>() == $size);
    };
}

assert_layout! {
    nosigbus_query {
        version: 0..4,
        reserved: 4..8,
        features: 8..16,
        enable_flags: 16..24,
        reserved2: 24..64,
    } 64
}
assert_layout! {
    nosigbus_enable {
        addr: 0..8,
        len: 8..16,
        flags: 16..20,
        eventfd: 20..24,
        cookie: 24..32,
        reserved: 32..48,
    } 48
}
assert_layout! {
    nosigbus_disable {
        addr: 0..8,
        len: 8..16,
        reserved: 16..32,
    } 32
}
assert_layout! {
    nosigbus_event {
        cookie: 0..8,
        offset: 8..16,
        kind: 16..20,
        flags: 20..24,
        reserved: 24..32,
    } 32
}
assert_layout! {
    nosigbus_status {
        addr: 0..8,
        request: 8..12,
        flags: 12..16,
        zero_pages: 16..24,
        private_pages: 24..32,
        shadow_pages: 32..40,
        shadow_pages_held: 40..48,
        given_back: 48..56,
        errors: 56..64,
        error_offset: 64..72,
        error: 72..76,
        error_flags: 76..80,
        reserved: 80..128,
    } 128
}
