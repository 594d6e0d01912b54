// SPDX-License-Identifier: GPL-2.0-only

//! The paths of files, for when no mapping of theirs is left to ask for it.

use crate::{fdinfo::FileId, vmas::Vmas};
use std::{
    cell::UnsafeCell,
    sync::atomic::{
        AtomicU32, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

const SLOTS: usize = 256;
const LONGEST: usize = libc::PATH_MAX as usize;

const READY: u32 = 1;

struct Name {
    file: FileId,
    len: usize,
    path: [u8; LONGEST],
}

/// Written to once, by who has got its index, and read when it is ready.
struct Slot {
    state: AtomicU32,
    name: UnsafeCell<Name>,
}

// SAFETY: Who writes to the name is alone with it until the slot is ready, and nobody does after that.
unsafe impl Sync for Slot {}

static NEXT: AtomicUsize = AtomicUsize::new(0);
static NAMES: [Slot; SLOTS] = [const {
    Slot {
        state: AtomicU32::new(0),
        name: UnsafeCell::new(Name {
            file: (0, 0, 0),
            len: 0,
            path: [0; LONGEST],
        }),
    }
}; SLOTS];

fn known(file: FileId) -> Option<&'static [u8]> {
    let names = NAMES
        .iter()
        .filter(|slot| slot.state.load(Acquire) == READY);
    names
        // SAFETY: It is ready.
        .map(|slot| unsafe { &*slot.name.get() })
        .find(|name| name.file == file)
        .and_then(|name| name.path.get(..name.len))
}

/// Keeps the path of the file that has a mapping at `addr`.
pub fn keep(vmas: &Vmas, addr: usize, file: FileId) {
    if known(file).is_some() {
        return;
    }
    // It does not come to wrap around.
    let next = NEXT.load(Relaxed);
    let Some(slot) = NAMES.get(next) else {
        return;
    };
    if NEXT
        .compare_exchange(next, next + 1, Relaxed, Relaxed)
        .is_err()
    {
        // Another thread keeps one.
        return keep(vmas, addr, file);
    }
    // SAFETY: The index was this thread's to take, so it is alone with the slot.
    let name = unsafe { &mut *slot.name.get() };
    if let Some(len) = vmas.name_at(addr, &mut name.path) {
        (name.file, name.len) = (file, len);
        slot.state.store(READY, Release);
    }
}

/// The path of a file that is mapped or whose path was kept.
pub fn of(file: FileId) -> Option<&'static [u8]> {
    if let Some(path) = known(file) {
        return Some(path);
    }
    let vmas = Vmas::open()?;
    let vma = vmas.of_files(0..usize::MAX).find(|vma| vma.file == file)?;
    keep(&vmas, vma.range.start, file);
    known(file)
}
