// SPDX-License-Identifier: GPL-2.0-only

//! `NOSIGBUS_DISABLE`.

use super::{
    mapping::Mapping,
    vmas::for_each_vma, //
};
use crate::{
    abstractions::mm::MmapWriteGuard,
    policy::range::PageRange, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*, //
};

/// Opts out the VMAs of a range of `mm`: all of them, or on any error none.
///
/// `addr` and `len` are in bytes, as user space has passed them.
///
/// # Context
///
/// In the ioctl, without locks. Takes the mmap lock for write; sleeps.
///
/// # Errors
///
/// `NOSIGBUS_DISABLE` in `include/uapi/linux/nosigbus.h` lists them.
pub(super) fn disable(mm: &MmWithUser, addr: u64, len: u64) -> Result {
    let range = PageRange::new(addr, len)?;
    let mut guard = MmapWriteGuard::lock_killable(mm)?;

    let mut opted_in = KVVec::new();
    for_each_vma(&mut guard, &range, |vma| {
        let vma = vma.into_wrapped::<Mapping>().ok_or(ENOENT)?;
        opted_in.push(vma, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    })?;

    for vma in opted_in {
        vma.restore(Mapping::lowest_stand_in);
    }
    Ok(())
}
