// SPDX-License-Identifier: GPL-2.0-only

//! Waiting for RCU read-side critical sections.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use super::bindings;
use kernel::{
    bindings::kvfree_rcu_head,
    prelude::*,
    types::Opaque, //
};

/// What it takes to free the memory of a value after a grace period, without waiting and without
/// allocating.
pub(super) struct Head(Opaque<kvfree_rcu_head>);

impl Head {
    /// Not used yet.
    pub(super) const fn new() -> Self {
        Self(Opaque::uninit())
    }
}

// SAFETY: Only `free` uses it, when it has the value to itself.
unsafe impl Sync for Head {}
// SAFETY: It belongs to no thread.
unsafe impl Send for Head {}

/// A [`Head`] is less than so many bytes behind the start of its value (`kvfree_rcu_arg_2()`).
pub(super) const MAX_OFFSET: usize = 4096;

/// Drops what is in a box now, and has its memory freed when every RCU read-side critical section that
/// has begun is over. `head` returns the field of the value that is its [`Head`].
///
/// # Safety
///
/// `head` must do that, and the field be at an offset below [`MAX_OFFSET`].
pub(super) unsafe fn free<T>(object: KBox<T>, head: impl FnOnce(*mut T) -> *mut Head) {
    let object = KBox::into_raw(object);
    // SAFETY: The box owned a value, which nobody uses any more, and memory from `kmalloc()`, which is
    // freed once. `Head` has no drop, so the field is still there, as the caller promises.
    unsafe {
        core::ptr::drop_in_place(object);
        bindings::nosigbus_kfree_rcu((*head(object)).0.get().cast(), object.cast());
    }
}

/// Waits until every RCU read-side critical section that has begun is over. Sleeps.
pub(crate) fn synchronize() {
    // SAFETY: May be called wherever sleeping is allowed.
    unsafe { kernel::bindings::synchronize_rcu() };
}

/// As [`synchronize`], and soon, by an interrupt of each CPU that is not idle. (With `CONFIG_PREEMPT_RT`,
/// or `rcu_normal`, it is the same.)
///
/// All of them pass a full memory barrier meanwhile, whatever they are doing (a CPU that is idle, or in user
/// space, by what tells RCU so, any other by the interrupt or the lock of an `rcu_node`): of a
/// store before this and a load after it, against a store and a load of another task in the other
/// order, one load sees the other's store.
pub(crate) fn synchronize_expedited() {
    // SAFETY: As above.
    unsafe { kernel::bindings::synchronize_rcu_expedited() };
}
