// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can go wrong, and what to do about it.

use crate::RecordedError;
use rustix::io::Errno;
use std::{borrow::Cow, fmt, io};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed. It displays what has failed, and what to do about it:
///
/// > /dev/nosigbus: No such file or directory (os error 2): the nosigbus module is not loaded:
/// > insmod nosigbus.ko (as root)
///
/// `?` makes an [`io::Error`] of it where one is wanted.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    /// What has failed.
    action: Cow<'static, str>,
    errno: Option<Errno>,
    /// Why it may have, or what to do.
    advice: Cow<'static, str>,
}

/// What kind of [`Error`] it is, where a program may want to go on in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no `/dev/nosigbus`: the module is not loaded.
    NotLoaded,
    /// The device may not be opened.
    Denied,
    /// The module does not know the command: it is older than this crate.
    TooOld,
    /// Only mappings of ordinary files can be opted in, which are not locked in memory and not
    /// registered with userfaultfd.
    Unsupported,
    /// Opted in already.
    AlreadyOptedIn,
    /// Not opted in.
    NotOptedIn,
    /// Nothing is mapped there, or memory is short.
    NoMemory,
    /// The range is empty, or covers part of a mapping only.
    InvalidRange,
    /// What was given as an eventfd is none.
    NotAnEventfd,
    /// The file cannot be mapped in this way.
    CannotMap,
    /// The bytes to copy do not lie in the mapping.
    OutOfBounds,
    /// The mapping is not writable.
    ReadOnly,
    /// The file was shorter than the mapping when it was accessed. What it lacked was read as zeros,
    /// and what was written there may not be in it.
    CutOff,
    /// The file system has failed, and with it what was read or written: [`Error::errno`] says why.
    Failed,
    /// Anything else; see [`Error::errno`].
    Other,
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        action: impl Into<Cow<'static, str>>,
        errno: impl Into<Option<Errno>>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            action: action.into(),
            errno: errno.into(),
            advice: advice.into(),
        }
    }

    /// An errno that is not expected, or speaks for itself.
    pub(crate) fn other(action: &'static str, errno: Errno) -> Self {
        Self::new(ErrorKind::Other, action, errno, "")
    }

    /// What a mapping with stand-ins cannot be relied on for.
    pub(crate) fn stood_in(error: Option<RecordedError>) -> Self {
        match error {
            Some(error) => Self::new(
                ErrorKind::Failed,
                format!("the page at byte {} of the file", error.offset),
                Errno::from_raw_os_error(error.errno),
                if error.deduced {
                    "or perhaps another error: what was written there is not in the file"
                } else {
                    "what was written there is not in the file"
                },
            ),
            None => Self::new(
                ErrorKind::CutOff,
                "the file was shorter than its mapping",
                None,
                "what it lacked was read as zeros, and what was written there may not be in it",
            ),
        }
    }

    pub(crate) fn with_advice(self, advice: impl Into<Cow<'static, str>>) -> Self {
        Self {
            advice: advice.into(),
            ..self
        }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno, if it was the kernel that has refused.
    pub fn errno(&self) -> Option<i32> {
        self.errno.map(Errno::raw_os_error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.action)?;
        if let Some(errno) = self.errno {
            write!(f, ": {}", io::Error::from(errno))?;
        }
        if !self.advice.is_empty() {
            write!(f, ": {}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Keeps the text, and the kind as far as it has one. The [`Error`] itself is in
/// [`io::Error::get_ref`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.errno {
            Some(errno) => io::Error::from(errno).kind(),
            None => match error.kind {
                ErrorKind::Unsupported => io::ErrorKind::Unsupported,
                ErrorKind::ReadOnly => io::ErrorKind::PermissionDenied,
                ErrorKind::CutOff => io::ErrorKind::UnexpectedEof,
                _ => io::ErrorKind::InvalidInput,
            },
        };
        Self::new(kind, error)
    }
}
