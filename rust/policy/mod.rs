// SPDX-License-Identifier: GPL-2.0-only

//! Decisions, as functions of plain values (and, in [`fault::answer`], of a closure that is asked
//! only where its answer matters), without `unsafe`. [`errors::PageSet`] is the exception: a data
//! structure.

#![forbid(unsafe_code)]

pub(crate) mod eligibility;
pub(crate) mod errors;
pub(crate) mod fault;
pub(crate) mod growth;
pub(crate) mod range;

/// Class of a mapping, fixed at ENABLE; decides which stand-ins it gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// `MAP_PRIVATE`.
    Private,
    /// `MAP_SHARED`, not writable, and kept so.
    SharedRead,
    /// `MAP_SHARED`, writable when it opted in.
    SharedWrite,
}
