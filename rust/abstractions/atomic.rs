// SPDX-License-Identifier: GPL-2.0-only

//! Operations that `kernel::sync::atomic` lacks.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Reads `value` like `READ_ONCE()`. This is a relaxed load. It avoids the call that
/// [`Atomic::load`] makes when the kernel is built without `CONFIG_RUST_INLINE_HELPERS`.
pub(crate) fn read_once(value: &Atomic<bool>) -> bool {
    // SAFETY: The pointer is valid. By the kernel's memory model a volatile read is a
    // `READ_ONCE()`, which does not race with atomic accesses.
    unsafe { value.as_ptr().read_volatile() }
}

/// Replaces `value` by `new(value)` atomically. Relaxed: orders nothing. Stores nothing if the
/// value stays the same.
pub(crate) fn update(value: &Atomic<u64>, new: impl Fn(u64) -> u64) {
    let mut old = value.load(Relaxed);
    while new(old) != old {
        match value.cmpxchg(old, new(old), Relaxed) {
            Ok(_) => break,
            Err(other) => old = other,
        }
    }
}
