// SPDX-License-Identifier: GPL-2.0-only

//! The life-time of the module's own code.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)
//!
//! Core mm calls a VMA's `vm_ops` without holding a reference on the module that they point into,
//! because it relies on `vma->vm_file`. That pins the module of the file system, not this one. So
//! each `Wrapped`
//! holds a [`ModuleRef`]. A file system's fault handler may drop the VMA lock and sleep. If the VMA
//! is unmapped meanwhile, its `ModuleRef` is gone when the handler returns into our text. So a
//! per-CPU counter counts such calls ([`Call`]). [`TextDrain`] waits until the count is zero, and
//! then until no task is in the last instructions of this module.

use super::bindings;
use kernel::time::{
    delay::fsleep,
    Delta, //
};

/// A reference on this module: while it exists, rmmod fails with `EWOULDBLOCK`.
///
/// # Invariants
///
/// Owns one reference, taken by `__module_get()`.
#[must_use = "the reference is put as soon as it is dropped"]
pub(crate) struct ModuleRef(());

impl ModuleRef {
    /// Takes a reference.
    ///
    /// # Safety
    ///
    /// Something else must keep the module loaded meanwhile: an open file of its device, a
    /// reference of an opted-in mapping, or a KUnit test, which runs while the module is loaded.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: `THIS_MODULE` is valid while code of this module runs. By the safety requirements
        // the module is not being unloaded, which `__module_get()` asks for.
        unsafe { bindings::nosigbus_module_get() };
        // INVARIANT: Taken just now.
        Self(())
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back. The caller's code
        // stays in memory until it has returned: see `TextDrain`.
        unsafe { bindings::nosigbus_module_put() };
    }
}

/// An active call from this module into a file system. The module's exit function waits for it.
///
/// # Invariants
///
/// Is counted by `nosigbus_calls()`, once.
#[must_use = "the call is uncounted as soon as it is dropped"]
pub(crate) struct Call(());

impl Call {
    /// Counts a call.
    ///
    /// # Safety
    ///
    /// As for [`ModuleRef::new`].
    pub(super) unsafe fn begin() -> Self {
        // SAFETY: It is always safe to call this.
        unsafe { bindings::nosigbus_call_begins() };
        // INVARIANT: Counted just now.
        Self(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this call is counted, and by nothing else than this value.
        unsafe { bindings::nosigbus_call_ends() };
    }
}

/// Waits, when it is dropped, until no task is in this module's code any more.
///
/// A task that has dropped the last [`ModuleRef`], or the last [`Call`], may be preempted before it
/// returns to core mm. Between the last `module_put()`, or the end of the last call, and that
/// return it cannot block. An RCU-tasks grace period ends only after every task has blocked or has
/// been in user space, so it waits for this task, too. (`kernel/rcu/tasks.h`; it was made for
/// freeing ftrace trampolines, the same situation.)
///
/// Drop it in the module's exit function, which runs after the last reference is gone.
pub(crate) struct TextDrain;

impl Drop for TextDrain {
    fn drop(&mut self) {
        // All mappings are gone, so no new call can begin, and the sum can only overestimate the
        // number of active calls.
        // SAFETY: Has no precondition.
        while unsafe { bindings::nosigbus_calls() } > 0 {
            fsleep(Delta::from_millis(1));
        }
        // SAFETY: May be called wherever sleeping is allowed, as in a module's exit function.
        unsafe { bindings::nosigbus_synchronize_rcu_tasks() };
    }
}

/// How many references there are on this module.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn module_refcount() -> i32 {
    // SAFETY: `THIS_MODULE` is valid while code of this module runs.
    unsafe { kernel::bindings::module_refcount(bindings::nosigbus_this_module()) }
}
