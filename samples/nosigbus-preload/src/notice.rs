// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reports each file once that was cut off, or whose file system has failed. It does so at the
//! next call of this library after that.

use crate::{
    event,
    fdinfo::{Entry, FileId},
    holders,
    kernel::pid,
    lock::{Lock, Locked},
    lost, options,
    output::say,
    stats,
    text::Text,
    vfork,
};
use std::{
    fmt::{self, Write},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};

/// How many reports are remembered (`SAID`), so that they are not repeated.
const FILES: usize = 256;

/// What is reported about a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// Zeros were found behind its end.
    CutOff,
    /// What was written behind its end is lost.
    Written,
    /// Data could not be read; the program read zeros instead.
    Unread,
    /// Data could not be written, and is lost.
    Unwritten,
}

#[derive(Clone, Copy)]
struct Said {
    pid: u32,
    file: FileId,
    what: What,
}

static LOCK: Lock = Lock::new();
static SAID: Locked<[Option<Said>; FILES]> = Locked::new([None; FILES]);
/// [`event::count`] at the last call of `say_all` by [`look`]; upper 32 bits: the process ID.
static LOOKED: AtomicU64 = AtomicU64::new(0);

impl What {
    fn of(entry: &Entry) -> Self {
        match (entry.identity.is_shared_write(), entry.errors != 0) {
            (true, false) => Self::Written,
            (false, false) => Self::CutOff,
            (true, true) => Self::Unwritten,
            (false, true) => Self::Unread,
        }
    }
}

/// Returns whether `what` was not reported for the file yet, and records it as reported. Returns
/// `None` if it cannot be found out.
fn is_new(file: FileId, what: What) -> Option<bool> {
    let said = Said {
        pid: pid(),
        file,
        what,
    };
    let held = LOCK.get()?;
    // SAFETY: Of this lock, and got once.
    let all = unsafe { SAID.get(&held) };
    // A forked child starts with no reports: entries of another process are free slots.
    let is_old = |slot: &Option<Said>| slot.is_none_or(|old| old.pid != said.pid);
    let is_this =
        |slot: &Option<Said>| slot.is_some_and(|old| old.file == file && old.what == what);
    let slot = all.iter_mut().find(|slot| is_old(slot) || is_this(slot))?;
    let is_new = is_old(slot);
    *slot = Some(said);
    Some(is_new)
}

/// Prints the reports that are due, or leaves them to a later call if finding them costs too much
/// now. Callers call it from time to time. If there is nothing to report, it costs one system call.
pub fn look() {
    if !options::notices() || lost::has_none() || vfork::is_child() {
        return;
    }
    // If the count is not known, `end` prints the reports.
    let Some(count) = event::count(false) else {
        return;
    };
    let looked = (u64::from(pid()) << 32) | (count & u64::from(u32::MAX));
    let is_due = count != 0 && LOOKED.load(Acquire) != looked && lost::may_read();
    if is_due && LOOKED.swap(looked, AcqRel) != looked {
        say_all();
    }
}

/// Prints a line once per process.
fn once(said: &AtomicU32, line: impl FnOnce(&mut Text<384>) -> fmt::Result) {
    if options::notices() && !vfork::is_child() && said.swap(pid(), Relaxed) != pid() {
        say(b"", line);
    }
}

/// Reports that the device cannot be used, and the errno.
pub fn unreachable(errno: i32) {
    static SAID: AtomicU32 = AtomicU32::new(0);
    once(&SAID, |text| {
        write!(
            text,
            "files that are mapped from here on are not protected: /dev/nosigbus cannot be used (errno {errno})"
        )
    });
}

/// Reports that there are so many mappings that some are plain mappings.
pub fn too_many() {
    static SAID: AtomicU32 = AtomicU32::new(0);
    once(&SAID, |text| {
        write!(
            text,
            "some mappings of files are not protected: there are too many (vm.max_map_count)"
        )
    });
}

/// Reports that mappings were opted out because of mlock(2) or madvise(2).
pub fn locked() {
    static SAID: AtomicU32 = AtomicU32::new(0);
    once(&SAID, |text| {
        write!(
            text,
            "some mappings of files are not protected: the program locks them in memory, or advises the kernel so"
        )
    });
}

/// Reports an executed program into which this library will not be loaded.
pub fn not_reached(program: &[u8], why: &str) {
    if options::notices() {
        say(program, |text| write!(text, ": not protected: {why}"));
    }
}

/// Prints all reports that were not printed yet.
pub fn end() {
    if options::notices() && !lost::has_none() && !vfork::is_child() && lost::may_have_been(true) {
        say_all();
    }
}

fn say_all() {
    let mut untold = false;
    let others = lost::for_each(|entry, path| {
        let what = What::of(entry);
        match is_new(entry.identity.file, what) {
            Some(true) => say_of(entry, what, path.or_else(|| lost::path(entry))),
            Some(false) => {}
            None => untold = true,
        }
    });
    if untold || others.there != 0 || others.gone != 0 {
        static SAID: AtomicU32 = AtomicU32::new(0);
        once(&SAID, |text| {
            write!(
                text,
                "other files may have been cut off, or have failed: they cannot be told apart"
            )
        });
    }
}

fn say_of(entry: &Entry, what: What, path: Option<&[u8]>) {
    let unknown = stats::unknown(entry);
    say(path.unwrap_or(unknown.bytes()), |text| {
        let error = stats::errno_name(entry.error);
        let said = match what {
            What::CutOff => write!(
                text,
                ": accessed behind its end (cut off?); zeros were found there"
            ),
            What::Written => write!(
                text,
                ": accessed behind its end (cut off?); what is written there is lost, and no other mapping has it"
            ),
            What::Unread => write!(
                text,
                ": cannot be read at byte {} ({error}); zeros were found there",
                entry.error_offset
            ),
            What::Unwritten => write!(
                text,
                ": cannot be written at byte {} ({error}); what is written there is lost, and no other mapping has it",
                entry.error_offset
            ),
        };
        if matches!(what, What::CutOff | What::Written) {
            holders::add(entry.identity.file, text);
        }
        said
    });
}
