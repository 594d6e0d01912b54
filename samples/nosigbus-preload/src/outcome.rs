// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changes the exit status of a program that would exit with 0 although it has read or written
//! stand-ins instead of the file's pages.

use crate::{lost, options, vfork};

/// EX_DATAERR of sysexits.h: what was read was cut off, or could not be read.
const READS: i32 = 65;
/// EX_IOERR: what was written is not in the file.
const WRITES: i32 = 74;

/// Returns the status to exit with instead of 0, or 0 if no page was lost.
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
    if others.gone_written {
        status = WRITES;
    } else if others.there != 0 || others.gone != 0 {
        status = status.max(READS);
    }
    status
}

/// Returns the status to exit with for a program that is about to exit with `status`.
pub fn instead_of(status: i32) -> i32 {
    // The parent sees only the lower 8 bits.
    match status & 0xff {
        0 => self::status(),
        _ => status,
    }
}
