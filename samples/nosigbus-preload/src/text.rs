// SPDX-License-Identifier: MIT OR Apache-2.0

//! Text in fixed buffers: no memory is allocated.

pub use nosigbus_common::escape;

use std::fmt;

/// Text of a limited length. What is too long is cut off.
pub struct Text<const SIZE: usize> {
    bytes: [u8; SIZE],
    len: usize,
}

impl<const SIZE: usize> Text<SIZE> {
    pub fn new() -> Self {
        Self {
            bytes: [0; SIZE],
            len: 0,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        for (to, &from) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *to = from;
            self.len += 1;
        }
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const SIZE: usize> fmt::Write for Text<SIZE> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Returns whether a name can be printed as it is: it is one line, and contains no backslash and no
/// terminal control characters.
pub fn is_plain(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| {
        name.chars()
            .all(|c| c != '\\' && (matches!(c, '\'' | '"') || c.escape_debug().count() == 1))
    })
}

pub fn number(digits: &[u8], base: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok()
}
