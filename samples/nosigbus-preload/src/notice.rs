// SPDX-License-Identifier: MIT OR Apache-2.0

//! Says once of each file that it was cut off, or that its file system has failed, as soon as this
//! library has its turn after that.

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

/// Of how many files it is known what was said.
const FILES: usize = 256;

/// What is said of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// Zeros were found behind its end.
    CutOff,
    /// What was written behind its end is lost.
    Written,
    /// What could not be read are zeros.
    Unread,
    /// What could not be written is lost.
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
/// What [`event::count`] was when this was done last, and above it the process.
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

/// Whether it was not said yet; it is from here on. `None`: that cannot be told.
fn is_new(file: FileId, what: What) -> Option<bool> {
    let said = Said {
        pid: pid(),
        file,
        what,
    };
    let held = LOCK.get()?;
    // SAFETY: Of this lock, and got once.
    let all = unsafe { SAID.get(&held) };
    // A child begins anew.
    let is_old = |slot: &Option<Said>| slot.is_none_or(|old| old.pid != said.pid);
    let is_this =
        |slot: &Option<Said>| slot.is_some_and(|old| old.file == file && old.what == what);
    let slot = all.iter_mut().find(|slot| is_old(slot) || is_this(slot))?;
    let is_new = is_old(slot);
    *slot = Some(said);
    Some(is_new)
}

/// To be called now and then: says what there is to say. Costs a system call if there is nothing.
pub fn look() {
    if !options::notices() || lost::has_none() || vfork::is_child() {
        return;
    }
    // If nobody knows, at the end.
    let Some(count) = event::count(false) else {
        return;
    };
    let looked = (u64::from(pid()) << 32) | (count & u64::from(u32::MAX));
    if count != 0 && LOOKED.load(Acquire) != looked && LOOKED.swap(looked, AcqRel) != looked {
        say_all();
    }
}

/// What is said once of a process.
fn once(said: &AtomicU32, line: impl FnOnce(&mut Text<384>) -> fmt::Result) {
    if options::notices() && !vfork::is_child() && said.swap(pid(), Relaxed) != pid() {
        say(b"", line);
    }
}

/// The device cannot be used, because of the errno.
pub fn unreachable(errno: i32) {
    static SAID: AtomicU32 = AtomicU32::new(0);
    once(&SAID, |text| {
        write!(
            text,
            "files that are mapped from here on are not protected: /dev/nosigbus cannot be used (errno {errno})"
        )
    });
}

/// There are so many mappings that some are made plain ones.
pub fn too_many() {
    static SAID: AtomicU32 = AtomicU32::new(0);
    once(&SAID, |text| {
        write!(
            text,
            "some mappings of files are not protected: there are too many (vm.max_map_count)"
        )
    });
}

/// Mappings are made plain ones because they are to be locked, or the like.
pub fn locked() {
    static SAID: AtomicU32 = AtomicU32::new(0);
    once(&SAID, |text| {
        write!(
            text,
            "some mappings of files are not protected: the program locks them in memory, or advises the kernel so"
        )
    });
}

/// A program is executed that this library does not reach.
pub fn not_reached(program: &[u8], why: &str) {
    if options::notices() {
        say(program, |text| write!(text, ": not protected: {why}"));
    }
}

/// Says what was not said yet.
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
