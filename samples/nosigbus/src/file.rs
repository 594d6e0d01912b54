// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a file is to mmap.
//!
//! No function here allocates memory or changes errno.

use crate::{Error, Result};
use rustix::{
    fd::BorrowedFd,
    fs::{FileType, fstat, fstatfs},
};

const HUGETLBFS_MAGIC: u32 = 0x9584_58f6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, whose mappings are as long as requested.
    Ordinary,
    /// A file on hugetlbfs, whose mappings are longer than requested.
    HugePages,
    /// A device, for example. Mapping it can have side effects.
    Other,
}

impl Kind {
    /// Asks the file system, which may wait for a server (FUSE).
    pub fn of(file: BorrowedFd<'_>) -> Result<Self> {
        let stat = fstat(file).map_err(|errno| Error::other("fstat", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Self::Other);
        }
        let statfs = fstatfs(file).map_err(|errno| Error::other("fstatfs", errno))?;
        Ok(if statfs.f_type as u32 == HUGETLBFS_MAGIC {
            Self::HugePages
        } else {
            Self::Ordinary
        })
    }
}
