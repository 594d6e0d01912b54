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
/// made without it. Drop nested guards in reverse order: dropping the outermost one clears the
/// flag, whatever guards are left.
#[must_use = "memory is waited for again as soon as it is dropped"]
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
/// (`set_active_memcg()`). Without it, a remote access (`process_vm_writev(2)`, or a kernel thread
/// after `kthread_use_mm()`) would charge the accessing task for pages of the target process.
///
/// # Safety
///
/// `mm` must be valid.
pub(super) unsafe fn charged_to<R>(mm: *mut mm_struct, f: impl FnOnce() -> R) -> R {
    // A task of `mm` charges the right memcg anyway.
    // SAFETY: By the safety requirements `mm` is valid.
    if unsafe { bindings::nosigbus_is_task_of(mm) } {
        return f();
    }
    // SAFETY: By the safety requirements `mm` is valid.
    let memcg = unsafe { bindings::nosigbus_get_mem_cgroup_from_mm(mm) };
    // SAFETY: `get_mem_cgroup_from_mm()` has returned `memcg` with a reference, or null. The
    // reference is put below, after `memcg` has ceased to be the active one.
    let before = unsafe { bindings::nosigbus_set_active_memcg(memcg) };
    let result = f();
    // SAFETY: `before` was the active memcg of this task before `f`. Its setter keeps it valid
    // until it is replaced.
    unsafe { bindings::nosigbus_set_active_memcg(before) };
    // SAFETY: Puts the reference of `get_mem_cgroup_from_mm()`. `memcg` is not the active one any
    // more.
    unsafe { bindings::nosigbus_mem_cgroup_put(memcg) };
    result
}
