// SPDX-License-Identifier: GPL-2.0-only

//! The mmap lock, held for write.
//!
//! C header: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h)

use super::{
    bindings,
    vma::LockedVma, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    mm::MmWithUser,
    prelude::*,
    types::NotThreadSafe, //
};

/// The mmap lock of an address space, held for write: its VMAs cannot change under it.
///
/// # Invariants
///
/// Owns the write side of `mm`'s mmap lock.
#[must_use = "the mmap lock is released as soon as it is dropped"]
pub(crate) struct MmapWriteGuard<'mm> {
    mm: &'mm MmWithUser,
    // The task that locked it has to unlock it.
    _not_send: NotThreadSafe,
}

impl<'mm> MmapWriteGuard<'mm> {
    /// Takes the mmap lock for write.
    ///
    /// # Context
    ///
    /// Sleeps. The task must not hold the mmap lock of `mm`.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task was killed while it waited.
    pub(crate) fn lock_killable(mm: &'mm MmWithUser) -> Result<Self> {
        // SAFETY: `mm` is valid, its `mm_users` is not zero.
        to_result(unsafe { bindings::nosigbus_mmap_write_lock_killable(mm.as_raw()) })?;
        // INVARIANT: Locked just now.
        Ok(Self {
            mm,
            _not_send: NotThreadSafe,
        })
    }

    /// Returns the VMA that contains `addr`, and those that follow it, up to the first hole.
    ///
    /// The iterator returns each VMA once, and borrows the guard mutably for as long as any of them
    /// is in use. So there are never two [`LockedVma`]s of one VMA.
    pub(crate) fn vmas_from(&mut self, addr: usize) -> Vmas<'_> {
        // INVARIANT: `self` is borrowed for as long as a `LockedVma` from it exists, so none exists
        // now.
        Vmas {
            guard: self,
            next: addr,
        }
    }
}

/// VMAs that follow each other without a hole.
///
/// # Invariants
///
/// No [`LockedVma`] exists for a VMA of `guard` that is at `next` or above.
pub(crate) struct Vmas<'g> {
    guard: &'g MmapWriteGuard<'g>,
    next: usize,
}

impl<'g> Iterator for Vmas<'g> {
    type Item = LockedVma<'g>;

    fn next(&mut self) -> Option<LockedVma<'g>> {
        // SAFETY: By the invariants of `MmapWriteGuard` the mmap lock is held. Any address may be
        // looked up.
        let vma = unsafe { kernel::bindings::vma_lookup(self.guard.mm.as_raw(), self.next) };
        let vma = NonNull::new(vma)?;

        // SAFETY: A VMA of `mm`, whose mmap lock `guard` holds for write for as long as the result
        // borrows it. By the type invariants there is no other `LockedVma` of it.
        let vma = unsafe { LockedVma::from_raw(vma) };
        // INVARIANT: The VMA returned here ends at the new `next`.
        self.next = vma.end();
        Some(vma)
    }
}

impl Drop for MmapWriteGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held for write. This also releases the write
        // locks of all VMAs that were taken under it.
        unsafe { bindings::nosigbus_mmap_write_unlock(self.mm.as_raw()) };
    }
}
