// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the command `nosigbus` and its preload library share. The library calls it in any context,
//! even between fork and exec, so no function here allocates or panics.

#![no_std]

pub mod options;
pub mod reach;

use core::fmt::Write;

/// Escapes a name as `ls -b` does. The result is one line, without terminal control characters.
///
/// It ignores errors of `text`: a `String` has none, and a buffer that is full cuts the text off.
pub fn escape(name: &[u8], text: &mut impl Write) {
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = match c {
                '\'' | '"' => text.write_char(c),
                _ => write!(text, "{}", c.escape_debug()),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
}
