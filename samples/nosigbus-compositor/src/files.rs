// SPDX-License-Identifier: MIT OR Apache-2.0

//! How clients' files are mapped. All that protecting takes: opt each mapping in, have the device in
//! the event loop, and ask a mapping for its status when the device tells of it.

use anyhow::{Result, anyhow};
use nosigbus::{Device, ErrorKind, MapOptions, Mapping, Notice};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::fcntl_get_seals,
};
use std::thread;

pub struct Files {
    /// If they are to be protected.
    device: Option<Device>,
    /// A client that serves its file itself (FUSE), or has it from a server that is gone, can have
    /// the compositor wait for it for ever.
    tmpfs_only: bool,
}

impl Files {
    pub fn new(protect: bool, tmpfs_only: bool) -> Result<Self> {
        Ok(Self {
            device: protect.then(open_device).transpose()?,
            tmpfs_only,
        })
    }

    /// Maps a client's file. These are the lines that protect. Errors of the file system are answered
    /// like a lost page: a client may send a sparse file of a full file system.
    pub fn map(&self, options: MapOptions<'_>, file: impl AsFd) -> nosigbus::Result<Mapping> {
        let options = options.tmpfs_only(self.tmpfs_only);
        match &self.device {
            Some(device) => options.record_errors(true).map(device, file),
            None => options.map_plain(file),
        }
    }

    /// To be in the event loop, if anything is to be heard.
    pub fn event(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_ref().map(|device| device.as_fd())
    }

    /// Of which mappings there is something to hear. Their status is to be asked for after this.
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

/// To close a file means to ask its file system, which may ask a server, and wait for its answer
/// (FUSE): not here, unless it is of a tmpfs, which has seals.
impl Drop for ClientFile {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            if fcntl_get_seals(&file).is_err() {
                // If there is no thread to be had, it is closed here.
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

/// What is wrong with the file, if the compositor has met a page that it does not have.
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
