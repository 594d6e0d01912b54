// SPDX-License-Identifier: GPL-2.0-only

//! Scopes that change how the current task allocates memory.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use super::bindings;
use kernel::{
    bindings::mm_struct,
    types::NotThreadSafe, //
};

/// Sets `PF_MEMALLOC` for the current task (`memalloc_noreclaim_save()`): allocations neither
/// reclaim nor wait. They may exceed the memcg limit and use reserves.
///
/// Use this only for a few small allocations (xarray nodes, page tables) that follow a larger one
/// made without it.
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
        // SAFETY: `self.flags` was returned by the save in `new()`, in the same task, since this
        // type is not `Send`.
        unsafe { bindings::nosigbus_memalloc_noreclaim_restore(self.flags) };
    }
}

/// Runs `f` with this task's `__GFP_ACCOUNT` allocations charged to the memcg of `mm`
/// (`set_active_memcg()`). Without it, a remote access (`process_vm_writev(2)`, io_uring worker)
/// would charge the accessing task for pages of the target process.
///
/// # Safety
///
/// `mm` must be valid.
pub(super) unsafe fn charged_to<R>(mm: *mut mm_struct, f: impl FnOnce() -> R) -> R {
    // A task of `mm` is charged by itself.
    // SAFETY: By the safety requirements `mm` is valid.
    if unsafe { bindings::nosigbus_is_task_of(mm) } {
        return f();
    }
    // SAFETY: By the safety requirements `mm` is valid.
    let memcg = unsafe { bindings::nosigbus_get_mem_cgroup_from_mm(mm) };
    // SAFETY: The reference on `memcg` is given back after it has been replaced, below.
    let before = unsafe { bindings::nosigbus_set_active_memcg(memcg) };
    let result = f();
    // SAFETY: `before` was the active one of this task, and is for as long as who has set it says.
    unsafe { bindings::nosigbus_set_active_memcg(before) };
    // SAFETY: The reference that came with it; nobody uses it any more.
    unsafe { bindings::nosigbus_mem_cgroup_put(memcg) };
    result
}
