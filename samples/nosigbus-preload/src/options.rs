// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `nosigbus run` was asked for. It is in an environment variable, which is read once, before
//! the program can change its environment.

use crate::{
    kernel::{NOSIGBUS_RECORD_ERRORS, pid},
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

/// Words with a space in between.
const VARIABLE: &[u8] = b"NOSIGBUS_RUN=";
/// The path of what `--log` names.
const LOG_VARIABLE: &[u8] = b"NOSIGBUS_LOG=";
/// What a program leaves to the one that takes its place: its process, a colon, and its [`inherited`]
/// status.
const INHERITED: &[u8] = b"ends-with=";

const READ: u32 = 1 << 0;
/// The variable is there: it is `nosigbus run` that has this library loaded.
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
/// The process, and below it its [`inherited`] status.
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

/// Reads them. The constructor does, or a mapping that is made before it has run.
pub fn read() -> u32 {
    let mut options = READ;
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

/// Whether it is to be said at once which files have lost pages.
pub fn notices() -> bool {
    get() & (RUN | QUIET) == RUN
}

/// Whether a program that ends well although pages were lost has another status.
pub fn changes_status() -> bool {
    get() & (RUN | KEEP_STATUS) == RUN
}

/// Whether it is of interest what becomes of mappings.
pub fn watches() -> bool {
    stats() || notices() || changes_status()
}

/// Whether a program's own handler of SIGBUS does not make errors its own.
pub fn force() -> bool {
    is_set(FORCE)
}

/// Whether a program's own handler of SIGBUS goes on to be called for truncated files.
pub fn keeps_handlers() -> bool {
    is_set(KEEP_HANDLERS)
}

/// Whether shared mappings that can be written to are left alone.
pub fn shared_read_only() -> bool {
    is_set(READ_ONLY)
}

/// The path of what `--log` names. To be asked by the constructor: it is in the environment.
pub fn log() -> Option<&'static CStr> {
    get();
    let path = LOG.load(Relaxed);
    // SAFETY: A string of the environment, which nobody has changed yet.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}

/// The status that this program is to end with instead of 0, as the one has said whose place it has
/// taken; 0 if there is none. A child that was forked is another process.
pub fn inherited() -> i32 {
    let status = STATUS.load(Relaxed);
    if status >> 32 == u64::from(pid()) {
        status as i32
    } else {
        0
    }
}

/// Whether it is the entry of the environment that has the options.
pub fn is_variable(entry: &[u8]) -> bool {
    entry.starts_with(VARIABLE)
}

/// That entry for who takes the place of this program, which is to end with `status` instead of 0.
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
