// SPDX-License-Identifier: GPL-2.0-only

//! The address spaces that hold a mapping, and what each of them holds of its pages.
//!
//! C header: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h)
//!
//! Shadow pages stay allocated when no PTE maps them, e.g. after `madvise(MADV_DONTNEED)`. They are
//! counted in the RSS of an address space that has the mapping (`RssShmem` in /proc/PID/status),
//! since that is what the OOM killer goes by. Where a page is mapped as well, core mm counts it
//! once more (`RssFile`).

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

/// The address of a `struct mm_struct`, used as a key. Not a reference, unlike
/// [`kernel::mm::Mm`]. May be dereferenced only while a [`Holder`] exists for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct MmKey(usize);

impl MmKey {
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) const NONE: Self = Self(0);

    pub(super) fn new(mm: *mut mm_struct) -> Self {
        Self(mm as usize)
    }
}

/// What one address space has of a mapping: its VMAs, and the pages counted in its RSS.
struct Holder {
    vmas: usize,
    /// How many shadow pages are counted in its RSS.
    pages: u64,
}

/// The address spaces that hold a mapping.
///
/// # Invariants
///
/// For each key: `vmas` is not 0, and the mm has at least `vmas` VMAs of this mapping. So the
/// `mm_struct` is valid.
#[pin_data]
pub(super) struct Holders {
    #[pin]
    holders: Mutex<RBTree<MmKey, Holder>>,
}

impl Holders {
    /// No holder yet.
    pub(super) fn new() -> impl PinInit<Self> {
        // INVARIANT: None.
        pin_init!(Self {
            holders <- new_mutex!(RBTree::new()),
        })
    }

    /// Records one more VMA of `mm`. If the allocation fails, `mm` is not recorded, and its pages
    /// are accounted to another holder.
    ///
    /// # Context
    ///
    /// Allocates memory, and takes the mutex of this value. `->open` and ENABLE call it, with the
    /// mmap lock held for write. Sleeps.
    ///
    /// # Safety
    ///
    /// `mm` must have gained a VMA of this mapping that is not recorded yet, and [`Self::closed`]
    /// must be called before that VMA is freed.
    pub(super) unsafe fn opened(&self, mm: MmKey) {
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

    /// Forgets one VMA of `mm`. With the last one, moves the pages that are accounted to `mm` to
    /// another holder. Takes the mutex of this value; sleeps.
    pub(super) fn closed(&self, mm: MmKey) {
        let mut holders = self.holders.lock();
        let Some(holder) = holders.get_mut(&mm) else {
            return;
        };
        holder.vmas -= 1;
        if holder.vmas > 0 {
            return;
        }
        let pages = holder.pages;
        add_rss(mm, -(pages as isize));
        // INVARIANT: `vmas` is 0, so the entry is removed.
        holders.remove(&mm);
        add_to_holder(&mut holders, mm, pages);
    }

    /// Counts one more page, allocated for a fault in `mm`. Sleeps.
    pub(super) fn add(&self, mm: MmKey) {
        add_to_holder(&mut self.holders.lock(), mm, 1);
    }

    /// Uncounts `pages` pages, from the RSS of any holders that have them counted. Sleeps.
    pub(super) fn sub(&self, mut pages: u64) {
        for (&mm, holder) in self.holders.lock().iter_mut() {
            let taken = pages.min(holder.pages);
            holder.pages -= taken;
            add_rss(mm, -(taken as isize));
            pages -= taken;
            if pages == 0 {
                break;
            }
        }
    }
}

/// Counts `pages` pages in the RSS of `mm` if it is a holder, otherwise in that of another holder.
fn add_to_holder(holders: &mut RBTree<MmKey, Holder>, mm: MmKey, pages: u64) {
    let mm = match holders.get(&mm) {
        Some(_) => mm,
        None => match holders.keys().next() {
            Some(&other) => other,
            None => return,
        },
    };
    if let Some(holder) = holders.get_mut(&mm) {
        holder.pages += pages;
        add_rss(mm, pages as isize);
    }
}

/// Adds `pages` to the RSS of `mm`, which must be a holder.
fn add_rss(mm: MmKey, pages: isize) {
    if pages != 0 {
        // SAFETY: `mm` is a key of `Holders`. By the invariants of that, it has a VMA, and so is
        // valid.
        unsafe { bindings::nosigbus_mm_add_shmem_pages(mm.0 as *mut mm_struct, pages) };
    }
}
