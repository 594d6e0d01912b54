// SPDX-License-Identifier: MIT OR Apache-2.0

//! Maps clients' files. Protection takes three steps. Opt each mapping in. Add the device to the
//! event loop. Ask a mapping for its status when the device reports it.

use anyhow::{Result, anyhow};
use nosigbus::{Device, ErrorKind, MapOptions, Mapping, Notice};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::fcntl_get_seals,
};
use std::thread;

pub struct Files {
    /// The device, if mappings are to be opted in.
    device: Option<Device>,
    /// Whether to refuse files that are not on a tmpfs. A client can serve its file itself (FUSE),
    /// or send a file of a server that is gone. The compositor could wait for ever for such a
    /// file.
    tmpfs_only: bool,
}

impl Files {
    pub fn new(protect: bool, tmpfs_only: bool) -> Result<Self> {
        Ok(Self {
            device: protect.then(open_device).transpose()?,
            tmpfs_only,
        })
    }

    /// Maps a client's file and opts the mapping in. Errors of the file system are handled like a
    /// lost page, because a client may send a sparse file on a full file system.
    pub fn map(&self, options: MapOptions<'_>, file: impl AsFd) -> nosigbus::Result<Mapping> {
        let options = options.tmpfs_only(self.tmpfs_only);
        match &self.device {
            Some(device) => options.record_errors(true).map(device, file),
            None => options.map_plain(file),
        }
    }

    /// Returns the file descriptor for the event loop, if mappings are opted in.
    pub fn event(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_ref().map(|device| device.as_fd())
    }

    /// Returns the notices of the device. After this, the caller asks the named mappings for their
    /// status.
    pub fn notices(&self) -> nosigbus::Result<Vec<Notice>> {
        self.device.as_ref().map_or(Ok(Vec::new()), Device::notices)
    }
}

/// A file that a client has sent.
pub struct ClientFile(Option<OwnedFd>);

impl From<OwnedFd> for ClientFile {
    fn from(file: OwnedFd) -> Self {
        Self(Some(file))
    }
}

impl AsFd for ClientFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
            .as_ref()
            .expect("it is there until it is dropped")
            .as_fd()
    }
}

/// Closes a file that is not on a tmpfs in another thread. Closing it calls its file system, which
/// may wait for a server (FUSE). Only files on a tmpfs have seals.
impl Drop for ClientFile {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            if fcntl_get_seals(&file).is_err() {
                // If no thread can be created, the file is closed here.
                let _ = thread::Builder::new().spawn(move || drop(file));
            }
        }
    }
}

fn open_device() -> Result<Device> {
    Device::open().map_err(|error| match error.kind() {
        ErrorKind::NotLoaded => {
            anyhow!("{error}: the nosigbus module is not loaded: insmod nosigbus.ko (as root)")
        }
        _ => error.into(),
    })
}

/// Returns the error for the client, if the compositor has accessed a page that the file does not
/// have.
pub fn complaint(mapping: &Mapping) -> Option<String> {
    if !mapping.is_protected() {
        return None;
    }
    match mapping.status() {
        Err(error) => Some(error.to_string()),
        Ok(status) => match status.error {
            Some(error) => Some(format!("the file cannot be accessed: {error}")),
            None if status.stand_ins() > 0 => Some("the file is shorter than its pool".into()),
            None => None,
        },
    }
}
