// SPDX-License-Identifier: GPL-2.0-only

//! The time.
//!
//! C header: [`include/linux/timekeeping.h`](srctree/include/linux/timekeeping.h)

/// Nanoseconds since boot, without the time spent suspended (`CLOCK_MONOTONIC`).
pub(crate) fn now() -> u64 {
    // SAFETY: Has no precondition.
    let now = unsafe { kernel::bindings::ktime_get() };
    now.unsigned_abs()
}
