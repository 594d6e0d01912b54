// SPDX-License-Identifier: MIT OR Apache-2.0

//! Keeps track of which mappings have had stand-ins. The kernel module counts the stand-ins, but
//! drops the counts when a mapping is unmapped. This module keeps them after that.
//!
//! A process reports the mappings that it has opted in itself. Stand-ins of a child in mappings
//! that it inherited by fork count in the parent's numbers, as long as the parent lives.

use crate::{
    cover::has_stand_ins,
    device, event,
    fdinfo::{self, Entry, FileId},
    kernel::{self, pid},
    lock::{Lock, Locked},
    names, notice, options, vfork,
    vmas::{Vma, Vmas},
};
use rustix::{
    fd::BorrowedFd,
    io::Errno,
    process::{Pid, test_kill_process},
};
use std::{
    cell::UnsafeCell,
    ops::Range,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// How many unmapped mappings can be reported one by one.
const GONE: usize = 1024;

/// How many lines of fdinfo may be read at once: four times the longest list.
const MOST_CREDIT: u32 = 4 * 4096;
/// How many more lines each call may cost that opts in a mapping, or may unmap one.
const CREDIT_PER_CALL: u32 = 4;

/// A mapping, and the path that its file had.
#[derive(Clone, Copy)]
struct Known {
    entry: Entry,
    path: Option<&'static [u8]>,
}

impl Known {
    const NONE: Self = Self {
        entry: Entry::NONE,
        path: None,
    };
}

/// A mapping that was unmapped. The thread that holds `LOCK` writes it. Any thread may read it when
/// `kept_by` is this process.
struct Slot {
    /// A process ID. A forked child finds that of its parent, and can use the slot for a mapping of its
    /// own.
    kept_by: AtomicU32,
    known: UnsafeCell<Known>,
}

// SAFETY: Until `kept_by` is this process, only the thread that holds `LOCK` accesses `known`. After
// that, no thread of this process writes to it.
unsafe impl Sync for Slot {}

/// Held while mappings are unmapped, so that two threads do not record the same mapping.
static LOCK: Lock = Lock::new();
/// How many slots are used. The upper 32 bits are the process ID.
static NEXT: AtomicU64 = AtomicU64::new(0);
static SLOTS: [Slot; GONE] = [const {
    Slot {
        kept_by: AtomicU32::new(0),
        known: UnsafeCell::new(Known::NONE),
    }
}; GONE];
/// How many mappings were unmapped, at most, of which nothing else is known. The upper 32 bits are
/// the process ID.
static MORE: AtomicU64 = AtomicU64::new(0);
/// 0 if none of these had data that is lost.
static MORE_WRITTEN: AtomicU64 = AtomicU64::new(0);

/// How many lines of fdinfo were read of those that may be. The upper 32 bits are the process ID.
/// Clients choose how many mappings there are, and so how long the list is. Without a limit, it would
/// take quadratic time to unmap all of them.
static SPENT: AtomicU64 = AtomicU64::new(0);

/// The mappings that one system call may unmap.
struct Before {
    known: [Known; GONE],
    len: usize,
}

static BEFORE: Locked<Before> = Locked::new(Before {
    known: [Known::NONE; GONE],
    len: 0,
});

/// How many mappings the process has opted in. The upper 32 bits are the process ID, so that a
/// forked child starts at 0.
static OPTED_IN: AtomicU64 = AtomicU64::new(0);
/// Whether there may have been stand-ins. Once set, it stays set.
static MAY_HAVE_BEEN: AtomicBool = AtomicBool::new(false);

/// Changes a counter of this process. A forked child starts at 0.
fn change(number: &AtomicU64, to: impl Fn(u32) -> u32) {
    let pid = u64::from(pid()) << 32;
    let _ = number.fetch_update(Relaxed, Relaxed, |seen| {
        let before = if seen & !u64::from(u32::MAX) == pid {
            seen as u32
        } else {
            0
        };
        Some(pid | u64::from(to(before)))
    });
}

fn add(number: &AtomicU64, count: u32) {
    change(number, |before| before.saturating_add(count));
}

fn number_of_this(number: &AtomicU64) -> u32 {
    let seen = number.load(Relaxed);
    if (seen >> 32) as u32 == pid() {
        seen as u32
    } else {
        0
    }
}

/// Counts a mapping.
pub fn opted_in() {
    if options::watches() && !vfork::is_child() {
        add(&OPTED_IN, 1);
        raise_credit();
    }
}

/// Counts unmapped mappings of which nothing else is kept.
fn forget(count: u32, written: bool) {
    add(&MORE, count);
    if written {
        add(&MORE_WRITTEN, count);
    }
}

fn raise_credit() {
    if SPENT.load(Relaxed) as u32 != 0 {
        change(&SPENT, |spent| spent.saturating_sub(CREDIT_PER_CALL));
    }
}

/// Returns whether fdinfo may be read now. The program must not wait for it too often.
pub fn may_read() -> bool {
    number_of_this(&SPENT) < MOST_CREDIT
}

/// Calls `f` for every mapping that fdinfo lists, as [`fdinfo::for_each`] does, and pays for them.
fn for_each_listed(mut f: impl FnMut(&Entry)) -> Option<u64> {
    let mut lines = 0;
    let more = fdinfo::for_each(|entry| {
        lines += 1;
        f(entry);
    });
    pay(lines);
    more
}

/// Counts lines that were read.
pub fn pay(lines: u32) {
    add(&SPENT, lines);
}

/// How many mappings this process has opted in.
pub fn count_opted_in() -> u32 {
    number_of_this(&OPTED_IN)
}

/// Whether there are no opted-in mappings. (A child may have some by fork.)
pub fn has_none() -> bool {
    OPTED_IN.load(Relaxed) == 0 && options::watches()
}

/// Returns whether any mapping may have had a stand-in. Costs one system call as long as there was
/// none. With `sure` it makes a few more, and notices if the program has closed the eventfd and has
/// another file at its number.
pub fn may_have_been(sure: bool) -> bool {
    if MAY_HAVE_BEEN.load(Relaxed) {
        return true;
    }
    let may = event::count(sure) != Some(0);
    if may {
        MAY_HAVE_BEEN.store(true, Relaxed);
    }
    may
}

/// Runs `call`, which may unmap mappings in the range, and keeps the counts of those mappings.
pub fn unmapping<R>(range: &Range<usize>, call: impl FnOnce() -> R) -> R {
    if !options::watches() || has_none() || vfork::is_child() || !may_have_been(false) {
        return call();
    }
    raise_credit();
    notice::look();
    keeping(range, call)
}

fn keeping<R>(range: &Range<usize>, call: impl FnOnce() -> R) -> R {
    // In a forked child that has opted in nothing, all are its parent's.
    if !is_own(OPTED_IN.load(Relaxed) >> 32, pid().into()) {
        return call();
    }
    let (Some(vmas), Some(device)) = (Vmas::open(), device::get()) else {
        forget(1, false);
        return call();
    };
    let stand_ins = || with_stand_ins(&vmas, device, range.clone());
    let (mut count, mut any_written) = (0, false);
    for (_, written) in stand_ins() {
        count += 1;
        any_written |= written;
    }
    if count == 0 {
        return call();
    }
    let can_keep = (number_of_this(&NEXT) as usize) < GONE && may_read();
    let Some(held) = can_keep.then(|| LOCK.get()).flatten() else {
        // A mapping counts once for each of its VMAs.
        forget(count, any_written);
        return call();
    };
    // SAFETY: Of this lock, and got once.
    let before = unsafe { BEFORE.get(&held) };
    before.len = 0;
    let are_known = stand_ins().all(|(Vma { range, file, .. }, _)| {
        let path = || names::keep(&held, &vmas, range.start, file);
        before.has(file) || (may_read() && before.add(file, path()))
    });
    if !are_known {
        // As above.
        forget(count, any_written);
        return call();
    }
    let result = call();
    before.keep_those_gone();
    result
}

/// The VMAs in a range that have had stand-ins, and whether these are shadow pages. Only shared
/// writable mappings have shadow pages.
fn with_stand_ins(
    vmas: &Vmas,
    device: BorrowedFd<'_>,
    range: Range<usize>,
) -> impl Iterator<Item = (Vma, bool)> {
    vmas.of_files(range).filter_map(move |vma| {
        let status = kernel::status(device, vma.range.start).ok()?;
        has_stand_ins(&status).then_some((vma, status.shadow_pages != 0))
    })
}

/// Keeps the paths of all files that have lost pages, as long as there is space.
pub fn keep_paths() {
    if let (Some(held), Some(vmas), Some(device)) = (LOCK.get(), Vmas::open(), device::get()) {
        for (vma, _) in with_stand_ins(&vmas, device, 0..usize::MAX) {
            names::keep(&held, &vmas, vma.range.start, vma.file);
        }
    }
}

impl Before {
    fn known(&mut self) -> &mut [Known] {
        self.known.get_mut(..self.len).unwrap_or_default()
    }

    fn has(&mut self, file: FileId) -> bool {
        let mut known = self.known().iter();
        known.any(|known| known.entry.identity.file == file)
    }

    /// Adds all mappings of `file` that have had stand-ins and belong to this process. A VMA of
    /// `file` may be unmapped. That VMA can be a whole mapping or a part of one, and the file can
    /// have other mappings, so all of them are added. Returns `false` if there may be more.
    fn add(&mut self, file: FileId, path: Option<&'static [u8]>) -> bool {
        let pid = u64::from(pid());
        let mut fit = true;
        let not_listed = for_each_listed(|&entry| {
            if is_own(entry.identity.pid, pid)
                && entry.identity.file == file
                && entry.has_stand_ins()
            {
                if let Some(space) = self.known.get_mut(self.len) {
                    *space = Known { entry, path };
                    self.len += 1;
                } else {
                    fit = false;
                }
            }
        });
        fit && not_listed == Some(0)
    }

    /// Keeps the counts of the mappings that no longer exist.
    fn keep_those_gone(&mut self) {
        for_each_listed(|entry| {
            let there = |other: &&mut Known| {
                other.entry.has_stand_ins() && entry.may_have_been(&other.entry)
            };
            if let Some(still_there) = self.known().iter_mut().find(there) {
                still_there.entry = Entry {
                    identity: still_there.entry.identity,
                    ..Entry::NONE
                };
            }
        });
        for &mut known in self.known() {
            if !known.entry.has_stand_ins() {
                continue;
            }
            let Some(slot) = SLOTS.get(number_of_this(&NEXT) as usize) else {
                forget(1, known.entry.identity.is_shared_write());
                continue;
            };
            // SAFETY: Not kept by this process yet, and this thread holds the lock.
            unsafe { *slot.known.get() = known };
            add(&NEXT, 1);
            slot.kept_by.store(pid(), Release);
        }
    }
}

/// How many mappings [`for_each`] has not called its closure for.
pub struct Others {
    /// Mappings that exist, but that fdinfo does not list.
    pub there: u64,
    /// Mappings that do not exist any more, at most.
    pub gone: usize,
    /// Whether one of these had data that is lost.
    pub gone_written: bool,
}

/// Calls `f` for each mapping that has had stand-ins. Passes the path of its file, if known.
pub fn for_each(mut f: impl FnMut(&Entry, Option<&'static [u8]>)) -> Others {
    let own = pid();
    let kept = SLOTS
        .iter()
        .filter(|slot| slot.kept_by.load(Acquire) == own);
    for slot in kept {
        // SAFETY: Kept by this process.
        let known = unsafe { &*slot.known.get() };
        f(&known.entry, known.path);
    }
    let pid = u64::from(own);
    let mut listed = 0;
    let more = for_each_listed(|entry| {
        listed += u32::from(entry.identity.pid == pid);
        if entry.has_stand_ins() && is_own(entry.identity.pid, pid) {
            f(entry, None);
        }
    });
    // Mappings that are not listed may belong to processes that inherited the device by fork.
    let there = match more {
        Some(more) => more.min(count_opted_in().saturating_sub(listed).into()),
        None => 1,
    };
    Others {
        there,
        gone: number_of_this(&MORE) as usize,
        gone_written: number_of_this(&MORE_WRITTEN) != 0,
    }
}

/// Returns whether this process reports a mapping that `opted_in_by` has opted in: its own
/// mappings, and those of a process that no longer exists.
fn is_own(opted_in_by: u64, pid: u64) -> bool {
    let is_gone = || {
        let process = i32::try_from(opted_in_by).ok().and_then(Pid::from_raw);
        process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH))
    };
    opted_in_by == pid || is_gone()
}

/// The path of a mapping's file.
pub fn path(entry: &Entry) -> Option<&'static [u8]> {
    // Without the lock, no path can be kept, so only paths kept earlier are found.
    names::of(LOCK.get().as_ref(), entry.identity.file)
}
