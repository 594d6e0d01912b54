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

/// A `struct kvfree_rcu_head`, embedded in a value that [`free`] frees after a grace period.
pub(super) struct Head(Opaque<kvfree_rcu_head>);

impl Head {
    /// Not used yet.
    pub(super) const fn new() -> Self {
        Self(Opaque::uninit())
    }
}

// SAFETY: No method takes `&Head`. Only `free` uses it, and that owns the value.
unsafe impl Sync for Head {}
// SAFETY: `struct kvfree_rcu_head` is not tied to a thread.
unsafe impl Send for Head {}

/// Exclusive upper bound of the offset of a [`Head`] in its value. `kvfree_rcu()` has the same
/// limit (`kvfree_rcu_arg_2()`).
pub(super) const MAX_OFFSET: usize = 4096;

/// Drops the value in `object` immediately and frees its memory after an RCU grace period. `head`
/// must project to the value's [`Head`].
///
/// # Context
///
/// Does not wait for the grace period. Sleeps if dropping the value does.
///
/// # Safety
///
/// `head` must return a pointer to the [`Head`] in the value that it is called with. The offset of
/// that field must be less than [`MAX_OFFSET`].
pub(super) unsafe fn free<T>(object: KBox<T>, head: impl FnOnce(*mut T) -> *mut Head) {
    let object = KBox::into_raw(object);
    // SAFETY: We own the box: its value, which is dropped once, and its memory from `kmalloc()`,
    // which is freed once. `Head` has no drop glue, so the field is still valid after
    // `drop_in_place()`. The caller promises that `head` returns it, at an offset that
    // `kvfree_call_rcu()` accepts.
    unsafe {
        core::ptr::drop_in_place(object);
        bindings::nosigbus_kvfree_call_rcu((*head(object)).0.get().cast(), object.cast());
    }
}

/// Waits for an expedited RCU grace period (`synchronize_rcu_expedited()`). This sends an IPI to
/// each non-idle CPU. With `CONFIG_PREEMPT_RT` or `rcu_normal=1` it behaves like
/// `synchronize_rcu()`.
///
/// # Context
///
/// Sleeps. Must not be called in an RCU read-side critical section.
///
/// Memory ordering: every CPU executes a full barrier during the call. So for this store-buffering
/// pattern
///
/// ```text
/// task A: store X; synchronize_expedited(); load Y
/// task B: store Y; load X
/// ```
///
/// at least one load sees the other task's store. RCU documents this only for read-side critical
/// sections; see Documentation/unsafe.rst for the code that we rely on.
pub(crate) fn synchronize_expedited() {
    // SAFETY: May be called wherever sleeping is allowed.
    unsafe { kernel::bindings::synchronize_rcu_expedited() };
}
