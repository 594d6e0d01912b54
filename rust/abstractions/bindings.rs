// SPDX-License-Identifier: GPL-2.0-only

//! What bindgen makes of `rust/bindings_helper.h`: the helpers of `rust/helpers.c`, the uAPI, and
//! constants that `kernel::bindings` lacks. All other types are those of `kernel::bindings`.

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

// SAFETY: The structure is integers without padding (`static_assert` below), so any bytes are a
// valid value of it.
unsafe impl FromBytes for nosigbus_enable {}

// SAFETY: The structure is integers without padding (`static_assert` below), so any bytes are a
// valid value of it.
unsafe impl FromBytes for nosigbus_disable {}

// SAFETY: The structure is integers without padding (`static_assert` below), so all its bytes are
// initialised.
unsafe impl AsBytes for nosigbus_query {}

// The sums of the sizes of the fields: no padding.
kernel::static_assert!(size_of::<nosigbus_enable>() == 8 + 8 + 4 + 4 + 3 * 8);
kernel::static_assert!(size_of::<nosigbus_disable>() == 8 + 8 + 2 * 8);
kernel::static_assert!(size_of::<nosigbus_query>() == 4 + 4 + 8 + 8 + 5 * 8);
