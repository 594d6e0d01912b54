// SPDX-License-Identifier: GPL-2.0-only

//! `--stats`: tells at the end which files had lost pages. The module counts; here is kept what it
//! forgets with a mapping that is gone.
//!
//! A process tells of what it has opted in itself. What a child does to mappings that it has got by
//! fork is in the numbers of the parent.

use crate::{
    device,
    fdinfo::{self, Entry, FileId},
    kernel, names, options,
    text::Text,
    vmas::Vmas,
};
use rustix::{
    fd::{BorrowedFd, IntoRawFd},
    fs::fstat,
    process::getpid,
};
use std::{
    cell::UnsafeCell,
    ffi::{CStr, c_char},
    fmt::{self, Write},
    io::IoSlice,
    ops::Range,
    sync::atomic::{
        AtomicI32, AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// How many mappings that are gone can be told of one by one, and how many of those that one system
/// call makes go.
const GONE: usize = 1024;
const GONE_AT_ONCE: usize = 24;

const READY: u32 = 1;
const STDERR: i32 = 2;

unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
}

/// A mapping that is gone. Written to once, by who has got its index, and read when it is ready.
struct Slot {
    state: AtomicU32,
    entry: UnsafeCell<Entry>,
}

// SAFETY: Who writes to the entry is alone with it until the slot is ready, and nobody does after that.
unsafe impl Sync for Slot {}

static NEXT: AtomicUsize = AtomicUsize::new(0);
static SLOTS: [Slot; GONE] = [const {
    Slot {
        state: AtomicU32::new(0),
        entry: UnsafeCell::new(Entry::NONE),
    }
}; GONE];

/// The process, and below it how many mappings it has opted in: a child begins anew.
static OPTED_IN: AtomicU64 = AtomicU64::new(0);
/// The process that was started, not forked.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// The process that has told all.
static TOLD: AtomicU32 = AtomicU32::new(0);

/// A duplicate of stderr, which many programs close before they are at their end, and what fstat
/// says of it.
static OUTPUT: AtomicI32 = AtomicI32::new(STDERR);
static OUTPUT_FILE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

fn pid() -> u32 {
    getpid().as_raw_nonzero().get() as u32
}

fn file_of(fd: BorrowedFd<'_>) -> Option<[u64; 2]> {
    let stat = fstat(fd).ok()?;
    Some([stat.st_dev, stat.st_ino])
}

pub fn start() {
    if !options::stats() {
        return;
    }
    STARTED.store(pid(), Relaxed);
    // SAFETY: Used at once, and only by the kernel.
    let stderr = unsafe { BorrowedFd::borrow_raw(STDERR) };
    let (Some(file), Some(fd)) = (file_of(stderr), device::duplicate(stderr)) else {
        return;
    };
    for (to, from) in OUTPUT_FILE.iter().zip(file) {
        to.store(from, Relaxed);
    }
    OUTPUT.store(fd.into_raw_fd(), Relaxed);
}

/// Counts a mapping.
pub fn opted_in() {
    if !options::stats() {
        return;
    }
    let pid = u64::from(pid()) << 32;
    let _ = OPTED_IN.fetch_update(Relaxed, Relaxed, |seen| {
        let count = if seen & !u64::from(u32::MAX) == pid {
            seen as u32
        } else {
            0
        };
        Some(pid | u64::from(count.saturating_add(1)))
    });
}

/// How many mappings this process has opted in.
fn count_opted_in() -> u32 {
    let seen = OPTED_IN.load(Relaxed);
    if (seen >> 32) as u32 == pid() {
        seen as u32
    } else {
        0
    }
}

/// Does what may unmap mappings in the range, and keeps their numbers.
pub fn unmapping<R>(range: &Range<usize>, call: impl FnOnce() -> R) -> R {
    if !options::stats() || count_opted_in() == 0 {
        return call();
    }
    keeping(range, call)
}

/// Apart, for its stack.
#[inline(never)]
fn keeping<R>(range: &Range<usize>, call: impl FnOnce() -> R) -> R {
    let mut before = [Entry::NONE; GONE_AT_ONCE];
    let mut len = 0;
    find_those_to_keep(range, |entry| {
        if let Some(space) = before.get_mut(len) {
            *space = *entry;
            len += 1;
        }
    });
    let result = call();
    let before = before.get_mut(..len).unwrap_or_default();
    if !before.is_empty() {
        keep_those_gone(before);
    }
    result
}

/// Calls `f` for those of this process that have had stand-ins and whose file has a mapping in the
/// range. It is the whole of such a mapping, or part of it, or another one of that file.
fn find_those_to_keep(range: &Range<usize>, mut f: impl FnMut(&Entry)) {
    let (Some(vmas), Some(device), pid) = (Vmas::open(), device::get(), pid()) else {
        return;
    };
    let mut last: Option<FileId> = None;
    for vma in vmas.of_files(range.clone()) {
        let file = Some(vma.file);
        let had_stand_ins = kernel::status(device, vma.range.start).is_ok_and(|status| {
            status.zero_pages | status.private_pages | status.shadow_pages != 0
        });
        if had_stand_ins && last != file {
            names::keep(&vmas, vma.range.start, vma.file);
            fdinfo::for_each(|entry| {
                if entry.identity.pid == u64::from(pid)
                    && Some(entry.identity.file) == file
                    && entry.has_stand_ins()
                {
                    f(entry);
                }
            });
            last = file;
        }
    }
}

/// Keeps the numbers of those that are not there any more.
fn keep_those_gone(before: &mut [Entry]) {
    fdinfo::for_each(|entry| {
        let there = |other: &&mut Entry| other.identity == entry.identity;
        if let Some(still_there) = before.iter_mut().find(there) {
            *still_there = Entry::NONE;
        }
    });
    for entry in before.iter().filter(|entry| entry.has_stand_ins()) {
        let index = NEXT.fetch_add(1, Relaxed);
        if let Some(slot) = SLOTS.get(index) {
            // SAFETY: The index was this thread's to take, so it is alone with the slot.
            unsafe { *slot.entry.get() = *entry };
            slot.state.store(READY, Release);
        }
    }
}

/// Tells all, once.
pub fn end() {
    if options::stats() && TOLD.swap(pid(), Relaxed) != pid() {
        let (count, with_stand_ins) = (count_opted_in(), tell());
        // Not for a child that was forked and does nothing of interest.
        if count != 0 || STARTED.load(Relaxed) == pid() {
            say(b"", |text| {
                write!(
                    text,
                    "mappings of files: {count} opted in, {with_stand_ins} had lost pages"
                )
            });
        }
    }
}

/// Tells what exec would have forgotten.
pub fn before_exec() {
    if options::stats() {
        tell();
    }
}

/// Tells of all mappings that have had stand-ins. Returns how many.
fn tell() -> usize {
    if count_opted_in() == 0 {
        return 0;
    }
    let (pid, mut count) = (u64::from(pid()), 0);
    let mut tell = |entry: &Entry| {
        if entry.identity.pid == pid && entry.has_stand_ins() {
            count += 1;
            tell_of(entry);
        }
    };
    for slot in SLOTS
        .iter()
        .filter(|slot| slot.state.load(Acquire) == READY)
    {
        // SAFETY: It is ready.
        tell(unsafe { &*slot.entry.get() });
    }
    fdinfo::for_each(&mut tell);
    let lost = NEXT.load(Relaxed).saturating_sub(GONE);
    if lost != 0 {
        say(b"", |text| {
            write!(text, "{lost} more, which are not mapped any more")
        });
    }
    count + lost
}

fn tell_of(entry: &Entry) {
    let (major, minor, inode) = entry.identity.file;
    let mut unknown = Text::<64>::new();
    let _ = write!(unknown, "file {major:02x}:{minor:02x}:{inode}");
    let path = names::of(entry.identity.file).unwrap_or(unknown.bytes());
    say(path, |text| {
        write!(text, " ({} bytes mapped): ", entry.identity.len)?;
        let kinds = [
            (entry.zero_pages, "zero"),
            (entry.private_pages, "private"),
            (entry.shadow_pages, "shadow"),
        ];
        let mut separator = "";
        for (count, kind) in kinds.iter().filter(|(count, _)| *count != 0) {
            let s = if *count == 1 { "" } else { "s" };
            write!(text, "{separator}{count} {kind} page{s}")?;
            separator = ", ";
        }
        if entry.errors != 0 {
            write!(text, "; {} for errors", entry.errors)?;
        }
        if entry.error != 0 {
            let name = match entry.error as i32 {
                libc::EIO => "EIO",
                libc::ENOSPC => "ENOSPC",
                libc::EDQUOT => "EDQUOT",
                _ => "errno",
            };
            let perhaps = if entry.deduced { "perhaps " } else { "" };
            write!(
                text,
                ", the first {perhaps}{name} ({}) at byte {}",
                entry.error, entry.error_offset
            )?;
        }
        Ok(())
    });
}

/// Says a line, in one piece: the path of a file, if it is about one, and the text. It may be in a
/// signal handler, on a small stack.
fn say(path: &[u8], line: impl FnOnce(&mut Text<384>) -> fmt::Result) {
    // SAFETY: Set by libc before anything else, to a string.
    let name = unsafe { CStr::from_ptr(program_invocation_short_name) };
    let mut start = Text::<32>::new();
    let _ = write!(start, "nosigbus: {} (", pid());
    let mut text = Text::new();
    let _ = line(&mut text);
    let parts = [
        start.bytes(),
        name.to_bytes(),
        b"): ",
        path,
        text.bytes(),
        b"\n",
    ];

    // SAFETY: Used at once, and only by the kernel.
    let fd = |number| unsafe { BorrowedFd::borrow_raw(number) };
    let output = fd(OUTPUT.load(Relaxed));
    let file = OUTPUT_FILE.each_ref().map(|part| part.load(Relaxed));
    // The program may have closed it, and have another file at its number.
    let output = if file_of(output) == Some(file) {
        output
    } else {
        fd(STDERR)
    };
    let _ = rustix::io::writev(output, &parts.map(IoSlice::new));
}
