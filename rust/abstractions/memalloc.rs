// SPDX-License-Identifier: GPL-2.0-only

//! How memory is allocated by a task for a time, whoever asks for it.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use super::bindings;
use kernel::{
    bindings::{
        mem_cgroup,
        mm_struct, //
    },
    types::NotThreadSafe, //
};

/// Sets `PF_MEMALLOC` for the current task (`memalloc_noreclaim_save()`): allocations neither
/// reclaim nor wait. They may exceed the memcg limit and use reserves.
///
/// Use this only for a few small allocations (xarray nodes, page tables) that follow a larger one
/// made without it. Guards must nest.
pub(super) struct NoReclaim {
    flags: u32,
    _not_send: NotThreadSafe,
}

impl NoReclaim {
    pub(super) fn new() -> Self {
        Self {
            // SAFETY: Has no precondition.
            flags: unsafe { bindings::nosigbus_memalloc_noreclaim_save() },
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for NoReclaim {
    fn drop(&mut self) {
        // SAFETY: The flags of the matching save, in the same task.
        unsafe { bindings::nosigbus_memalloc_noreclaim_restore(self.flags) };
    }
}

/// Charges `__GFP_ACCOUNT` allocations of this task to the memcg of `mm` (`set_active_memcg()`).
/// Without it, a remote access (`process_vm_writev(2)`, io_uring worker) would charge the accessing
/// task for pages of the target process.
///
/// To be dropped in the reverse order of creation.
///
/// # Invariants
///
/// Owns a reference on `memcg`, if it is not null, which is the task's active one.
pub(crate) struct ChargedTo {
    memcg: *mut mem_cgroup,
    before: *mut mem_cgroup,
    _not_send: NotThreadSafe,
}

impl ChargedTo {
    /// `None` if this task is a process of that address space, and so charged by itself.
    ///
    /// # Safety
    ///
    /// `mm` must be valid.
    pub(super) unsafe fn new(mm: *mut mm_struct) -> Option<Self> {
        // SAFETY: Has no precondition.
        if unsafe { bindings::nosigbus_is_task_of(mm) } {
            return None;
        }
        // SAFETY: As the caller promises; the reference that has come with it is this one's.
        let (memcg, before) = unsafe {
            let memcg = bindings::nosigbus_get_mem_cgroup_from_mm(mm);
            (memcg, bindings::nosigbus_set_active_memcg(memcg))
        };
        // INVARIANT: As above.
        Some(Self {
            memcg,
            before,
            _not_send: NotThreadSafe,
        })
    }
}

impl Drop for ChargedTo {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; in the same task.
        unsafe {
            bindings::nosigbus_set_active_memcg(self.before);
            bindings::nosigbus_mem_cgroup_put(self.memcg);
        }
    }
}
