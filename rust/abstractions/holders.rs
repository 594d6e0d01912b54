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

impl Holder {
    /// What an address space has with its first VMA.
    const NEW: Self = Self { vmas: 1, pages: 0 };
}

/// The holders of a mapping, by address space. No key is in both fields.
struct Table {
    /// Kept out of the tree, so that a mapping which one address space has needs no allocation.
    first: Option<(MmKey, Holder)>,
    others: RBTree<MmKey, Holder>,
}

impl Table {
    fn get_mut(&mut self, mm: MmKey) -> Option<&mut Holder> {
        match &mut self.first {
            Some((first, holder)) if *first == mm => Some(holder),
            _ => self.others.get_mut(&mm),
        }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (MmKey, &mut Holder)> {
        let first = self.first.iter_mut().map(|(mm, holder)| (*mm, holder));
        let others = self.others.iter_mut().map(|(mm, holder)| (*mm, holder));
        Iterator::chain(first, others)
    }

    /// Counts one more VMA of `mm`. Returns `false` if only a new node of the tree can hold it.
    fn open(&mut self, mm: MmKey) -> bool {
        if let Some(holder) = self.get_mut(mm) {
            holder.vmas += 1;
            return true;
        }
        if self.first.is_some() {
            return false;
        }
        self.first = Some((mm, Holder::NEW));
        true
    }

    fn remove(&mut self, mm: MmKey) {
        if self.first.take_if(|(first, _)| *first == mm).is_none() {
            self.others.remove(&mm);
        }
    }
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
    holders: Mutex<Table>,
}

impl Holders {
    /// No holder yet.
    pub(super) fn new() -> impl PinInit<Self> {
        // INVARIANT: None.
        pin_init!(Self {
            holders <- new_mutex!(Table {
                first: None,
                others: RBTree::new(),
            }),
        })
    }

    /// Records one more VMA of `mm`. Allocates memory if `mm` is new and not the only holder; if
    /// that fails, `mm` is not recorded, and its pages are accounted to another holder.
    ///
    /// # Context
    ///
    /// Takes the mutex of this value. `->open` and ENABLE call it, with the mmap lock held for
    /// write. Sleeps.
    ///
    /// # Safety
    ///
    /// `mm` must have gained a VMA of this mapping that is not recorded yet, and [`Self::closed`]
    /// must be called before that VMA is freed.
    pub(super) unsafe fn opened(&self, mm: MmKey) {
        // INVARIANT: `mm` has one VMA more, as the caller promises.
        if self.holders.lock().open(mm) {
            return;
        }
        let Ok(reserved) = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT) else {
            return;
        };
        let mut holders = self.holders.lock();
        // The first holder may have gone meanwhile. INVARIANT: As above.
        if !holders.open(mm) {
            holders.others.insert(reserved.into_node(mm, Holder::NEW));
        }
    }

    /// Forgets one VMA of `mm`. With the last one, moves the pages that are accounted to `mm` to
    /// another holder. Takes the mutex of this value; sleeps.
    pub(super) fn closed(&self, mm: MmKey) {
        let mut holders = self.holders.lock();
        let Some(holder) = holders.get_mut(mm) else {
            return;
        };
        holder.vmas -= 1;
        if holder.vmas > 0 {
            return;
        }
        let pages = holder.pages;
        add_rss(mm, -(pages as isize));
        // INVARIANT: `vmas` is 0, so the entry is removed.
        holders.remove(mm);
        add_to_holder(&mut holders, mm, pages);
    }

    /// Counts one more page, allocated for a fault in `mm`. Sleeps.
    pub(super) fn add(&self, mm: MmKey) {
        add_to_holder(&mut self.holders.lock(), mm, 1);
    }

    /// Uncounts `pages` pages, from the RSS of any holders that have them counted. Sleeps.
    pub(super) fn sub(&self, mut pages: u64) {
        for (mm, holder) in self.holders.lock().iter_mut() {
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
fn add_to_holder(holders: &mut Table, mm: MmKey, pages: u64) {
    let mm = match holders.get_mut(mm) {
        Some(_) => mm,
        None => match holders.iter_mut().next() {
            Some((other, _)) => other,
            None => return,
        },
    };
    if let Some(holder) = holders.get_mut(mm) {
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
