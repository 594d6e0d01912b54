// SPDX-License-Identifier: GPL-2.0-only

//! Per-mapping state that outlives the VMAs (STATUS, fdinfo, debugfs): shadow pages, counters,
//! recorded errors, where events go.

use super::{
    errors::Errors,
    events::Source,
    watched_file::Inserting, //
};
use crate::{
    abstractions::{
        bindings::{
            nosigbus_status,
            NOSIGBUS_ERROR_DEDUCED,
            NOSIGBUS_EVENTFD,
            NOSIGBUS_EVENTS,
            NOSIGBUS_RECORD_ERRORS, //
        },
        eventfd::EventFd,
        fault::{
            FaultResult,
            Insertion,
            MapAs, //
        },
        file::MappedFile,
        shadow_pages::{
            PageRef,
            ShadowPages, //
        },
        task::Identity,
        vma::LockedVma,
    },
    policy::Class,
};
use core::ops::Range;
use kernel::{
    fmt,
    page::PAGE_SIZE,
    prelude::*,
    str::BStr,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        barrier::smp_mb,
        new_mutex,
        Arc,
        Mutex, //
    },
};

/// Arguments of `NOSIGBUS_ENABLE`.
pub(super) struct Options {
    pub(super) record_errors: bool,
    /// The eventfd; `None` without `NOSIGBUS_EVENTFD`.
    pub(super) eventfd: Option<Arc<EventFd>>,
    /// The record for read(2), and its queue; `None` without `NOSIGBUS_EVENTS`.
    pub(super) source: Option<Source>,
}

impl Options {
    /// `nosigbus_enable.flags`.
    fn flags(&self) -> u32 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.record_errors, NOSIGBUS_RECORD_ERRORS)
            | flag(self.eventfd.is_some(), NOSIGBUS_EVENTFD)
            | flag(self.source.is_some(), NOSIGBUS_EVENTS)
    }
}

/// Who opted the mapping in, and its address range and file at that time. For fdinfo and debugfs
/// only.
pub(super) struct Origin {
    /// The process that has opted it in.
    who: Identity,
    /// Address range at ENABLE.
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

/// The kind of a stand-in (Documentation/design.rst).
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Zero,
    Private,
    Shadow,
}

/// A stand-in that a fault has mapped.
pub(super) struct StandIn {
    pub(super) kind: Kind,
    /// Where in the file, in pages.
    pub(super) pgoff: u64,
    /// Because of an error of the file system.
    pub(super) for_error: bool,
}

/// The state of a mapping that STATUS, fdinfo and debugfs use, also when no VMA is left. What only faults
/// use is in [`Mapping`](super::mapping::Mapping).
#[pin_data]
pub(super) struct MappingState {
    pub(super) class: Class,
    options: Options,
    origin: Origin,
    /// `Some` for `SharedWrite` mappings only.
    pub(super) shadows: Option<Arc<ShadowPages>>,
    zero_pages: Atomic<u64>,
    private_pages: Atomic<u64>,
    shadow_pages: Atomic<u64>,
    /// The recorded errors; `None` without `NOSIGBUS_RECORD_ERRORS`.
    pub(super) errors: Option<Pin<KBox<Errors>>>,
    /// Serializes `Mapping::ensure_watched()`.
    #[pin]
    pub(super) watch_lock: Mutex<()>,
    /// Whether the next stand-in sends an event.
    armed: Atomic<bool>,
}

impl MappingState {
    /// The state of a mapping that has got no stand-in. Sleeps; fails with `ENOMEM`.
    pub(super) fn new(class: Class, options: Options, origin: Origin) -> Result<Arc<Self>> {
        let errors = if options.record_errors {
            Some(Errors::new()?)
        } else {
            None
        };
        let shadows = match class {
            Class::SharedWrite => Some(ShadowPages::new()?),
            Class::Private | Class::SharedRead => None,
        };
        Arc::pin_init(
            pin_init!(Self {
                class,
                options,
                origin,
                shadows,
                zero_pages: Atomic::new(0),
                private_pages: Atomic::new(0),
                shadow_pages: Atomic::new(0),
                errors,
                watch_lock <- new_mutex!(()),
                armed: Atomic::new(true),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Counts inserted PTEs, signals the first one to listeners, and returns the result of the
    /// fault.
    ///
    /// # Context
    ///
    /// Releases the semaphore first: it may allocate ([`Insertion::result`]), and it wakes all
    /// waiters of the event queue. Sleeps.
    pub(super) fn account_insertion(
        &self,
        inserting: Inserting<'_>,
        stand_in: &StandIn,
        insertion: Insertion,
    ) -> FaultResult {
        drop(inserting);
        let mapped = insertion.mapped();
        if mapped > 0 {
            self.count(stand_in, mapped);
        }
        insertion.result()
    }

    /// Adds `pages` to the counter, and sends the event if the mapping is armed.
    ///
    /// # Context
    ///
    /// Without the semaphore: it wakes all waiters of the event queue. Does not sleep.
    pub(super) fn count(&self, stand_in: &StandIn, pages: usize) {
        let counter = match stand_in.kind {
            Kind::Zero => &self.zero_pages,
            Kind::Private => &self.private_pages,
            Kind::Shadow => &self.shadow_pages,
        };
        // Full: pairs with `arm`: either STATUS loads the new count, or we load `armed == true` and
        // send the event.
        counter.fetch_add(pages as u64, Full);
        if self.armed.load(Relaxed) && self.armed.xchg(false, Full) {
            // Queue the record first: a task that the eventfd wakes must find it.
            if let Some(source) = &self.options.source {
                source.send(stand_in);
            }
            if let Some(eventfd) = &self.options.eventfd {
                eventfd.signal();
            }
        }
    }

    /// The shadow page at `pgoff` (in pages), if there is one.
    pub(super) fn shadow_page(&self, pgoff: u64) -> Option<PageRef> {
        self.shadows.as_ref()?.get(pgoff)
    }

    /// The kept page at `pgoff` (in pages), if there is one.
    pub(super) fn kept_page(&self, pgoff: u64) -> Option<PageRef> {
        self.shadows.as_ref()?.kept(pgoff)
    }

    /// Whether zero pages or shadow pages have ever stood in.
    pub(super) fn has_had_stand_ins(&self) -> bool {
        self.zero_pages.load(Relaxed) > 0 || self.shadow_pages.load(Relaxed) > 0
    }

    /// The lowest index of an error stand-in; `u64::MAX` if there is none.
    ///
    /// # Context
    ///
    /// With the semaphore held, so that no report moves error stand-ins past EOF to `lowest`. Takes
    /// `Errors::zero_pages`; sleeps.
    pub(super) fn first_failed(&self) -> u64 {
        let Some(errors) = &self.errors else {
            return u64::MAX;
        };
        let shadows = self.shadows.as_ref();
        let kept = shadows.and_then(|shadows| shadows.first_kept(0..=u64::MAX));
        errors.first_zero_page().min(kept.unwrap_or(u64::MAX))
    }

    /// Whether shadow pages may be kept inside the file.
    pub(super) fn may_keep(&self) -> bool {
        self.errors.is_some() && self.shadows.is_some()
    }

    /// Whether there may be kept pages. Then `->map_pages` must map nothing.
    pub(super) fn is_keeping(&self) -> bool {
        // Only shadow pages are kept.
        self.errors
            .as_ref()
            .is_some_and(|errors| errors.are_keeping())
    }

    /// Whether a page is kept at `pgoff` (in pages).
    pub(super) fn is_kept(&self, pgoff: u64) -> bool {
        self.is_keeping() && self.kept_page(pgoff).is_some()
    }

    /// Decides how to map the locked page that the file system returned:
    ///
    /// - not at all if a page is kept at `pgoff`;
    /// - alone if pages may be kept at other indexes of its folio;
    /// - alone for a write, too: core mm may unlock the folio once more before it maps it
    ///   (`do_shared_fault()`), and pages may be kept there in between.
    pub(super) fn how_to_map(&self, pgoff: u64, writing: bool) -> MapAs {
        // Pairs with the barrier in `Mapping::keep`: either we find its kept page, or it finds the
        // file's page in the page cache.
        smp_mb(Full);
        if self.is_kept(pgoff) {
            MapAs::Nothing
        } else if writing || self.is_keeping() {
            MapAs::Page
        } else {
            MapAs::Folio
        }
    }

    /// Arms the mapping: its next stand-in sends an event.
    pub(super) fn arm(&self) {
        // Full: pairs with the `fetch_add()` in `count`.
        self.armed.xchg(true, Full);
    }

    /// All of a `nosigbus_status` but what user space fills in.
    pub(super) fn status(&self) -> nosigbus_status {
        let (errors, shadows) = (self.errors.as_deref(), self.shadows.as_deref());
        let first = errors.and_then(Errors::first);
        let deduced = first.is_some_and(|first| first.error.deduced);
        nosigbus_status {
            flags: self.options.flags(),
            zero_pages: self.zero_pages.load(Relaxed),
            private_pages: self.private_pages.load(Relaxed),
            shadow_pages: self.shadow_pages.load(Relaxed),
            shadow_pages_held: shadows.map_or(0, ShadowPages::count),
            given_back: shadows.map_or(0, ShadowPages::given_back),
            errors: errors.map_or(0, Errors::count),
            error_offset: first.map_or(0, |first| first.offset()),
            error: first.map_or(0, |first| first.error.errno),
            error_flags: if deduced { NOSIGBUS_ERROR_DEDUCED } else { 0 },
            ..Default::default()
        }
    }

    /// As the process itself sees it.
    pub(super) fn for_fdinfo(&self) -> impl fmt::Display + '_ {
        Line {
            state: self,
            to_root: false,
        }
    }

    /// As root sees it.
    pub(super) fn for_debugfs(&self) -> impl fmt::Display + '_ {
        Line {
            state: self,
            to_root: true,
        }
    }
}

/// One line of fdinfo or debugfs.
struct Line<'a> {
    state: &'a MappingState,
    to_root: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MappingState { class, origin, .. } = self.state;
        let status = self.state.status();
        write!(f, "pid={}", origin.who.tgid())?;
        if self.to_root {
            write!(f, " comm={:?}", BStr::from_bytes(origin.who.comm()))?;
            // comm and addresses are for root only: fdinfo can be read by whoever was passed the
            // descriptor.
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
