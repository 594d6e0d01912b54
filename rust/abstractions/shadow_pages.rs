// SPDX-License-Identifier: GPL-2.0-only

//! Shadow pages: pages of a mapping, stored in an xarray by page index.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)
//!
//! `kernel::xarray` can neither charge its nodes to a memory cgroup nor insert only where nothing
//! is yet.

use super::{
    bindings,
    holders::{
        Holders,
        MmKey, //
    },
    memalloc::NoReclaim,
};
use core::{
    ops::{
        Range,
        RangeInclusive, //
    },
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    bindings::{
        page,
        xa_mark_t,
        xarray, //
    },
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};

/// A reference on a page.
///
/// # Invariants
///
/// Owns one reference on a page of order 0.
pub(crate) struct PageRef(NonNull<page>);

impl PageRef {
    /// Allocates a zero-filled page for user space, charged to the memory cgroup of the task. The
    /// page is not movable. Sleeps; fails with `ENOMEM`.
    pub(crate) fn zeroed() -> Result<Self> {
        // SAFETY: Has no precondition.
        let page = unsafe { bindings::nosigbus_alloc_zeroed_user_page() };
        // INVARIANT: The reference that has come with it.
        NonNull::new(page).map(Self).ok_or(ENOMEM)
    }

    /// # Safety
    ///
    /// `page` must be a page of order 0. The caller must make sure that a reference on it exists
    /// until this returns.
    unsafe fn new(page: NonNull<page>) -> Self {
        // SAFETY: The page is in use, as the caller promises.
        unsafe { bindings::nosigbus_get_page(page.as_ptr()) };
        // INVARIANT: Taken just now.
        Self(page)
    }

    pub(super) fn as_ptr(&self) -> *mut page {
        self.0.as_ptr()
    }

    /// The page, with its reference.
    pub(super) fn into_raw(self) -> *mut page {
        let page = self.as_ptr();
        core::mem::forget(self);
        page
    }
}

impl Drop for PageRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference to give back.
        unsafe { bindings::nosigbus_put_page(self.as_ptr()) };
    }
}

/// The shadow pages of a mapping, by page index in its file.
///
/// Pages and xarray nodes are charged to the active memcg. Callers make that the one of the mm that
/// first touches a page (`Fault::charged`). Pages are also counted in the RSS of one mm that has a
/// VMA of the mapping (see [`Holders`]). Dropping this value frees all pages.
///
/// There are two sorts of entries: pages past EOF, and *kept pages*, which replace a page
/// inside EOF after an I/O error ([`Self::keep`]). Kept pages carry one of two xarray marks.
/// `NOSIGBUS_CLEAR_ERROR` flips the mark that new kept pages get ([`Self::begin_clear`]). So it can
/// remove the old pages in batches while faults keep new ones.
///
/// # Invariants
///
/// `pages` is initialised. Its entries are order-0 pages, and it owns a reference on each. `count`
/// is at least the number of entries; more only for a moment, while one is inserted or removed.
#[pin_data(PinnedDrop)]
pub(crate) struct ShadowPages {
    #[pin]
    pages: Opaque<xarray>,
    count: Atomic<u64>,
    /// How many [`Self::give_back`] has removed.
    given_back: Atomic<u64>,
    /// Selects the mark of pages kept since the last [`Self::begin_clear`]. Pages with the other
    /// mark wait to be removed.
    odd: Atomic<bool>,
    #[pin]
    holders: Holders,
}

/// The mark in the xarray of pages that are kept while [`ShadowPages::odd`] is `odd`.
fn mark(odd: bool) -> xa_mark_t {
    if odd {
        bindings::XA_MARK_1
    } else {
        bindings::XA_MARK_0
    }
}

// SAFETY: The xarray and its pages are not tied to a thread. The other fields are `Send`.
unsafe impl Send for ShadowPages {}
// SAFETY: The functions of the xarray take its lock or read under RCU. The other fields are `Sync`.
unsafe impl Sync for ShadowPages {}

impl ShadowPages {
    /// No page yet. Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        // INVARIANT: Initialised, and empty.
        let empty = pin_init!(Self {
            // SAFETY: The slot may be written to.
            pages <- Opaque::ffi_init(|slot| unsafe {
                kernel::bindings::xa_init_flags(slot, bindings::XA_FLAGS_ACCOUNT)
            }),
            count: Atomic::new(0),
            given_back: Atomic::new(0),
            odd: Atomic::new(false),
            holders <- Holders::new(),
        });
        Arc::pin_init(empty, GFP_KERNEL_ACCOUNT)
    }

    /// The address spaces in whose RSS the pages are counted.
    pub(super) fn holders(&self) -> &Holders {
        &self.holders
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// How many pages files have grown over.
    pub(crate) fn given_back(&self) -> u64 {
        self.given_back.load(Relaxed)
    }

    /// The page at `pgoff` (in pages), if there is one.
    pub(crate) fn get(&self, pgoff: u64) -> Option<PageRef> {
        self.find(pgoff, false)
    }

    /// The page at `pgoff` (in pages), if one is kept there.
    pub(crate) fn kept(&self, pgoff: u64) -> Option<PageRef> {
        self.find(pgoff, true)
    }

    fn find(&self, pgoff: u64, kept: bool) -> Option<PageRef> {
        let pages = self.pages.get();
        // An index is an unsigned long, as page offsets are.
        let index = pgoff as usize;
        // SAFETY: `pages` is initialised, by the type invariants. No entry is erased while the lock
        // of the xarray is held, so an entry that is found still owns its reference when
        // `PageRef::new` takes another one.
        unsafe {
            kernel::bindings::xa_lock(pages);
            let page = NonNull::new(kernel::bindings::xa_load(pages, index))
                .filter(|_| !kept || self.is_kept(index))
                .map(|page| PageRef::new(page.cast()));
            kernel::bindings::xa_unlock(pages);
            page
        }
    }

    fn is_kept(&self, index: usize) -> bool {
        // SAFETY: `pages` is initialised, by the type invariants.
        let is = |odd| unsafe { kernel::bindings::xa_get_mark(self.pages.get(), index, mark(odd)) };
        is(false) || is(true)
    }

    /// Stores `page` as the kept page at `pgoff`. Replaces an ordinary shadow page, if there is
    /// one. Returns `false`, and changes nothing, if there is a kept page already.
    ///
    /// # Context
    ///
    /// The caller excludes removal: it holds the semaphore of the file for write. Sleeps, but does
    /// not enter reclaim: this allocates only nodes of the xarray, at most a few KiB, under
    /// [`NoReclaim`]. The caller has allocated `page` by the ordinary rules.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn keep(&self, pgoff: u64, page: PageRef, mm: MmKey) -> Result<bool> {
        let _noreclaim = NoReclaim::new();
        let (pages, index) = (self.pages.get(), pgoff as usize);
        // Count it before it is visible, as in `get_or_alloc()`.
        self.count.add(1, Relaxed);
        self.holders.add(mm);
        let uncount = || {
            self.count.fetch_sub(1, Relaxed);
            self.holders.sub(1);
        };
        loop {
            // SAFETY: `pages` is initialised, by the type invariants; a page is aligned as an entry
            // has to be. `__xa_cmpxchg()` gives the lock up while it allocates, and looks
            // again.
            let (old, found) = unsafe {
                kernel::bindings::xa_lock(pages);
                let old = kernel::bindings::xa_load(pages, index);
                if !old.is_null() && self.is_kept(index) {
                    kernel::bindings::xa_unlock(pages);
                    uncount();
                    return Ok(false);
                }
                let new = page.as_ptr().cast();
                let found = kernel::bindings::__xa_cmpxchg(
                    pages,
                    index,
                    old,
                    new,
                    kernel::bindings::GFP_KERNEL_ACCOUNT,
                );
                if found == old {
                    kernel::bindings::__xa_set_mark(pages, index, mark(self.odd.load(Relaxed)));
                }
                kernel::bindings::xa_unlock(pages);
                (old, found)
            };
            // SAFETY: `xa_err()` takes what `__xa_cmpxchg()` has returned.
            to_result(unsafe { kernel::bindings::xa_err(found) }).inspect_err(|_| uncount())?;
            if found != old {
                continue;
            }

            // INVARIANT: The reference is the entry's from here on.
            core::mem::forget(page);
            if let Some(old) = NonNull::new(old) {
                // INVARIANT: Takes over the reference of the entry that was replaced.
                drop(PageRef(old.cast()));
                uncount();
            }
            return Ok(true);
        }
    }

    /// Returns the shadow page at `pgoff`; allocates a zero-filled one if there is none. `mm` is
    /// the faulting mm (for `Holders`).
    ///
    /// Concurrent callers get the same page.
    ///
    /// # Context
    ///
    /// Allocates memory, charged to the active memcg: call it inside `Fault::charged`, and with
    /// neither the semaphore nor a folio lock held. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn get_or_alloc(&self, pgoff: u64, mm: MmKey) -> Result<PageRef> {
        loop {
            if let Some(page) = self.get(pgoff) {
                return Ok(page);
            }

            let page = PageRef::zeroed()?;
            // SAFETY: `page` owns a reference on an order-0 page, until this returns at least.
            let entry = unsafe { PageRef::new(page.0) };
            // Count it before it is visible: a concurrent removal decrements the counters.
            self.count.add(1, Relaxed);
            self.holders.add(mm);
            // SAFETY: `pages` is initialised, by the type invariants; a page is aligned as an
            // entry has to be.
            let inserted = to_result(unsafe {
                bindings::nosigbus_xa_insert(
                    self.pages.get(),
                    pgoff as usize,
                    entry.as_ptr().cast(),
                )
            });
            match inserted {
                Ok(()) => {
                    // INVARIANT: The reference is the entry's from here on.
                    core::mem::forget(entry);
                    return Ok(page);
                }
                Err(error) => {
                    self.count.fetch_sub(1, Relaxed);
                    self.holders.sub(1);
                    if error != EBUSY {
                        return Err(error);
                    }
                    // Another thread was first: take its page.
                }
            }
        }
    }

    /// The index of the first page in `pages` (indexes).
    pub(crate) fn first(&self, pages: RangeInclusive<u64>) -> Option<u64> {
        self.find_first(Select::All, pages)
    }

    fn find_first(&self, select: Select, pages: RangeInclusive<u64>) -> Option<u64> {
        let (start, last) = (*pages.start() as usize, *pages.end() as usize);
        let array = self.pages.get();
        let present = || {
            let mut pgoff = start;
            // SAFETY: `pages` is initialised, by the type invariants. The entry is only compared
            // with null, so it does not matter if another task erases it.
            let entry =
                unsafe { kernel::bindings::xa_find(array, &mut pgoff, last, bindings::XA_PRESENT) };
            (!entry.is_null()).then_some(pgoff as u64)
        };
        let kept = |odd| {
            let mut pgoff = start;
            // SAFETY: `array` is initialised, and the entry only compared, as for `xa_find` above.
            let entry = unsafe { kernel::bindings::xa_find(array, &mut pgoff, last, mark(odd)) };
            (!entry.is_null()).then_some(pgoff as u64)
        };
        match select {
            Select::All | Select::Unkept => present(),
            Select::Kept => [false, true].into_iter().filter_map(kept).min(),
            Select::ToClear => kept(!self.odd.load(Relaxed)),
        }
    }

    /// The index of the first page in `pages` (indexes) that is kept.
    pub(crate) fn first_kept(&self, pages: RangeInclusive<u64>) -> Option<u64> {
        self.find_first(Select::Kept, pages)
    }

    /// Clears the kept marks in `pages`: these are ordinary shadow pages past EOF from now on.
    pub(crate) fn unkeep(&self, pages: RangeInclusive<u64>) {
        self.for_each(pages, Select::Kept, |pgoff| {
            for odd in [false, true] {
                // SAFETY: `pages` is initialised, by the type invariants.
                unsafe { kernel::bindings::xa_clear_mark(self.pages.get(), pgoff, mark(odd)) };
            }
        });
    }

    /// Marks all current kept pages for removal by [`Self::remove_to_clear`]. No page may still
    /// be marked from an earlier call. The caller must exclude [`Self::keep`].
    pub(crate) fn begin_clear(&self) {
        self.odd.store(!self.odd.load(Relaxed), Relaxed);
    }

    /// Returns the first run of consecutive pages at or after `pgoff` that are marked for removal,
    /// at most `max` of them.
    pub(crate) fn next_to_clear(&self, pgoff: u64, max: u64) -> Option<Range<u64>> {
        let first = self.find_first(Select::ToClear, pgoff..=u64::MAX)?;
        let is_to_clear = |&pgoff: &u64| self.find_first(Select::ToClear, pgoff..=pgoff).is_some();
        let end = (first..first.saturating_add(max)).find(|pgoff| !is_to_clear(pgoff));
        Some(first..end.unwrap_or(first.saturating_add(max)))
    }

    /// Removes the pages in `pages` and returns their number. PTEs keep their own references.
    ///
    /// # Context
    ///
    /// Takes the lock of the xarray and the mutex of [`Holders`], one after the other. Frees
    /// memory, allocates none. Sleeps.
    pub(crate) fn remove(&self, pages: RangeInclusive<u64>) -> u64 {
        self.remove_selected(pages, Select::All)
    }

    /// As [`Self::remove`], of those that [`Self::begin_clear`] has marked for removal.
    pub(crate) fn remove_to_clear(&self, pages: RangeInclusive<u64>) -> u64 {
        self.remove_selected(pages, Select::ToClear)
    }

    /// As [`Self::remove`], of those that are kept.
    pub(crate) fn remove_kept(&self, pages: RangeInclusive<u64>) -> u64 {
        self.remove_selected(pages, Select::Kept)
    }

    /// As [`Self::remove`], of those that are not kept: the file has grown over `pages`. (Kept
    /// pages were inside EOF.)
    pub(crate) fn give_back(&self, pages: RangeInclusive<u64>) {
        let removed = self.remove_selected(pages, Select::Unkept);
        self.given_back.add(removed, Relaxed);
    }

    fn remove_selected(&self, pages: RangeInclusive<u64>, select: Select) -> u64 {
        let mut removed = 0;
        self.for_each(pages, select, |pgoff| {
            // SAFETY: `pages` is initialised, by the type invariants.
            let entry = unsafe { kernel::bindings::xa_erase(self.pages.get(), pgoff) };
            if let Some(page) = NonNull::new(entry) {
                // INVARIANT: Takes over the reference of the entry, which is gone.
                drop(PageRef(page.cast()));
                self.count.fetch_sub(1, Relaxed);
                removed += 1;
            }
        });
        self.holders.sub(removed);
        removed
    }

    /// Calls `each` for the indexes of `pages` that have a page. Sleeps.
    fn for_each(
        &self,
        pages: RangeInclusive<u64>,
        mut select: Select,
        mut each: impl FnMut(usize),
    ) {
        // SAFETY: `pages` is initialised, by the type invariants.
        let has = |odd| unsafe { bindings::nosigbus_xa_marked(self.pages.get(), mark(odd)) };
        if select == Select::Unkept && !has(false) && !has(true) {
            select = Select::All;
        }
        let mut next = Some(*pages.start());
        while let Some(start) = next.filter(|next| next <= pages.end()) {
            // There may be millions of pages.
            // SAFETY: No lock is held that forbids sleeping.
            unsafe { bindings::nosigbus_cond_resched() };
            let Some(pgoff) = self.find_first(select, start..=*pages.end()) else {
                return;
            };
            if select != Select::Unkept || !self.is_kept(pgoff as usize) {
                each(pgoff as usize);
            }
            next = pgoff.checked_add(1);
        }
    }
}

/// Selects pages of a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Select {
    All,
    Kept,
    /// Kept before the last [`ShadowPages::begin_clear`].
    ToClear,
    Unkept,
}

#[pinned_drop]
impl PinnedDrop for ShadowPages {
    fn drop(self: Pin<&mut Self>) {
        self.remove(0..=u64::MAX);
        // SAFETY: `pages` is initialised, by the type invariants, and empty.
        unsafe { kernel::bindings::xa_destroy(self.pages.get()) };
    }
}

#[kunit_tests(nosigbus_shadow_pages)]
mod tests {
    use super::*;

    /// No address space holds what these tests make.
    const NOBODY: MmKey = MmKey::NONE;

    fn references(page: &PageRef) -> i32 {
        // SAFETY: `page` is a reference.
        unsafe { bindings::nosigbus_page_count(page.as_ptr()) }
    }

    #[test]
    fn one_page_for_each_index() -> Result {
        let shadows = ShadowPages::new()?;
        assert!(shadows.get(0).is_none());

        for pgoff in [0, 1, 63, 64, 1 << 20, (i64::MAX as u64) >> 12, u64::MAX] {
            let page = shadows.get_or_alloc(pgoff, NOBODY)?;
            let again = shadows.get_or_alloc(pgoff, NOBODY)?;
            assert_eq!(page.as_ptr(), again.as_ptr());
            assert_eq!(references(&page), 3);
            assert!(shadows
                .get(pgoff)
                .is_some_and(|got| got.as_ptr() == page.as_ptr()));
        }
        assert_ne!(
            shadows.get_or_alloc(0, NOBODY)?.as_ptr(),
            shadows.get_or_alloc(1, NOBODY)?.as_ptr()
        );
        assert!(shadows.get(2).is_none());
        assert_eq!(shadows.count(), 7);
        Ok(())
    }

    #[test]
    fn pages_go_with_it() -> Result {
        let shadows = ShadowPages::new()?;
        let first = shadows.get_or_alloc(0, NOBODY)?;
        let last = shadows.get_or_alloc(u64::MAX, NOBODY)?;
        assert_eq!((references(&first), references(&last)), (2, 2));
        drop(shadows);
        assert_eq!((references(&first), references(&last)), (1, 1));
        Ok(())
    }

    #[test]
    fn removing_takes_what_is_in_the_range() -> Result {
        let shadows = ShadowPages::new()?;
        for pgoff in [0, 4, 5, 9, 10, u64::MAX] {
            shadows.get_or_alloc(pgoff, NOBODY)?;
        }
        assert_eq!(shadows.remove(4..=9), 3);
        assert_eq!(shadows.count(), 3);
        for (pgoff, there) in [
            (0, true),
            (4, false),
            (5, false),
            (9, false),
            (10, true),
            (u64::MAX, true),
        ] {
            assert_eq!(shadows.get(pgoff).is_some(), there);
        }
        assert_eq!(shadows.remove(u64::MAX..=u64::MAX), 1);
        assert!(shadows.get(u64::MAX).is_none());
        assert!(shadows.get(0).is_some());
        Ok(())
    }

    #[test]
    fn kept_pages_are_told_apart() -> Result {
        let shadows = ShadowPages::new()?;
        let replaced = shadows.get_or_alloc(1, NOBODY)?;
        for pgoff in [1, 5, u64::MAX] {
            let page = PageRef::zeroed()?;
            let raw = page.as_ptr();
            assert_eq!(shadows.keep(pgoff, page, NOBODY), Ok(true));
            assert_eq!(shadows.keep(pgoff, PageRef::zeroed()?, NOBODY), Ok(false));
            for found in [shadows.kept(pgoff), shadows.get(pgoff)] {
                assert!(found.is_some_and(|page| page.as_ptr() == raw));
            }
            assert_eq!(shadows.get_or_alloc(pgoff, NOBODY)?.as_ptr(), raw);
        }
        assert_eq!(references(&replaced), 1);
        shadows.get_or_alloc(2, NOBODY)?;
        assert!(shadows.kept(2).is_none());
        assert_eq!(shadows.count(), 4);

        assert_eq!(shadows.first(0..=u64::MAX), Some(1));
        assert_eq!(shadows.first(3..=4), None);
        assert_eq!(shadows.first(6..=u64::MAX), Some(u64::MAX));
        shadows.give_back(0..=u64::MAX);
        assert_eq!(shadows.given_back(), 1);
        assert!(shadows.get(2).is_none() && shadows.kept(1).is_some());
        shadows.get_or_alloc(2, NOBODY)?;

        assert_eq!(shadows.remove_kept(0..=5), 2);
        assert!(shadows.get(1).is_none() && shadows.get(5).is_none());
        assert!(shadows.get(2).is_some() && shadows.kept(u64::MAX).is_some());

        // `remove_to_clear()` leaves pages that lost their mark, and pages added after
        // `begin_clear()`.
        for pgoff in [20, 21, 22, 24] {
            assert_eq!(shadows.keep(pgoff, PageRef::zeroed()?, NOBODY), Ok(true));
        }
        shadows.begin_clear();
        shadows.unkeep(24..=24);
        assert_eq!(shadows.keep(23, PageRef::zeroed()?, NOBODY), Ok(true));
        assert_eq!(shadows.next_to_clear(0, 2), Some(20..22));
        assert_eq!(shadows.remove_to_clear(20..=24), 3);
        assert!(shadows.kept(23).is_some() && shadows.get(24).is_some());
        assert_eq!(shadows.next_to_clear(0, 2), Some(u64::MAX..u64::MAX));
        assert_eq!(shadows.remove_to_clear(u64::MAX..=u64::MAX), 1);
        assert_eq!(shadows.next_to_clear(0, 2), None);
        // A second clear, for the pages that were kept during the first.
        assert_eq!(shadows.first_kept(0..=u64::MAX), Some(23));
        shadows.begin_clear();
        assert_eq!(shadows.keep(22, PageRef::zeroed()?, NOBODY), Ok(true));
        assert_eq!(shadows.first_kept(0..=u64::MAX), Some(22));
        assert_eq!(shadows.next_to_clear(0, 2), Some(23..24));
        assert_eq!(shadows.remove_to_clear(0..=u64::MAX), 1);
        assert_eq!(shadows.next_to_clear(0, 2), None);
        assert_eq!(shadows.keep(u64::MAX, PageRef::zeroed()?, NOBODY), Ok(true));
        assert_eq!(shadows.remove(20..=25), 2);

        // `unkeep()` leaves the page itself; it is removed with the ordinary ones.
        shadows.unkeep(6..=u64::MAX);
        assert!(shadows.kept(u64::MAX).is_none() && shadows.get(u64::MAX).is_some());

        // A new page at the index of a kept one that was removed is not kept.
        shadows.get_or_alloc(1, NOBODY)?;
        assert!(shadows.kept(1).is_none());
        assert_eq!(shadows.remove(0..=u64::MAX), 3);
        assert_eq!(shadows.count(), 0);
        Ok(())
    }
}
