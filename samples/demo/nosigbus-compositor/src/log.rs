// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages on stderr.

use std::fmt::Display;

/// Prints an error.
pub fn complain(error: impl Display) {
    // The alternate form of an anyhow::Error has its causes.
    eprintln!("nosigbus-compositor: {error:#}");
}

/// Prints why a client gets an error, which disconnects it.
pub fn disconnected(why: impl Display) {
    complain(format_args!("a client is disconnected: {why}"));
}
