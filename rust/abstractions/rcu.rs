// SPDX-License-Identifier: GPL-2.0-only

//! RCU read-side critical sections: waiting for them, and leaving one.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use super::bindings;
use kernel::prelude::*;

/// Drops what is in a box now, and frees its memory when every RCU read-side critical section that has
/// begun is over. Sleeps.
pub(crate) fn free<T>(object: KBox<T>) {
    let object = KBox::into_raw(object);
    // SAFETY: The box owned a value, which nobody uses any more, and memory from `kmalloc()`, which is
    // freed once.
    unsafe {
        core::ptr::drop_in_place(object);
        bindings::nosigbus_kfree_rcu(object.cast());
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
