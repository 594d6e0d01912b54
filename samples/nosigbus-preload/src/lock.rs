// SPDX-License-Identifier: MIT OR Apache-2.0

//! A lock for data that is larger than a word. A thread that holds it blocks all signals: a signal
//! handler could want the lock too, or wait for a thread that wants it. A thread that has waited
//! too long goes on without the lock.

use crate::kernel::{gettid, pid, replace_signal_mask, sleep};
use std::{
    cell::UnsafeCell,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

const NAP: Duration = Duration::from_micros(50);
/// More than a second altogether.
const NAPS: u32 = 20_000;

/// The owner: the process ID in the upper 32 bits, the thread ID in the lower ones. 0 if free.
pub struct Lock(AtomicU64);

pub struct Held<'a> {
    lock: &'a Lock,
    owner: u64,
    signals: u64,
}

impl Lock {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn get(&self) -> Option<Held<'_>> {
        let signals = replace_signal_mask(u64::MAX);
        let pid = u64::from(pid()) << 32;
        let owner = pid | gettid() as u64;
        for _ in 0..NAPS {
            let seen = self.0.load(Relaxed);
            // Another process's lock is free: after fork, its owner is only in the parent.
            let free = seen >> 32 != pid >> 32;
            if free
                && self
                    .0
                    .compare_exchange(seen, owner, Acquire, Relaxed)
                    .is_ok()
            {
                return Some(Held {
                    lock: self,
                    owner,
                    signals,
                });
            }
            sleep(NAP);
        }
        replace_signal_mask(signals);
        None
    }
}

/// Data that only the holder of a lock may access.
pub struct Locked<T>(UnsafeCell<T>);

// SAFETY: `get` requires that its caller holds the lock, so only one thread accesses the value.
unsafe impl<T> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    ///
    /// `Held` must be of the lock that protects this value. The caller must not have called `get`
    /// since it took that lock.
    #[expect(clippy::mut_from_ref)]
    pub unsafe fn get<'a>(&'static self, _: &'a Held<'_>) -> &'a mut T {
        // SAFETY: No other thread holds the lock. The caller guarantees the rest.
        unsafe { &mut *self.0.get() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _ = self
            .lock
            .0
            .compare_exchange(self.owner, 0, Release, Relaxed);
        replace_signal_mask(self.signals);
    }
}
