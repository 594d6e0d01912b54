// SPDX-License-Identifier: GPL-2.0-only

//! `--stats`: tells at the end which files had lost pages. The module counts; here is kept what it
//! forgets with a mapping that is gone.
//!
//! A process tells of what it has opted in itself. What a child does to mappings that it has got by
//! fork is in the numbers of the parent.

use crate::{
    device,
    fdinfo::{self, Entry, FileId},
    kernel,
    lock::{Lock, Locked},
    names, options,
    text::{self, Text},
    vmas::{Vma, Vmas},
};
use rustix::{
    fd::{BorrowedFd, IntoRawFd},
    fs::fstat,
    io::{Errno, ReadWriteFlags, pwritev2, writev},
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

/// How many mappings that are gone can be told of one by one.
const GONE: usize = 1024;

const READY: u32 = 1;
const STDERR: i32 = 2;
/// RWF_NOSIGNAL.
const NO_SIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
}

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

/// A mapping that is gone. Written to by who holds the lock, and read when it is ready.
struct Slot {
    state: AtomicU32,
    known: UnsafeCell<Known>,
}

// SAFETY: Who holds the lock is alone with what is known until the slot is ready, and nobody writes
// to it after that.
unsafe impl Sync for Slot {}

/// Held while mappings go, so that no two threads take the same one for theirs.
static LOCK: Lock = Lock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);
static SLOTS: [Slot; GONE] = [const {
    Slot {
        state: AtomicU32::new(0),
        known: UnsafeCell::new(Known::NONE),
    }
}; GONE];
/// How many are gone of which nothing else is known.
static MORE: AtomicUsize = AtomicUsize::new(0);

/// What one system call may make go.
struct Before {
    known: [Known; GONE],
    len: usize,
    /// How many there was no space for.
    more: usize,
}

static BEFORE: Locked<Before> = Locked::new(Before {
    known: [Known::NONE; GONE],
    len: 0,
    more: 0,
});

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

fn keeping<R>(range: &Range<usize>, call: impl FnOnce() -> R) -> R {
    let (Some(vmas), Some(device)) = (Vmas::open(), device::get()) else {
        return call();
    };
    let had_stand_ins = |vma: &Vma| {
        kernel::status(device, vma.range.start)
            .is_ok_and(|status| status.zero_pages | status.private_pages | status.shadow_pages != 0)
    };
    if !vmas.of_files(range.clone()).any(|vma| had_stand_ins(&vma)) {
        return call();
    }
    let Some(held) = LOCK.get() else {
        MORE.fetch_add(1, Relaxed);
        return call();
    };
    // SAFETY: Of this lock, and got once.
    let before = unsafe { BEFORE.get(&held) };
    (before.len, before.more) = (0, 0);
    for vma in vmas.of_files(range.clone()).filter(had_stand_ins) {
        before.add(
            vma.file,
            names::keep(&held, &vmas, vma.range.start, vma.file),
        );
    }
    let result = call();
    before.keep_those_gone();
    result
}

impl Before {
    fn known(&mut self) -> &mut [Known] {
        self.known.get_mut(..self.len).unwrap_or_default()
    }

    fn has(&mut self, file: FileId) -> bool {
        let mut known = self.known().iter();
        known.any(|known| known.entry.identity.file == file)
    }

    /// Adds those of this process that have had stand-ins and whose file it is, which has a mapping
    /// that may go. It is the whole of such a mapping, or part of it, or another one of that file.
    fn add(&mut self, file: FileId, path: Option<&'static [u8]>) {
        if self.has(file) {
            return;
        }
        let pid = u64::from(pid());
        fdinfo::for_each(|&entry| {
            if entry.identity.pid == pid && entry.identity.file == file && entry.has_stand_ins() {
                if let Some(space) = self.known.get_mut(self.len) {
                    *space = Known { entry, path };
                    self.len += 1;
                } else {
                    self.more += 1;
                }
            }
        });
    }

    /// Keeps the numbers of those that are not there any more.
    fn keep_those_gone(&mut self) {
        let pid = u64::from(pid());
        fdinfo::for_each(|entry| {
            let there = |other: &&mut Known| {
                other.entry.has_stand_ins() && entry.may_have_been(&other.entry)
            };
            if let Some(still_there) = self.known().iter_mut().find(there) {
                still_there.entry = Entry {
                    identity: still_there.entry.identity,
                    ..Entry::NONE
                };
            } else if entry.identity.pid == pid
                && entry.has_stand_ins()
                && self.has(entry.identity.file)
            {
                self.more = self.more.saturating_sub(1);
            }
        });
        for &mut known in self.known() {
            if !known.entry.has_stand_ins() {
                continue;
            }
            let Some(slot) = SLOTS.get(NEXT.load(Relaxed)) else {
                MORE.fetch_add(1, Relaxed);
                continue;
            };
            // SAFETY: Not ready, and this thread holds the lock.
            unsafe { *slot.known.get() = known };
            NEXT.fetch_add(1, Relaxed);
            slot.state.store(READY, Release);
        }
        MORE.fetch_add(self.more, Relaxed);
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
    let mut tell = |entry: &Entry, path: Option<&[u8]>| {
        if entry.identity.pid == pid && entry.has_stand_ins() {
            count += 1;
            // What it says may have to wait, without the lock.
            let path = path.or_else(|| names::of(LOCK.get().as_ref(), entry.identity.file));
            tell_of(entry, path);
        }
    };
    for slot in SLOTS
        .iter()
        .filter(|slot| slot.state.load(Acquire) == READY)
    {
        // SAFETY: It is ready.
        let known = unsafe { &*slot.known.get() };
        tell(&known.entry, known.path);
    }
    let untold = fdinfo::for_each(|entry| tell(entry, None));
    if untold != 0 {
        say(b"", |text| {
            write!(
                text,
                "{untold} more, which may have lost pages: the kernel does not say"
            )
        });
    }
    let more = MORE.load(Relaxed);
    if more != 0 {
        say(b"", |text| {
            write!(text, "{more} more, which are not mapped any more")
        });
    }
    count + more
}

fn tell_of(entry: &Entry, path: Option<&[u8]>) {
    let (major, minor, inode) = entry.identity.file;
    let mut unknown = Text::<64>::new();
    let _ = write!(unknown, "file {major:02x}:{minor:02x}:{inode}");
    let path = path.unwrap_or(unknown.bytes());
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
    let mut said = Text::new();
    let _ = line(&mut said);
    // Both are whatever somebody wants them to be.
    let (mut own, mut escaped) = (Text::<64>::new(), Text::<512>::new());
    text::escape(name.to_bytes(), &mut own);
    let path = if text::is_plain(path) {
        path
    } else {
        text::escape(path, &mut escaped);
        escaped.bytes()
    };
    let parts = [
        start.bytes(),
        own.bytes(),
        b"): ",
        path,
        said.bytes(),
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
    let parts = parts.map(IoSlice::new);
    // At the current position, and without SIGPIPE, which would be the program's death where nobody
    // reads. What knows no flags is no pipe or socket.
    if pwritev2(output, &parts, u64::MAX, NO_SIGNAL) == Err(Errno::OPNOTSUPP) {
        let _ = writev(output, &parts);
    }
}
