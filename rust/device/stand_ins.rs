// SPDX-License-Identifier: GPL-2.0-only

//! The stand-ins of a mapping: its shadow pages, what has been counted, and who is told.
//!
//! Counts are atomic, and so is the first error as a whole.

use super::events::Source;
use crate::{
    abstractions::{
        barrier::smp_mb,
        bindings::{
            nosigbus_status,
            NOSIGBUS_ERROR_DEDUCED,
            NOSIGBUS_EVENTFD,
            NOSIGBUS_EVENTS,
            NOSIGBUS_RECORD_ERRORS, //
        },
        eventfd::EventFd,
        file::MappedFile,
        rcu,
        shadow_pages::ShadowPages,
        task::Identity,
        vm_operations::{
            FaultResult,
            Insertion,
            Passage, //
        },
        vma::LockedVma,
    },
    policy::{
        errors::{
            FileError,
            FirstError,
            PageSet,
            Room, //
        },
        Class, //
    },
};
use core::ops::Range;
use kernel::{
    fmt,
    page::PAGE_SIZE,
    prelude::*,
    str::BStr,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        new_condvar,
        new_mutex,
        Arc,
        CondVar,
        Mutex, //
    },
};

/// What a mapping has opted in with.
pub(super) struct Options {
    pub(super) record_errors: bool,
    pub(super) event: Option<Arc<EventFd>>,
    pub(super) source: Option<Source>,
}

impl Options {
    /// `nosigbus_enable.flags`.
    fn flags(&self) -> u32 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.record_errors, NOSIGBUS_RECORD_ERRORS)
            | flag(self.event.is_some(), NOSIGBUS_EVENTFD)
            | flag(self.source.is_some(), NOSIGBUS_EVENTS)
    }
}

/// Where a mapping comes from, for those who look for it.
pub(super) struct Origin {
    /// The process that has opted it in.
    who: Identity,
    /// The addresses of then.
    range: Range<usize>,
    /// Where in the file, in bytes, or `u64::MAX` if it is further.
    offset: u64,
    device: (u32, u32),
    inode: u64,
}

impl Origin {
    /// Of a mapping of `file` that the calling process opts in.
    pub(super) fn new(vma: &LockedVma<'_>, file: &MappedFile<'_>) -> Self {
        Self {
            who: Identity::current(),
            range: vma.start()..vma.end(),
            offset: vma.pgoff().saturating_mul(PAGE_SIZE as u64),
            device: file.device(),
            inode: file.inode_number(),
        }
    }
}

/// The kind of page that stands in.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Zero,
    Private,
    Shadow,
}

/// What has been mapped for an access.
pub(super) struct StandIn {
    pub(super) kind: Kind,
    /// Where in the file, in pages.
    pub(super) pgoff: u64,
    /// Because of an error of the file system.
    pub(super) for_error: bool,
}

/// How many pages are dropped in one go when an error is cleared, which others wait for.
const PART: u64 = 512;

/// The stand-ins of a mapping.
#[pin_data]
pub(super) struct StandIns {
    pub(super) class: Class,
    options: Options,
    origin: Origin,
    /// Of a mapping that can be written to for everybody.
    #[pin]
    pub(super) shadows: ShadowPages,
    zero_pages: Atomic<u64>,
    private_pages: Atomic<u64>,
    shadow_pages: Atomic<u64>,
    given_back: Atomic<u64>,
    errors: Atomic<u64>,
    /// [`FirstError::encode`], or 0.
    first_error: Atomic<u64>,
    /// The same, since an error has begun to be cleared.
    first_since: Atomic<u64>,
    /// Whether somebody clears the error.
    #[pin]
    clearing: Mutex<bool>,
    #[pin]
    cleared: CondVar,
    /// Whether the next stand-in is to be told of.
    armed: Atomic<bool>,
    /// Whether there may be shadow pages that are kept; for good, once there are.
    keeping: Atomic<bool>,
    /// Whether everybody knows.
    keeping_is_known: Atomic<bool>,
    /// What has the zero page because of errors. (Shadow pages are kept for them, which says it.)
    #[pin]
    failed: Mutex<PageSet>,
}

impl StandIns {
    /// None yet. Sleeps; fails with `ENOMEM`.
    pub(super) fn new(class: Class, options: Options, origin: Origin) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                class,
                options,
                origin,
                shadows <- ShadowPages::new(),
                zero_pages: Atomic::new(0),
                private_pages: Atomic::new(0),
                shadow_pages: Atomic::new(0),
                given_back: Atomic::new(0),
                errors: Atomic::new(0),
                first_error: Atomic::new(0),
                first_since: Atomic::new(0),
                clearing <- new_mutex!(false),
                cleared <- new_condvar!(),
                armed: Atomic::new(true),
                keeping: Atomic::new(false),
                keeping_is_known: Atomic::new(false),
                failed <- new_mutex!(PageSet::new()),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Counts what has been mapped.
    ///
    /// Not to be called with the file's semaphore held: allocates memory that is charged to this task,
    /// and wakes whoever waits for an event, which takes as long as there are such.
    pub(super) fn inserted(&self, stand_in: &StandIn, insertion: Insertion) -> FaultResult {
        let mapped = insertion.mapped();
        if mapped > 0 {
            self.count(stand_in, mapped);
        }
        insertion.result()
    }

    /// Counts so many, and tells whoever waits for one. Not to be called with the file's semaphore held.
    pub(super) fn count(&self, stand_in: &StandIn, pages: usize) {
        let counter = match stand_in.kind {
            Kind::Zero => &self.zero_pages,
            Kind::Private => &self.private_pages,
            Kind::Shadow => &self.shadow_pages,
        };
        // Full: pairs with that in `arm`, so that either this is told of or that counts it.
        counter.fetch_add(pages as u64, Full);
        if self.armed.load(Relaxed) && self.armed.xchg(false, Full) {
            // First, so that who is woken by the eventfd finds the record.
            if let Some(source) = &self.options.source {
                source.tell(stand_in);
            }
            if let Some(event) = &self.options.event {
                event.signal();
            }
        }
    }

    /// Drops the shadow pages that the file has grown over (indexes), at least one. What is kept stays:
    /// nothing of that was past EOF. Sleeps.
    pub(super) fn give_back(&self, grown_over: &Range<u64>) {
        let removed = self
            .shadows
            .remove_unkept(grown_over.start..=grown_over.end - 1);
        self.given_back.add(removed, Relaxed);
    }

    /// Whether zero pages or shadow pages have ever stood in.
    pub(super) fn has_had_any(&self) -> bool {
        self.zero_pages.load(Relaxed) > 0 || self.shadow_pages.load(Relaxed) > 0
    }

    /// Whether errors of the file system are answered and recorded.
    pub(super) fn records_errors(&self) -> bool {
        self.options.record_errors
    }

    /// Records an error, before anything stands in for the page (index).
    pub(super) fn record(&self, pgoff: u64, error: FileError) {
        let first = FirstError { pgoff, error }.encode();
        // These fail if there is one already. Full: whoever sees what stands in sees this.
        let _ = self.first_since.cmpxchg(0, first, Full);
        let _ = self.first_error.cmpxchg(0, first, Full);
    }

    /// The errno of the first error; `EIO` if it was cleared just now.
    pub(super) fn first_errno(&self) -> u32 {
        FirstError::decode(self.first_error.load(Relaxed))
            .map_or(EIO.to_errno().unsigned_abs(), |first| first.error.errno)
    }

    /// Counts an error, when something stands in for the page.
    ///
    /// The file's semaphore has to be held, as against [`Clearing`].
    pub(super) fn count_error(&self) {
        self.errors.add(1, Relaxed);
    }

    /// The zero page is going to stand in for a page (index) because of an error. Sleeps.
    ///
    /// The file's semaphore has to be held from here on until it is mapped.
    pub(super) fn zero_page_for_error(&self, pgoff: u64, room: Room) {
        let unused = self.failed.lock().add(pgoff, room);
        // Not with the lock held.
        drop(unused);
    }

    /// The page index that nothing stands in for an error below. Sleeps.
    pub(super) fn first_failed(&self) -> u64 {
        let zero_page = self.failed.lock().first();
        let kept = self.shadows.first_kept(0..=u64::MAX);
        zero_page.unwrap_or(u64::MAX).min(kept.unwrap_or(u64::MAX))
    }

    /// Whether shadow pages may be kept inside the file.
    pub(super) fn may_keep(&self) -> bool {
        self.records_errors() && self.class == Class::SharedWrite
    }

    /// Whether there may be kept pages, so that core mm is not to map pages of the file unasked.
    pub(super) fn is_keeping(&self) -> bool {
        // The former first: every fault asks, and few mappings may.
        self.may_keep() && self.keeping.load(Relaxed)
    }

    /// Has core mm map no page of the file unasked from now on. Sleeps.
    pub(super) fn start_keeping(&self) {
        // Pairs with the release below: what follows comes after that grace period as well.
        if self.keeping_is_known.load(Acquire) {
            return;
        }
        self.keeping.store(true, Relaxed);
        // Who has asked before has mapped what there was.
        rcu::synchronize();
        self.keeping_is_known.store(true, Release);
    }

    /// Whether a page is kept at `pgoff` (in pages).
    pub(super) fn is_kept(&self, pgoff: u64) -> bool {
        self.is_keeping() && self.shadows.kept(pgoff).is_some()
    }

    /// What is to become of the file's page at `pgoff` (in pages), which has just been found in the
    /// page cache and locked. Pages around it may be kept. If it is for `writing`, core mm may unlock
    /// it once more before it maps it (`do_shared_fault()`), and they may be by then.
    pub(super) fn passage(&self, pgoff: u64, writing: bool) -> Passage {
        // Pairs with that in `Mapping::keep`: this sees that a page is kept, or that one sees the
        // file's.
        smp_mb();
        if self.is_kept(pgoff) {
            Passage::Withdrawn
        } else if writing || self.is_keeping() {
            Passage::Alone
        } else {
            Passage::Whole
        }
    }

    /// Waits until nobody else clears the error. Sleeps; fails with `EINTR`.
    pub(super) fn clearing(&self) -> Result<Clearing<'_>> {
        let mut clearing = self.clearing.lock();
        while *clearing {
            if self.cleared.wait_interruptible(&mut clearing) {
                return Err(EINTR);
            }
        }
        *clearing = true;
        Ok(Clearing(self))
    }

    /// Has the next stand-in told of.
    pub(super) fn arm(&self) {
        // Full: pairs with that in `count`.
        self.armed.xchg(true, Full);
    }

    /// All of a `nosigbus_status` but what user space fills in.
    pub(super) fn status(&self) -> nosigbus_status {
        let first = FirstError::decode(self.first_error.load(Relaxed));
        let deduced = first.is_some_and(|first| first.error.deduced);
        nosigbus_status {
            flags: self.options.flags(),
            zero_pages: self.zero_pages.load(Relaxed),
            private_pages: self.private_pages.load(Relaxed),
            shadow_pages: self.shadow_pages.load(Relaxed),
            shadow_pages_held: self.shadows.held(),
            given_back: self.given_back.load(Relaxed),
            errors: self.errors.load(Relaxed),
            error_offset: first.map_or(0, |first| first.offset()),
            error: first.map_or(0, |first| first.error.errno),
            error_flags: if deduced { NOSIGBUS_ERROR_DEDUCED } else { 0 },
            ..Default::default()
        }
    }

    /// As the process itself sees it.
    pub(super) fn for_fdinfo(&self) -> impl fmt::Display + '_ {
        Line {
            stand_ins: self,
            to_root: false,
        }
    }

    /// As root sees it.
    pub(super) fn for_debugfs(&self) -> impl fmt::Display + '_ {
        Line {
            stand_ins: self,
            to_root: true,
        }
    }
}

/// While it exists, nobody else clears the error.
pub(super) struct Clearing<'a>(&'a StandIns);

impl Clearing<'_> {
    /// The next pages (indexes), from `pgoff` on, that are kept still although they were told of: a signal
    /// has ended an earlier clear. As many as are to be dropped in one go. Sleeps.
    ///
    /// The file's semaphore has to be held for write, until [`Self::unmapped`].
    pub(super) fn left(&self, pgoff: u64) -> Option<Range<u64>> {
        self.0.shadows.next_doomed(pgoff, PART)
    }

    /// Has [`Self::next`] find what stands in for pages because of errors, if there was none since `told`
    /// has told of them; `false` if there was. To be called when nothing is [`Self::left`]. Sleeps.
    ///
    /// The file's semaphore has to be held for write.
    pub(super) fn start(&self, told: &nosigbus_status) -> bool {
        let errors = |status: &nosigbus_status| {
            let first = (status.error, status.error_offset, status.error_flags);
            (status.errors, first)
        };
        let may = errors(&self.0.status()) == errors(told);
        if may {
            self.0.first_since.store(0, Relaxed);
            self.0.shadows.doom_kept();
        }
        may
    }

    /// The next pages (indexes), from `pgoff` on, that have stand-ins for errors which are to be cleared, as
    /// many as are to be dropped in one go. Sleeps.
    ///
    /// The file's semaphore has to be held for write, until [`Self::unmapped`].
    pub(super) fn next(&self, pgoff: u64) -> Option<Range<u64>> {
        let stand_ins = self.0;
        let pages = match stand_ins.class {
            Class::SharedWrite => stand_ins.shadows.next_doomed(pgoff, PART),
            Class::Private | Class::SharedRead => stand_ins.failed.lock().next(pgoff),
        }?;
        let end = pages.end.min(pages.start.saturating_add(PART));
        (pages.start < end).then_some(pages.start..end)
    }

    /// Nobody has these pages (indexes) mapped any more, or they are past EOF. Sleeps.
    pub(super) fn unmapped(&self, pages: &Range<u64>) {
        self.0.shadows.remove_doomed(pages.start..=pages.end - 1);
    }

    /// Forgets the error: nothing stands in any more for what was told of. What there was since then is
    /// told of next. Returns what is not needed any more.
    ///
    /// The file's semaphore has to be held for write.
    pub(super) fn finish(&self) -> Option<PageSet> {
        let since = self.0.first_since.load(Relaxed);
        self.0.first_error.store(since, Relaxed);
        // Otherwise it has pages that are still mapped.
        (since == 0).then(|| core::mem::replace(&mut *self.0.failed.lock(), PageSet::new()))
    }
}

impl Drop for Clearing<'_> {
    fn drop(&mut self) {
        *self.0.clearing.lock() = false;
        self.0.cleared.notify_all();
    }
}

/// What is known of a mapping, in one line.
struct Line<'a> {
    stand_ins: &'a StandIns,
    to_root: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StandIns { class, origin, .. } = self.stand_ins;
        let status = self.stand_ins.status();
        write!(f, "pid={}", origin.who.tgid())?;
        if self.to_root {
            write!(f, " comm={:?}", BStr::from_bytes(origin.who.comm()))?;
            // Not for whoever else has been given a file descriptor of the device.
            let Range { start, end } = origin.range;
            write!(f, " range={start:x}-{end:x}")?;
        }
        let class = match class {
            Class::Private => "private",
            Class::SharedRead => "shared-read",
            Class::SharedWrite => "shared-write",
        };
        let (major, minor) = origin.device;
        write!(
            f,
            " class={class} file={major:02x}:{minor:02x}:{}",
            origin.inode
        )?;
        write!(f, " offset={} length={}", origin.offset, origin.range.len())?;
        write!(f, " flags={:#x}", status.flags)?;
        write!(f, " zero_pages={}", status.zero_pages)?;
        write!(f, " private_pages={}", status.private_pages)?;
        write!(f, " shadow_pages={}", status.shadow_pages)?;
        write!(f, " shadow_pages_held={}", status.shadow_pages_held)?;
        write!(f, " given_back={}", status.given_back)?;
        write!(f, " errors={} error={}", status.errors, status.error)?;
        write!(f, " error_offset={}", status.error_offset)?;
        write!(f, " error_flags={:#x}", status.error_flags)
    }
}
