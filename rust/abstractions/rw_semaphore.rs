// SPDX-License-Identifier: GPL-2.0-only

//! A reader-writer semaphore.
//!
//! C header: [`include/linux/rwsem.h`](srctree/include/linux/rwsem.h)

use super::bindings;
use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::{
    bindings::rw_semaphore,
    prelude::*,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// A value that many tasks may read or one may change. Whoever has to wait sleeps.
///
/// # Invariants
///
/// `sem` is initialised.
#[pin_data]
pub(crate) struct RwSemaphore<T> {
    #[pin]
    sem: Opaque<rw_semaphore>,
    value: UnsafeCell<T>,
}

// SAFETY: It owns the value.
unsafe impl<T: Send> Send for RwSemaphore<T> {}
// SAFETY: Gives out `&T` to many tasks at once, and `&mut T` to one at a time.
unsafe impl<T: Send + Sync> Sync for RwSemaphore<T> {}

impl<T> RwSemaphore<T> {
    pub(crate) fn new(value: T) -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: Initialises it.
            // SAFETY: The slot may be written to.
            sem <- Opaque::ffi_init(|slot| unsafe { bindings::nosigbus_init_rwsem(slot) }),
            value: UnsafeCell::new(value),
        })
    }

    /// Waits until nobody changes the value.
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: By the type invariants.
        unsafe { kernel::bindings::down_read(self.sem.get()) };
        // INVARIANT: Taken just now.
        ReadGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }

    /// As [`Self::write`], or `None` if it would have to wait.
    pub(crate) fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        // SAFETY: By the type invariants.
        let taken = unsafe { kernel::bindings::down_write_trylock(self.sem.get()) };
        // INVARIANT: Taken just now.
        (taken != 0).then(|| WriteGuard {
            lock: self,
            _not_send: NotThreadSafe,
        })
    }

    /// Waits until nobody reads or changes the value.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: By the type invariants.
        unsafe { kernel::bindings::down_write(self.sem.get()) };
        // INVARIANT: Taken just now.
        WriteGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }
}

/// # Invariants
///
/// Owns the semaphore of `lock`, for read.
pub(crate) struct ReadGuard<'a, T> {
    lock: &'a RwSemaphore<T>,
    // The task that took it has to give it back.
    _not_send: NotThreadSafe,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants nobody changes the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { kernel::bindings::up_read(self.lock.sem.get()) };
    }
}

/// # Invariants
///
/// Owns the semaphore of `lock`, for write.
pub(crate) struct WriteGuard<'a, T> {
    lock: &'a RwSemaphore<T>,
    // The task that took it has to give it back.
    _not_send: NotThreadSafe,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants nobody else uses the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants nobody else uses the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { kernel::bindings::up_write(self.lock.sem.get()) };
    }
}
