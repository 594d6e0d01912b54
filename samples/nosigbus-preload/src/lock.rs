// SPDX-License-Identifier: MIT OR Apache-2.0

//! A lock for what is more than a word. While a thread has it no signal handler runs there, which
//! might want it as well, or wait for a thread that does. Who has waited for too long goes on
//! without it.

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

/// The process, and below it the thread, that has it; 0 if nobody does.
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
            // After fork, the thread that had it is in the parent alone.
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

/// What those use who hold a lock.
pub struct Locked<T>(UnsafeCell<T>);

// SAFETY: Used by who holds the lock, as `get` asks for.
unsafe impl<T> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    ///
    /// It must be the lock that this value is for, and nobody have got it since that is held.
    #[expect(clippy::mut_from_ref)]
    pub unsafe fn get<'a>(&'static self, _: &'a Held<'_>) -> &'a mut T {
        // SAFETY: Nobody else holds the lock; the rest is the caller's.
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
