// SPDX-License-Identifier: GPL-2.0-only

//! Waiting for RCU readers.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

/// Waits until every RCU read-side critical section that has begun is over. Sleeps.
pub(crate) fn synchronize() {
    // SAFETY: May be called wherever sleeping is allowed.
    unsafe { kernel::bindings::synchronize_rcu() };
}
