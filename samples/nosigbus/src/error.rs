// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can go wrong.

use crate::RecordedError;
use rustix::io::Errno;
use std::{fmt, io};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed. It displays what has failed, and how:
///
/// > /dev/nosigbus: No such file or directory (os error 2)
///
/// `?` makes an [`io::Error`] of it where one is wanted, with the same
/// [`raw_os_error`](io::Error::raw_os_error). What to do about it stands with the [`ErrorKind`];
/// whether to tell that to somebody is up to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    /// What has failed.
    action: &'static str,
    errno: Option<Errno>,
    recorded: Option<RecordedError>,
}

/// What kind of [`Error`] it is, where a program may want to go on in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no `/dev/nosigbus`: the module is not loaded. Root loads it, by
    /// `insmod nosigbus.ko` or modprobe. [`MapOptions::map_or_plain`](crate::MapOptions::map_or_plain) does
    /// without.
    NotLoaded,
    /// The device may not be opened. As the module makes it, every user may; see its mode, and what
    /// the process is confined by.
    Denied,
    /// The file descriptor is not one of `/dev/nosigbus`.
    NotTheDevice,
    /// The module does not know the command: it is older than this crate.
    TooOld,
    /// Only mappings of ordinary files can be opted in, which are not locked in memory (by mlock, or
    /// by mlockall with `MCL_FUTURE`) and not registered with userfaultfd.
    Unsupported,
    /// The file is not of a tmpfs, and no memfd: see
    /// [`MapOptions::tmpfs_only`](crate::MapOptions::tmpfs_only).
    NotTmpfs,
    /// Opted in already.
    AlreadyOptedIn,
    /// Not opted in.
    NotOptedIn,
    /// Nothing is mapped in part of the range, or memory is short.
    NoMemory,
    /// The range is empty, does not begin with a page, is larger than any file, or covers part of a
    /// mapping only: the kernel makes one of adjacent mappings that continue each other in the
    /// file.
    InvalidRange,
    /// What was given as an eventfd is none.
    NotAnEventfd,
    /// The file cannot be mapped in this way, or no more of it. It has to be open for reading, and
    /// for a shared mapping that is writable for reading and writing (EACCES); it may be sealed
    /// against that (EPERM); the address space, or the number of mappings (`vm.max_map_count`), may
    /// be used up (ENOMEM), or what may be locked (EAGAIN).
    CannotMap,
    /// The bytes to copy do not lie in the mapping.
    OutOfBounds,
    /// The mapping is not writable: see [`MapOptions::write`](crate::MapOptions::write).
    ReadOnly,
    /// The file was shorter than the mapping when it was accessed. What it lacked was read as zeros,
    /// and what was written there may not be in it.
    CutOff,
    /// The file system has failed, and with it what was read or written:
    /// [`Error::recorded`] says where.
    Failed,
    /// Anything else; see [`Error::raw_os_error`].
    Other,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, action: &'static str, errno: Option<Errno>) -> Self {
        Self {
            kind,
            action,
            errno,
            recorded: None,
        }
    }

    /// An errno that is not expected, or speaks for itself.
    pub(crate) const fn other(action: &'static str, errno: Errno) -> Self {
        Self::new(ErrorKind::Other, action, Some(errno))
    }

    /// What a mapping with stand-ins cannot be relied on for.
    pub(crate) fn stood_in(recorded: Option<RecordedError>) -> Self {
        match recorded {
            Some(error) => Self {
                errno: Some(Errno::from_raw_os_error(error.errno)),
                recorded,
                ..Self::new(ErrorKind::Failed, "a page of the file", None)
            },
            None => Self::new(
                ErrorKind::CutOff,
                "the file was shorter than its mapping",
                None,
            ),
        }
    }

    /// What kind of error it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno, if it was the kernel that has refused, or would have.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno.map(Errno::raw_os_error)
    }

    /// The error of the file system, with [`ErrorKind::Failed`].
    pub const fn recorded(&self) -> Option<RecordedError> {
        self.recorded
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(recorded) = self.recorded {
            return recorded.fmt(f);
        }
        f.write_str(self.action)?;
        match self.errno {
            Some(errno) => write!(f, ": {}", io::Error::from(errno)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Keeps the errno. Where there is none, it keeps the text and the kind as far as it has one, and
/// the [`Error`] itself is in [`io::Error::get_ref`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match (error.errno, error.kind) {
            (Some(errno), _) => return errno.into(),
            (None, ErrorKind::ReadOnly) => io::ErrorKind::PermissionDenied,
            (None, ErrorKind::CutOff) => io::ErrorKind::UnexpectedEof,
            (None, _) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
