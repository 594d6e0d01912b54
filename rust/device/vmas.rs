// SPDX-License-Identifier: GPL-2.0-only

//! The VMAs that a range consists of.

use crate::{
    abstractions::{
        mm::MmapWriteGuard,
        vma::LockedVma, //
    },
    policy::range::PageRange,
};
use kernel::prelude::*;

/// Calls `each` for every VMA of `range`, by address, until one fails.
///
/// # Errors
///
/// `ENOMEM` at a hole in the range, `EINVAL` at a VMA that is not in it as a whole. Or that of
/// `each`.
pub(super) fn for_each_vma<'g>(
    guard: &'g mut MmapWriteGuard<'_>,
    range: &PageRange,
    mut each: impl FnMut(LockedVma<'g>) -> Result,
) -> Result {
    let mut next = range.start();
    let mut vmas = guard.vmas_from(next);
    while next < range.end() {
        let vma = vmas.next().ok_or(ENOMEM)?;
        range.check_whole(vma.start(), vma.end())?;
        next = vma.end();
        each(vma)?;
    }
    Ok(())
}
