// SPDX-License-Identifier: GPL-2.0-only

//! Allocating memory without waiting for file systems.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use super::bindings;
use kernel::types::NotThreadSafe;

/// While it exists, reclaim on behalf of this task does not enter file systems.
///
/// To be dropped in the reverse order of creation.
pub(crate) struct NoFs {
    flags: u32,
    _not_send: NotThreadSafe,
}

impl NoFs {
    pub(crate) fn new() -> Self {
        Self {
            // SAFETY: Has no precondition.
            flags: unsafe { bindings::nosigbus_memalloc_nofs_save() },
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for NoFs {
    fn drop(&mut self) {
        // SAFETY: The flags of the matching save, in the same task.
        unsafe { bindings::nosigbus_memalloc_nofs_restore(self.flags) };
    }
}
