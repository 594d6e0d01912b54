// SPDX-License-Identifier: GPL-2.0-only

//! Shadow pages: zero-filled pages of a mapping's own, kept by page index.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)
//!
//! `kernel::xarray` can neither charge its nodes to a memory cgroup nor insert only where nothing
//! is yet.

use super::bindings;
use core::{
    ops::RangeInclusive,
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    bindings::{
        page,
        xarray, //
    },
    error::to_result,
    page::Page,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// A reference on a page.
///
/// # Invariants
///
/// Owns one reference on a page of order 0.
pub(crate) struct PageRef(NonNull<page>);

impl PageRef {
    /// Allocates a page of zeros, charged to the memory cgroup of the task. Sleeps.
    fn zeroed() -> Result<Self> {
        let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO)?;
        let raw = page.as_ptr();
        core::mem::forget(page);
        // INVARIANT: The reference that `page` had.
        NonNull::new(raw).map(Self).ok_or(ENOMEM)
    }

    /// # Safety
    ///
    /// `page` must be an order-0 page that somebody has a reference on until this returns.
    unsafe fn new(page: NonNull<page>) -> Self {
        // SAFETY: The page is in use, as the caller promises.
        unsafe { bindings::nosigbus_get_page(page.as_ptr()) };
        // INVARIANT: Taken just now.
        Self(page)
    }

    pub(super) fn as_ptr(&self) -> *mut page {
        self.0.as_ptr()
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
/// Pages and what it takes to keep them are charged to the memory cgroup of the task that touches
/// them first. They go with this value; until then each keeps its content.
///
/// # Invariants
///
/// `pages` is initialised. Its entries are order-0 pages, and it owns a reference on each.
#[pin_data(PinnedDrop)]
pub(crate) struct ShadowPages {
    #[pin]
    pages: Opaque<xarray>,
}

// SAFETY: The pages belong to no thread.
unsafe impl Send for ShadowPages {}
// SAFETY: The xarray has a lock of its own.
unsafe impl Sync for ShadowPages {}

impl ShadowPages {
    /// None yet. Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            // INVARIANT: Initialised, and empty.
            pin_init!(Self {
                // SAFETY: The slot may be written to.
                pages <- Opaque::ffi_init(|slot| unsafe { bindings::nosigbus_xa_init(slot) }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The page at `pgoff` (in pages), if there is one.
    pub(crate) fn get(&self, pgoff: u64) -> Option<PageRef> {
        let pages = self.pages.get();
        // SAFETY: `pages` is initialised, by the type invariants. Under the lock no entry goes, so
        // one that is found is still referenced when `PageRef::new` takes another reference.
        unsafe {
            kernel::bindings::xa_lock(pages);
            // An index is an unsigned long, as page offsets are.
            let page = NonNull::new(kernel::bindings::xa_load(pages, pgoff as usize))
                .map(|page| PageRef::new(page.cast()));
            kernel::bindings::xa_unlock(pages);
            page
        }
    }

    /// The page at `pgoff` (in pages), which is made now, of zeros, if there is none.
    ///
    /// Sleeps; fails with `ENOMEM`. Threads that ask at once get the same page.
    pub(crate) fn get_or_alloc(&self, pgoff: u64) -> Result<PageRef> {
        loop {
            if let Some(page) = self.get(pgoff) {
                return Ok(page);
            }

            let page = PageRef::zeroed()?;
            // SAFETY: `page` is a reference.
            let kept = unsafe { PageRef::new(page.0) };
            // SAFETY: `pages` is initialised, by the type invariants; a page is aligned as an
            // entry has to be.
            let inserted = to_result(unsafe {
                bindings::nosigbus_xa_insert(self.pages.get(), pgoff as usize, kept.as_ptr().cast())
            });
            match inserted {
                Ok(()) => {
                    // INVARIANT: The reference is the entry's from here on.
                    core::mem::forget(kept);
                    return Ok(page);
                }
                // Another thread was first: take its page.
                Err(error) if error == EBUSY => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Drops the pages at `pages` (indexes). They stay where they are mapped until unmapped.
    ///
    /// Sleeps.
    pub(crate) fn remove(&self, pages: RangeInclusive<u64>) {
        let (mut pgoff, last) = (*pages.start() as usize, *pages.end() as usize);
        loop {
            // There may be millions, or millions of calls.
            // SAFETY: No lock is held that forbids sleeping.
            unsafe { bindings::nosigbus_cond_resched() };
            // SAFETY: `pages` is initialised, by the type invariants. Only whether there is an
            // entry counts; it may go at once.
            let entry = unsafe { bindings::nosigbus_xa_find(self.pages.get(), &mut pgoff, last) };
            if entry.is_null() {
                return;
            }
            // SAFETY: As above.
            let entry = unsafe { kernel::bindings::xa_erase(self.pages.get(), pgoff) };
            if let Some(page) = NonNull::new(entry) {
                // INVARIANT: Takes over the reference of the entry, which is gone.
                drop(PageRef(page.cast()));
            }
        }
    }
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

    fn references(page: &PageRef) -> i32 {
        // SAFETY: `page` is a reference.
        unsafe { bindings::nosigbus_page_count(page.as_ptr()) }
    }

    #[test]
    fn one_page_for_each_index() -> Result {
        let shadows = ShadowPages::new()?;
        assert!(shadows.get(0).is_none());

        for pgoff in [0, 1, 63, 64, 1 << 20, (i64::MAX as u64) >> 12, u64::MAX] {
            let page = shadows.get_or_alloc(pgoff)?;
            let again = shadows.get_or_alloc(pgoff)?;
            assert_eq!(page.as_ptr(), again.as_ptr());
            assert_eq!(references(&page), 3);
            assert!(shadows
                .get(pgoff)
                .is_some_and(|got| got.as_ptr() == page.as_ptr()));
        }
        assert_ne!(
            shadows.get_or_alloc(0)?.as_ptr(),
            shadows.get_or_alloc(1)?.as_ptr()
        );
        assert!(shadows.get(2).is_none());
        Ok(())
    }

    #[test]
    fn pages_go_with_it() -> Result {
        let shadows = ShadowPages::new()?;
        let first = shadows.get_or_alloc(0)?;
        let last = shadows.get_or_alloc(u64::MAX)?;
        assert_eq!((references(&first), references(&last)), (2, 2));
        drop(shadows);
        assert_eq!((references(&first), references(&last)), (1, 1));
        Ok(())
    }

    #[test]
    fn removing_takes_what_is_in_the_range() -> Result {
        let shadows = ShadowPages::new()?;
        for pgoff in [0, 4, 5, 9, 10, u64::MAX] {
            shadows.get_or_alloc(pgoff)?;
        }
        shadows.remove(4..=9);
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
        shadows.remove(u64::MAX..=u64::MAX);
        assert!(shadows.get(u64::MAX).is_none());
        assert!(shadows.get(0).is_some());
        Ok(())
    }
}
