// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--stats`: prints at exit which files had lost pages.

use crate::{fdinfo::Entry, kernel::pid, lost, names, options, output::say, text::Text, vfork};
use std::{
    fmt::Write,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// The process that was started, not forked.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// The process that has printed its statistics.
static TOLD: AtomicU32 = AtomicU32::new(0);

pub fn start() {
    STARTED.store(pid(), Relaxed);
}

/// Prints the statistics, once per process.
pub fn end() {
    if options::stats() && !vfork::is_child() && TOLD.swap(pid(), Relaxed) != pid() {
        let (count, (with_stand_ins, up_to)) = (lost::count_opted_in(), tell());
        // A forked child that opted nothing in prints no summary.
        if count != 0 || STARTED.load(Relaxed) == pid() {
            say(b"", |text| {
                write!(
                    text,
                    "mappings of files: {count} opted in, {up_to}{with_stand_ins} had lost pages"
                )
            });
        }
    }
}

/// Prints what would be lost at exec.
pub fn before_exec() {
    if options::stats() {
        tell();
    }
}

/// Prints a line for each mapping that has had stand-ins. Returns how many there are, and "up to "
/// if there may be fewer.
fn tell() -> (usize, &'static str) {
    if lost::count_opted_in() == 0 {
        return (0, "");
    }
    // Once for all, because clients choose how many mappings there are.
    lost::keep_paths();
    let mut count = 0;
    let others = lost::for_each(|entry, path| {
        count += 1;
        tell_of(
            entry,
            path.or_else(|| names::known(entry.identity.file, None)),
        );
    });
    if others.there != 0 {
        say(b"", |text| {
            write!(
                text,
                "{} more, which may have lost pages: the kernel does not say",
                others.there
            )
        });
    }
    if others.gone == 0 {
        return (count, "");
    }
    say(b"", |text| {
        write!(
            text,
            "up to {} more, which are not mapped any more",
            others.gone
        )
    });
    (count + others.gone, "up to ")
}

/// Returns a name for a file whose path is not known: its device and inode.
pub fn unknown(entry: &Entry) -> Text<64> {
    let (major, minor, inode) = entry.identity.file;
    let mut text = Text::new();
    let _ = write!(text, "file {major:02x}:{minor:02x}:{inode}");
    text
}

/// Returns the name of an errno, or "errno" if it is none of these.
pub fn errno_name(errno: u64) -> &'static str {
    match errno as i32 {
        libc::EIO => "EIO",
        libc::ENOSPC => "ENOSPC",
        libc::EDQUOT => "EDQUOT",
        _ => "errno",
    }
}

fn tell_of(entry: &Entry, path: Option<&[u8]>) {
    let unknown = unknown(entry);
    say(path.unwrap_or(unknown.bytes()), |text| {
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
            let perhaps = if entry.deduced { "perhaps " } else { "" };
            write!(
                text,
                ", the first {perhaps}{} ({}) at byte {}",
                errno_name(entry.error),
                entry.error,
                entry.error_offset
            )?;
        }
        Ok(())
    });
}
