// SPDX-License-Identifier: MIT OR Apache-2.0

//! Keeps the paths of files. When no mapping of a file is left, the kernel cannot be asked for its
//! path any more.

use crate::{fdinfo::FileId, lock::Held, lost, vmas::Vmas};
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

/// The thread that holds the lock writes it. Any thread may read it when `state` is `READY`.
struct Slot {
    state: AtomicU32,
    name: UnsafeCell<Name>,
}

// SAFETY: Until the slot is ready, only the thread that holds the lock accesses the name. After
// that, no thread writes to it.
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

/// Returns a kept path of the file: `path` if it was kept, or, without `path`, the last one.
pub fn known(file: FileId, path: Option<&[u8]>) -> Option<&'static [u8]> {
    let names = NAMES
        .iter()
        .filter(|slot| slot.state.load(Acquire) == READY);
    names
        // SAFETY: It is ready.
        .map(|slot| unsafe { &*slot.name.get() })
        .filter(|name| name.file == file)
        .filter_map(|name| name.path.get(..name.len))
        .rfind(|&known| path.is_none_or(|path| known == path))
}

/// Keeps the path of the file that is mapped at `addr`. The file can have had another path before,
/// and an earlier file can have had the same inode number and another path.
pub fn keep(_: &Held<'_>, vmas: &Vmas, addr: usize, file: FileId) -> Option<&'static [u8]> {
    let next = NEXT.load(Relaxed);
    let slot = NAMES.get(next)?;
    // SAFETY: Not ready, and this thread holds the lock.
    let name = unsafe { &mut *slot.name.get() };
    let len = vmas.name_at(addr, &mut name.path)?;
    if let Some(path) = known(file, name.path.get(..len)) {
        return Some(path);
    }
    (name.file, name.len) = (file, len);
    NEXT.store(next + 1, Relaxed);
    slot.state.store(READY, Release);
    known(file, None)
}

/// Returns the current path of the file if it is mapped, or else the path that was kept last. To find
/// the mapping costs as much as a line of fdinfo for each mapping that is looked at. If that is too
/// much by now, or if no more paths can be kept, only paths kept earlier are found.
pub fn of(held: Option<&Held<'_>>, file: FileId) -> Option<&'static [u8]> {
    let mapped = || {
        let held = held?;
        if NEXT.load(Relaxed) >= SLOTS || !lost::may_read() {
            return None;
        }
        let vmas = Vmas::open()?;
        let may_look = || {
            lost::pay(1);
            lost::may_read()
        };
        let mut all = vmas.of_files(0..usize::MAX).take_while(|_| may_look());
        let vma = all.find(|vma| vma.file == file)?;
        keep(held, &vmas, vma.range.start, file)
    };
    mapped().or_else(|| known(file, None))
}
