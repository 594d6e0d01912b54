// SPDX-License-Identifier: MIT OR Apache-2.0

//! Detects a child that shares the memory of its parent (vfork) until it executes a program. Data
//! that such a child writes would be the parent's data.

use crate::{
    kernel::{Mmap, page_size, pid},
    options,
};
use libc::{MADV_WIPEONFORK, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use std::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// The ID of the process that owns the memory. It is in a page that fork fills with zeros in a
/// child that has its own memory (`MADV_WIPEONFORK`).
static OWNER: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

pub fn start() {
    if !options::watches() {
        return;
    }
    let page = Mmap {
        addr: 0,
        len: page_size(),
        prot: PROT_READ | PROT_WRITE,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
        fd: -1,
        offset: 0,
    };
    // SAFETY: A new mapping.
    let Ok(addr) = (unsafe { page.call() }) else {
        return;
    };
    // SAFETY: Its own.
    if unsafe { page.advise(addr, MADV_WIPEONFORK) }.is_ok() {
        let owner = addr as *mut AtomicU32;
        // SAFETY: A word of it, aligned.
        unsafe { &*owner }.store(pid(), Relaxed);
        OWNER.store(owner, Release);
    }
}

pub fn is_child() -> bool {
    let owner = OWNER.load(Acquire);
    if owner.is_null() {
        return false;
    }
    // SAFETY: Made by `start`, and stays.
    let owner = unsafe { &*owner };
    let pid = pid();
    match owner.load(Relaxed) {
        0 => {
            owner.store(pid, Relaxed);
            false
        }
        other => other != pid,
    }
}
