// SPDX-License-Identifier: GPL-2.0-only

//! Memory barriers.
//!
//! C header: [`include/asm-generic/barrier.h`](srctree/include/asm-generic/barrier.h)
//!
//! Those of the kernel crate are called in another way in 7.3 than in 7.2.

use super::bindings;

/// A full memory barrier between CPUs.
pub(crate) fn smp_mb() {
    // SAFETY: Has no precondition.
    unsafe { bindings::nosigbus_smp_mb() };
}
