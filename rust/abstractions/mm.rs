// SPDX-License-Identifier: GPL-2.0-only

//! The mmap lock, held for write.
//!
//! C header: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h)

use super::{
    bindings,
    vma::LockedVma, //
};
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
pub(crate) struct MmapWriteGuard<'mm> {
    mm: &'mm MmWithUser,
    // The task that locked it has to unlock it.
    _not_send: NotThreadSafe,
}

impl<'mm> MmapWriteGuard<'mm> {
    /// Takes the mmap lock for write.
    ///
    /// Sleeps; `mmap_lock` must not be held. Fails with `EINTR` if the task was killed meanwhile.
    pub(crate) fn lock_killable(mm: &'mm MmWithUser) -> Result<Self> {
        // SAFETY: `mm` is valid, its `mm_users` is not zero.
        to_result(unsafe { bindings::nosigbus_mmap_write_lock_killable(mm.as_raw()) })?;
        // INVARIANT: Locked just now.
        Ok(Self {
            mm,
            _not_send: NotThreadSafe,
        })
    }

    /// The VMA that contains `addr`, if there is one.
    pub(crate) fn vma_lookup(&self, addr: usize) -> Option<LockedVma<'_>> {
        // SAFETY: By the type invariants the mmap lock is held. Any address may be looked up.
        let vma = unsafe { kernel::bindings::vma_lookup(self.mm.as_raw(), addr) };

        // SAFETY: A VMA of `mm`, whose mmap lock this guard holds for write for as long as the
        // result borrows it.
        core::ptr::NonNull::new(vma).map(|vma| unsafe { LockedVma::from_raw(vma) })
    }
}

impl Drop for MmapWriteGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held for write. This also releases the write
        // locks of all VMAs that were taken under it.
        unsafe { bindings::nosigbus_mmap_write_unlock(self.mm.as_raw()) };
    }
}
