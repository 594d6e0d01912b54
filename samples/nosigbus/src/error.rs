// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can go wrong.

use crate::RecordedError;
use rustix::io::Errno;
use std::{fmt, io};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Its `Display` shows which operation has failed, and why:
///
/// > /dev/nosigbus: No such file or directory (os error 2)
///
/// `?` converts it to an [`io::Error`] with the same
/// [`raw_os_error`](io::Error::raw_os_error). Each [`ErrorKind`] describes what to do about the
/// error. The program decides whether to show that to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    /// What has failed.
    action: &'static str,
    errno: Option<Errno>,
    recorded: Option<RecordedError>,
}

/// The kind of an [`Error`], for programs that can continue in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no `/dev/nosigbus`: the module is not loaded. Root can load it, by
    /// `insmod nosigbus.ko` or modprobe.
    /// [`MapOptions::map_or_plain`](crate::MapOptions::map_or_plain) works without the module.
    NotLoaded,
    /// The process may not open the device. By default every user may. Check the mode of the
    /// device, and whether a sandbox confines the process.
    Denied,
    /// The file descriptor is not one of `/dev/nosigbus`.
    NotTheDevice,
    /// The module does not know the command: it is older than this crate.
    TooOld,
    /// The mapping cannot be opted in. It must map an ordinary file. It must not be locked in
    /// memory (by mlock, or by mlockall with `MCL_FUTURE`), and not be registered with
    /// userfaultfd.
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
    /// The range is empty, does not begin at a page boundary, is larger than any file, or covers
    /// only part of a mapping. The last can happen because the kernel merges adjacent mappings if
    /// they are also adjacent in the file.
    InvalidRange,
    /// The file descriptor passed as an eventfd is not an eventfd.
    NotAnEventfd,
    /// The kernel cannot map the file in this way, or no further mapping is possible. The errno
    /// says why. EACCES: the file is not open for reading, or, for a writable shared mapping, not
    /// for reading and writing. EPERM: a seal of the file forbids it. ENOMEM: the address space or
    /// the number of mappings (`vm.max_map_count`) is used up. EAGAIN: the limit of locked memory
    /// is reached.
    CannotMap,
    /// The bytes to copy do not lie in the mapping.
    OutOfBounds,
    /// The mapping is not writable: see [`MapOptions::write`](crate::MapOptions::write).
    ReadOnly,
    /// The file was shorter than the mapping when it was accessed. Reads past its end returned
    /// zeros. Data written past its end may not be in the file.
    CutOff,
    /// The file system has failed, so data that was read or written is wrong or lost.
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

    /// Creates an error for an errno that is unexpected or needs no explanation.
    pub(crate) const fn other(action: &'static str, errno: Errno) -> Self {
        Self::new(ErrorKind::Other, action, Some(errno))
    }

    /// Creates the error for a mapping that has had stand-ins.
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

    /// Returns the errno that the kernel has returned, or would have returned.
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

/// Keeps the errno. An error without errno becomes an [`io::Error`] with a similar kind and the
/// same text; [`io::Error::get_ref`] returns the [`Error`] itself.
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
