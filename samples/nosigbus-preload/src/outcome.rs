// SPDX-License-Identifier: MIT OR Apache-2.0

//! The status that a program ends with which would end with 0, though what it has read or written
//! was not the file's.

use crate::{lost, options, vfork};

/// EX_DATAERR of sysexits.h: what was read was cut off, or could not be read.
const READS: i32 = 65;
/// EX_IOERR: what was written is not in the file.
const WRITES: i32 = 74;

/// That status; 0 if nothing is wrong.
pub fn status() -> i32 {
    if !options::changes_status() || vfork::is_child() {
        return 0;
    }
    let mut status = options::inherited();
    if lost::has_none() || !lost::may_have_been(true) {
        return status;
    }
    let others = lost::for_each(|entry, _| {
        status = status.max(if entry.identity.is_shared_write() {
            WRITES
        } else {
            READS
        });
    });
    if others.there != 0 || others.gone != 0 {
        status = status.max(READS);
    }
    status
}

/// The status to end with, of a program that is about to end with another.
pub fn instead_of(status: i32) -> i32 {
    // What its parent gets to see.
    match status & 0xff {
        0 => self::status(),
        _ => status,
    }
}
