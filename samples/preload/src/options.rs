// SPDX-License-Identifier: GPL-2.0-only

//! What `nosigbus run` was asked for. It is in an environment variable, which is read once, before
//! the program can change its environment.

use crate::kernel::NOSIGBUS_RECORD_ERRORS;
use std::{
    ffi::{CStr, c_char},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

/// Words with a space in between.
const VARIABLE: &[u8] = b"NOSIGBUS_RUN=";

const READ: u8 = 1 << 0;
const RECORD_ERRORS: u8 = 1 << 1;
const STATS: u8 = 1 << 2;

static OPTIONS: AtomicU8 = AtomicU8::new(0);

unsafe extern "C" {
    static environ: *const *const c_char;
}

fn get() -> u8 {
    match OPTIONS.load(Relaxed) {
        0 => read(),
        options => options,
    }
}

/// Reads them. The constructor does, or a mapping that is made before it has run.
pub fn read() -> u8 {
    let mut options = READ;
    // SAFETY: The environment is a list of strings with a null pointer at its end, or there is none
    // yet. There are no threads yet that could change it.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            if let Some(words) = CStr::from_ptr(*entry).to_bytes().strip_prefix(VARIABLE) {
                for word in words.split(|&byte| byte == b' ') {
                    options |= match word {
                        b"record-errors" => RECORD_ERRORS,
                        b"stats" => STATS,
                        _ => 0,
                    };
                }
            }
            entry = entry.add(1);
        }
    }
    OPTIONS.store(options, Relaxed);
    options
}

/// The flags of NOSIGBUS_ENABLE.
pub fn enable_flags() -> u32 {
    if get() & RECORD_ERRORS != 0 {
        NOSIGBUS_RECORD_ERRORS
    } else {
        0
    }
}

pub fn stats() -> bool {
    get() & STATS != 0
}
