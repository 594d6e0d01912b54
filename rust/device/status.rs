// SPDX-License-Identifier: GPL-2.0-only

//! `NOSIGBUS_STATUS`.

use super::{
    mapping::Mapping,
    mapping_state::MappingState, //
};
use crate::abstractions::{
    bindings::nosigbus_status,
    file::{
        MappedFile,
        PinnedFile, //
    },
    vm_operations::handler_of, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};

/// References to the mapping at an address. They stay valid after the VMA is unmapped.
pub(super) struct Found {
    state: Arc<MappingState>,
    file: PinnedFile,
}

impl Found {
    /// The mapping at `addr`, an address in bytes as user space has passed it.
    ///
    /// # Context
    ///
    /// Sleeps. Takes the mmap lock for read, and nothing that a fault waits for.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if no VMA contains `addr`, `ENOENT` if that VMA is not opted in.
    pub(super) fn at(mm: &MmWithUser, addr: u64) -> Result<Self> {
        let addr = usize::try_from(addr).map_err(|_| ENOMEM)?;
        let guard = mm.mmap_read_lock();
        let vma = guard.vma_lookup(addr).ok_or(ENOMEM)?;
        let mapping = handler_of::<Mapping>(vma).ok_or(ENOENT)?;
        Ok(Self {
            state: mapping.state().clone(),
            file: MappedFile::of(vma).ok_or(ENOENT)?.pin(),
        })
    }

    /// Its state.
    pub(super) fn state(&self) -> &MappingState {
        &self.state
    }

    /// See `Errors::clear`.
    pub(super) fn clear_error(&self, reported: &nosigbus_status) -> Result<bool> {
        match &self.state.errors {
            Some(errors) => errors.clear(&self.file.file().inode(), &self.state, reported),
            None => Ok(true),
        }
    }
}
