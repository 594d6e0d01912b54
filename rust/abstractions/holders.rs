// SPDX-License-Identifier: GPL-2.0-only

//! The address spaces that hold a mapping, and what each of them holds of its pages.
//!
//! C header: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h)
//!
//! Pages that a mapping keeps stay when nothing maps them any more, as after madvise(2) with
//! `MADV_DONTNEED`. They are counted in the RSS of an address space that has the mapping (`RssShmem`
//! in /proc/PID/status), since that is what the OOM killer goes by. Where a page is mapped as well, core
//! mm counts it once more (`RssFile`).

use super::bindings;
use kernel::{
    bindings::mm_struct,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        new_mutex,
        Mutex, //
    }, //
};

/// An address space, by its address. Only a key, but for those that hold a mapping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Mm(usize);

impl Mm {
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) const NONE: Self = Self(0);

    pub(super) fn new(mm: *mut mm_struct) -> Self {
        Self(mm as usize)
    }
}

/// What an address space has of a mapping.
struct Holder {
    vmas: usize,
    /// On the count of its RSS.
    pages: u64,
}

/// The address spaces that hold a mapping.
///
/// # Invariants
///
/// Each address space in here has a VMA of the mapping, which keeps it, and so has each that is on the
/// count of a [`Holder`]'s `vmas`, which is not 0.
#[pin_data]
pub(crate) struct Holders {
    #[pin]
    holders: Mutex<RBTree<Mm, Holder>>,
}

impl Holders {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: None.
        pin_init!(Self {
            holders <- new_mutex!(RBTree::new()),
        })
    }

    /// There is one more VMA of the mapping. Sleeps. If there is no memory to remember another address
    /// space, what it holds is counted in that of the others.
    ///
    /// # Safety
    ///
    /// `mm` must have a VMA more since the last call, and [`Self::closed`] be called before that goes.
    pub(super) unsafe fn opened(&self, mm: Mm) {
        let reserved = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT);
        let mut holders = self.holders.lock();
        if let Some(holder) = holders.get_mut(&mm) {
            // INVARIANT: As the caller promises.
            holder.vmas += 1;
        } else if let Ok(reserved) = reserved {
            // INVARIANT: As the caller promises.
            holders.insert(reserved.into_node(mm, Holder { vmas: 1, pages: 0 }));
        }
    }

    /// A VMA of the mapping is about to go: what is held by its address space with the last one is held
    /// by another from here on. Sleeps.
    pub(super) fn closed(&self, mm: Mm) {
        let mut holders = self.holders.lock();
        let Some(holder) = holders.get_mut(&mm) else {
            return;
        };
        holder.vmas -= 1;
        if holder.vmas > 0 {
            return;
        }
        let pages = holder.pages;
        count(mm, -(pages as isize));
        // INVARIANT: Its last VMA is gone.
        holders.remove(&mm);
        give(&mut holders, mm, pages);
    }

    /// There is one page more, which a fault in `mm` has asked for. Sleeps.
    pub(super) fn add(&self, mm: Mm) {
        give(&mut self.holders.lock(), mm, 1);
    }

    /// There are so many pages less. Sleeps.
    pub(super) fn sub(&self, mut pages: u64) {
        for (&mm, holder) in self.holders.lock().iter_mut() {
            let taken = pages.min(holder.pages);
            holder.pages -= taken;
            count(mm, -(taken as isize));
            pages -= taken;
            if pages == 0 {
                break;
            }
        }
    }
}

/// Has so many pages held by an address space if it is a holder, or else by another that is.
fn give(holders: &mut RBTree<Mm, Holder>, mm: Mm, pages: u64) {
    let mm = match holders.get(&mm) {
        Some(_) => mm,
        None => match holders.keys().next() {
            Some(&other) => other,
            None => return,
        },
    };
    if let Some(holder) = holders.get_mut(&mm) {
        holder.pages += pages;
        count(mm, pages as isize);
    }
}

/// Adds to the RSS of an address space, which has to be a holder.
fn count(mm: Mm, pages: isize) {
    if pages != 0 {
        // SAFETY: By the invariants of `Holders` it has a VMA, and so is valid.
        unsafe { bindings::nosigbus_mm_add_shmem_pages(mm.0 as *mut mm_struct, pages) };
    }
}
