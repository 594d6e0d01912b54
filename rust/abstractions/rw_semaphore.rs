// SPDX-License-Identifier: GPL-2.0-only

//! A reader-writer semaphore.
//!
//! C header: [`include/linux/rwsem.h`](srctree/include/linux/rwsem.h)

use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::{
    bindings::{
        __init_rwsem,
        rw_semaphore, //
    },
    error::to_result,
    prelude::*,
    str::CStr,
    sync::LockClassKey,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// Creates an initialiser of an [`RwSemaphore`] with a lock class of its own, named after the place
/// in the source.
macro_rules! new_rw_semaphore {
    ($value:expr) => {
        $crate::abstractions::rw_semaphore::RwSemaphore::new(
            $value,
            ::kernel::optional_name!(),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_rw_semaphore;

/// A value that many tasks may read at a time, or one may change. Tasks sleep while they wait.
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

// SAFETY: `RwSemaphore<T>` owns its `T`. A `struct rw_semaphore` that is not held is not tied to a
// thread.
unsafe impl<T: Send> Send for RwSemaphore<T> {}
// SAFETY: Gives out `&T` to many tasks at once, and `&mut T` to one at a time.
unsafe impl<T: Send + Sync> Sync for RwSemaphore<T> {}

impl<T> RwSemaphore<T> {
    /// Use [`new_rw_semaphore`], which gives it a lock class of its own.
    pub(crate) fn new(
        value: T,
        name: &'static CStr,
        class: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: Initialises it.
            // SAFETY: The slot may be written to. `name` and `class` are static.
            sem <- Opaque::ffi_init(|slot| unsafe {
                __init_rwsem(slot, name.as_char_ptr(), class.as_ptr())
            }),
            value: UnsafeCell::new(value),
        })
    }

    /// Takes the semaphore for read. Sleeps while a task holds it for write.
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: `sem` is initialised, by the type invariants.
        unsafe { kernel::bindings::down_read(self.sem.get()) };
        // INVARIANT: Taken just now.
        ReadGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }

    /// As [`Self::read`], or `EINTR` if the task is killed while it waits.
    pub(crate) fn read_killable(&self) -> Result<ReadGuard<'_, T>> {
        // SAFETY: `sem` is initialised, by the type invariants.
        to_result(unsafe { kernel::bindings::down_read_killable(self.sem.get()) })?;
        // INVARIANT: Taken just now.
        Ok(ReadGuard {
            lock: self,
            _not_send: NotThreadSafe,
        })
    }

    /// As [`Self::write`], or `None` if it would have to wait.
    pub(crate) fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        // SAFETY: `sem` is initialised, by the type invariants.
        let taken = unsafe { kernel::bindings::down_write_trylock(self.sem.get()) };
        // INVARIANT: Taken just now.
        (taken != 0).then(|| WriteGuard {
            lock: self,
            _not_send: NotThreadSafe,
        })
    }

    /// Takes the semaphore for write. Sleeps while another task holds it.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: `sem` is initialised, by the type invariants.
        unsafe { kernel::bindings::down_write(self.sem.get()) };
        // INVARIANT: Taken just now.
        WriteGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }
}

/// Guard: the semaphore is held for read.
///
/// # Invariants
///
/// Owns the semaphore of `lock`, for read.
#[must_use = "the semaphore is released as soon as it is dropped"]
pub(crate) struct ReadGuard<'a, T> {
    lock: &'a RwSemaphore<T>,
    // The task that took it has to give it back.
    _not_send: NotThreadSafe,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants the semaphore is held for read, so there is no `&mut T`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the semaphore is held for read, by this task, since the
        // guard is not `Send`.
        unsafe { kernel::bindings::up_read(self.lock.sem.get()) };
    }
}

/// Guard: the semaphore is held for write.
///
/// # Invariants
///
/// Owns the semaphore of `lock`, for write.
#[must_use = "the semaphore is released as soon as it is dropped"]
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
        // SAFETY: By the type invariants the semaphore is held for write, by this task, since the
        // guard is not `Send`.
        unsafe { kernel::bindings::up_write(self.lock.sem.get()) };
    }
}
