// SPDX-License-Identifier: MIT OR Apache-2.0

//! The options of `nosigbus run`. It passes them in environment variables. This module reads the
//! variables once, before the program can change its environment.

use crate::{
    kernel::{is_privileged, pid},
    text::{Text, number},
};
use nosigbus::uapi::NOSIGBUS_RECORD_ERRORS;
use nosigbus_common::options::{Choice, LOG_VARIABLE, VARIABLE};
use std::{
    ffi::{CStr, c_char},
    fmt::Write,
    sync::atomic::{
        AtomicPtr, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// Starts the word that a program passes on at exec: process ID, colon, [`inherited`] status.
const INHERITED: &[u8] = b"ends-with=";

/// A bit of `OPTIONS`: the variables were read.
const READ: u32 = 1 << 0;
/// A bit of `OPTIONS`: `VARIABLE` is set, so `nosigbus run` has loaded this library.
const RUN: u32 = 1 << 1;

/// Returns the bit of a choice in `OPTIONS`.
const fn bit(choice: Choice) -> u32 {
    1 << (2 + choice as u32)
}

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

fn is_set(choice: Choice) -> bool {
    get() & bit(choice) != 0
}

/// Returns the value of a variable, if the entry of the environment is that variable.
fn value_in<'a>(entry: &'a [u8], variable: &str) -> Option<&'a [u8]> {
    entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"=")
}

/// Returns the bit of a word, or stores the status that the word passes on.
fn word(word: &[u8]) -> u32 {
    let mut choices = Choice::ALL.iter();
    if let Some(choice) = choices.find(|choice| choice.word().as_bytes() == word) {
        return bit(*choice);
    }
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

/// Removes the variables from the environment, as the dynamic linker removes its own from that of a
/// program that gains privileges. A program that it executes may have these privileges for good, and
/// does not know that the variables are not its user's. This uses no function of libc, because a
/// program can have its own.
///
/// # Safety
///
/// The environment must be a list of strings with a null pointer at its end, or null, and no other
/// thread may access it.
unsafe fn remove_variables() {
    // SAFETY: The caller's. `to` is never behind `from`.
    unsafe {
        let (mut from, mut to) = (environ, environ.cast_mut());
        while !from.is_null() && !(*from).is_null() {
            let entry = CStr::from_ptr(*from).to_bytes();
            if value_in(entry, VARIABLE)
                .or(value_in(entry, LOG_VARIABLE))
                .is_none()
            {
                *to = *from;
                to = to.add(1);
            }
            from = from.add(1);
        }
        if !to.is_null() {
            *to = std::ptr::null();
        }
    }
}

/// Reads the options. The constructor calls this; a mapping that is created earlier calls it first.
pub fn read() -> u32 {
    let mut options = READ;
    // A program that gains privileges loads this library if /etc/ld.so.preload names it. Then the
    // library ignores the environment: whoever starts the program could make it open a log.
    if is_privileged() {
        // SAFETY: As below.
        unsafe { remove_variables() };
        OPTIONS.store(options, Release);
        return options;
    }
    // SAFETY: The environment is a list of strings with a null pointer at its end, or there is none
    // yet. There are no threads yet that could change it.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            if let Some(words) = value_in(text, VARIABLE) {
                options |= RUN;
                for part in words.split(|&byte| byte == b' ') {
                    options |= word(part);
                }
            } else if let Some(path) = value_in(text, LOG_VARIABLE) {
                let start = (*entry).add(text.len() - path.len());
                LOG.store(start.cast_mut(), Relaxed);
            }
            entry = entry.add(1);
        }
    }
    OPTIONS.store(options, Release);
    options
}

/// Whether errors of file systems are to be recorded.
pub fn records_errors() -> bool {
    is_set(Choice::RecordErrors)
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
    is_set(Choice::Stats)
}

/// Returns whether to report at once which files have lost pages.
pub fn notices() -> bool {
    get() & (RUN | bit(Choice::Quiet)) == RUN
}

/// Returns whether to change the exit status 0 of a program for which pages were lost.
pub fn changes_status() -> bool {
    get() & (RUN | bit(Choice::KeepStatus)) == RUN
}

/// Returns whether any option needs to know what happens to mappings.
pub fn watches() -> bool {
    stats() || notices() || changes_status()
}

/// Returns whether to record errors even if the program has its own handler for SIGBUS.
pub fn force() -> bool {
    is_set(Choice::Force)
}

/// Returns whether the program's own handler for SIGBUS is still called for truncated files.
pub fn keeps_handlers() -> bool {
    is_set(Choice::KeepHandlers)
}

/// Whether shared mappings that can be written to are left alone.
pub fn shared_read_only() -> bool {
    is_set(Choice::SharedReadOnly)
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
    value_in(entry, VARIABLE).is_some()
}

/// Writes the variable with the options for the program that replaces this one. That program must
/// exit with `status` instead of 0.
pub fn variable_for_next<const SIZE: usize>(entry: &[u8], status: i32, text: &mut Text<SIZE>) {
    for part in entry.split(|&byte| byte == b' ') {
        let words = value_in(part, VARIABLE).unwrap_or(part);
        if !words.starts_with(INHERITED) {
            text.push(part);
            text.push(b" ");
        } else if part.len() != words.len() {
            text.push(VARIABLE.as_bytes());
            text.push(b"=");
        }
    }
    text.push(INHERITED);
    let _ = write!(text, "{}:{status}\0", pid());
}
