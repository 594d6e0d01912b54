// SPDX-License-Identifier: MIT OR Apache-2.0

//! The options of `nosigbus run`. It passes them in an environment variable. This module reads the
//! variable once, before the program can change its environment.

use crate::{
    kernel::{NOSIGBUS_RECORD_ERRORS, is_privileged, pid},
    text::{Text, number},
};
use std::{
    ffi::{CStr, c_char},
    fmt::Write,
    sync::atomic::{
        AtomicPtr, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// The variable with the options: words separated by spaces.
const VARIABLE: &[u8] = b"NOSIGBUS_RUN=";
/// The path of what `--log` names.
const LOG_VARIABLE: &[u8] = b"NOSIGBUS_LOG=";
/// Starts the word that a program passes on at exec: process ID, colon, [`inherited`] status.
const INHERITED: &[u8] = b"ends-with=";

const READ: u32 = 1 << 0;
/// The variable is set: `nosigbus run` has loaded this library.
const RUN: u32 = 1 << 1;
const RECORD_ERRORS: u32 = 1 << 2;
const STATS: u32 = 1 << 3;
const QUIET: u32 = 1 << 4;
const KEEP_STATUS: u32 = 1 << 5;
const FORCE: u32 = 1 << 6;
const KEEP_HANDLERS: u32 = 1 << 7;
const READ_ONLY: u32 = 1 << 8;

static OPTIONS: AtomicU32 = AtomicU32::new(0);
static LOG: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());
/// The process ID in the upper 32 bits, its [`inherited`] status in the lower ones.
static STATUS: AtomicU64 = AtomicU64::new(0);

pub type Strings = *const *const c_char;

unsafe extern "C" {
    pub static environ: Strings;
}

fn get() -> u32 {
    match OPTIONS.load(Acquire) {
        0 => read(),
        options => options,
    }
}

fn is_set(option: u32) -> bool {
    get() & option != 0
}

fn word(word: &[u8]) -> u32 {
    match word {
        b"record-errors" => RECORD_ERRORS,
        b"stats" => STATS,
        b"quiet" => QUIET,
        b"keep-status" => KEEP_STATUS,
        b"force" => FORCE,
        b"handlers=keep" => KEEP_HANDLERS,
        b"shared=read-only" => READ_ONLY,
        _ => {
            let status = || {
                let mut parts = word.strip_prefix(INHERITED)?.split(|&byte| byte == b':');
                let (pid, status) = (number(parts.next()?, 10)?, number(parts.next()?, 10)?);
                Some((pid << 32) | status)
            };
            if let Some(status) = status() {
                STATUS.store(status, Relaxed);
            }
            0
        }
    }
}

/// Reads the options. The constructor calls this; a mapping that is created earlier calls it first.
pub fn read() -> u32 {
    let mut options = READ;
    // A program that gains privileges loads this library if /etc/ld.so.preload names it. It must not
    // do what the environment of whoever starts it says, such as opening a log.
    if is_privileged() {
        OPTIONS.store(options, Release);
        return options;
    }
    // SAFETY: The environment is a list of strings with a null pointer at its end, or there is none
    // yet. There are no threads yet that could change it.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            if let Some(words) = text.strip_prefix(VARIABLE) {
                options |= RUN;
                for part in words.split(|&byte| byte == b' ') {
                    options |= word(part);
                }
            } else if text.starts_with(LOG_VARIABLE) {
                LOG.store((*entry).add(LOG_VARIABLE.len()).cast_mut(), Relaxed);
            }
            entry = entry.add(1);
        }
    }
    OPTIONS.store(options, Release);
    options
}

/// Whether errors of file systems are to be recorded.
pub fn records_errors() -> bool {
    is_set(RECORD_ERRORS)
}

/// `NOSIGBUS_RECORD_ERRORS`, if wanted.
pub fn record_errors_flag() -> u32 {
    if records_errors() {
        NOSIGBUS_RECORD_ERRORS
    } else {
        0
    }
}

pub fn stats() -> bool {
    is_set(STATS)
}

/// Returns whether to report at once which files have lost pages.
pub fn notices() -> bool {
    get() & (RUN | QUIET) == RUN
}

/// Returns whether to change the exit status 0 of a program for which pages were lost.
pub fn changes_status() -> bool {
    get() & (RUN | KEEP_STATUS) == RUN
}

/// Returns whether any option needs to know what happens to mappings.
pub fn watches() -> bool {
    stats() || notices() || changes_status()
}

/// Returns whether to record errors even if the program has its own handler for SIGBUS.
pub fn force() -> bool {
    is_set(FORCE)
}

/// Returns whether the program's own handler for SIGBUS is still called for truncated files.
pub fn keeps_handlers() -> bool {
    is_set(KEEP_HANDLERS)
}

/// Whether shared mappings that can be written to are left alone.
pub fn shared_read_only() -> bool {
    is_set(READ_ONLY)
}

/// Returns the path that `--log` names. Only the constructor may call this, because the string is
/// in the environment.
pub fn log() -> Option<&'static CStr> {
    get();
    let path = LOG.load(Relaxed);
    // SAFETY: A string of the environment, which nobody has changed yet.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}

/// Returns the status that this program must exit with instead of 0, or 0 if there is none. The
/// program that this process executed before has passed it on. A forked child does not inherit it.
pub fn inherited() -> i32 {
    let status = STATUS.load(Relaxed);
    if status >> 32 == u64::from(pid()) {
        status as i32
    } else {
        0
    }
}

/// Returns whether an environment entry is the variable with the options.
pub fn is_variable(entry: &[u8]) -> bool {
    entry.starts_with(VARIABLE)
}

/// Writes the variable with the options for the program that replaces this one. That program must
/// exit with `status` instead of 0.
pub fn variable_for_next<const SIZE: usize>(entry: &[u8], status: i32, text: &mut Text<SIZE>) {
    for part in entry.split(|&byte| byte == b' ') {
        let words = part.strip_prefix(VARIABLE).unwrap_or(part);
        if !words.starts_with(INHERITED) {
            text.push(part);
            text.push(b" ");
        } else if part.len() != words.len() {
            text.push(VARIABLE);
        }
    }
    text.push(INHERITED);
    let _ = write!(text, "{}:{status}\0", pid());
}
