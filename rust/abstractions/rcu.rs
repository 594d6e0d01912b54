// SPDX-License-Identifier: GPL-2.0-only

//! RCU read-side critical sections: waiting for them, and leaving one.
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

/// Calls `f`, which may sleep, outside of the RCU read-side critical section that the caller is in.
///
/// # Safety
///
/// The caller must be in exactly one, and neither it nor who has begun it may rely on anything that
/// is protected by it alone, found before this and used after.
pub(super) unsafe fn outside<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: In one, as the caller promises.
    unsafe { kernel::bindings::rcu_read_unlock() };
    let result = f();
    // SAFETY: May be called anywhere.
    unsafe { kernel::bindings::rcu_read_lock() };
    result
}
