// SPDX-License-Identifier: GPL-2.0-only

//! What to do, as functions of plain values: no pointers, no locks, no `unsafe`.

#![forbid(unsafe_code)]

pub(crate) mod eligibility;
pub(crate) mod errors;
pub(crate) mod fault;
pub(crate) mod growth;
pub(crate) mod range;

/// What kind of mapping has opted in, which decides how its faults are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// `MAP_PRIVATE`.
    Private,
    /// `MAP_SHARED`, not writable, and kept so.
    SharedRead,
    /// `MAP_SHARED`, writable when it opted in.
    SharedWrite,
}
