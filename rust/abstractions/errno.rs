// SPDX-License-Identifier: GPL-2.0-only

//! Error numbers that `kernel::error::code` lacks.

use kernel::error::Error;

/// Operation not supported on this kind of mapping.
pub(crate) fn eopnotsupp() -> Error {
    Error::from_errno(-(kernel::bindings::EOPNOTSUPP as kernel::ffi::c_int))
}

/// Broken memory.
pub(crate) fn ehwpoison() -> Error {
    Error::from_errno(-(kernel::bindings::EHWPOISON as kernel::ffi::c_int))
}
