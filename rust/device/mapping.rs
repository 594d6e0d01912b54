// SPDX-License-Identifier: GPL-2.0-only

//! An opted-in mapping and the answers to its faults.
//!
//! Core mm calls `Wrapped::fault()` (`abstractions/vm_operations.rs`). That calls
//! `Mapping::fault()` or, before the first zero page or shadow page, the file system and then
//! `Mapping::fault_sigbus()`. Both ask `decide()`, and answer a fault past EOF by `map_stand_in()`
//! or `private_zeros()`. `Mapping::keep()` is for I/O errors inside EOF.

use super::{
    errors::Errors,
    mapping_state::{
        Kind,
        MappingState, //
        StandIn,
    },
    registry::Listed,
    watched_file::{
        Inserting,
        WatchedFile, //
    }, //
};
use crate::{
    abstractions::{
        atomic::read_once,
        fault::{
            Fault,
            FaultResult,
            FsResult, //
        },
        file::{
            CacheState,
            MappedFile, //
        },
        fsnotify::Watch,
        holders::MmKey,
        page_mkwrite::Mkwrite,
        shadow_pages::PageRef,
        task::{
            is_being_killed,
            is_dumping_core, //
        },
        vm_operations::FaultHandler,
    },
    policy::{
        errors::{
            error_of_write,
            judge,
            FileError,
            Room,
            Verdict, //
        },
        fault::{
            self,
            answer,
            answer_mkwrite,
            past_eof,
            Access,
            Answer,
            MkwriteAnswer,
            Owner, //
        },
        Class,
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        barrier::smp_mb,
        Arc,
        SetOnce, //
    }, //
};

/// The state of an opted-in mapping. All VMAs that result from splitting, forking or moving the
/// original VMA share it.
pub(super) struct Mapping {
    state: Listed,
    /// The fsnotify watch of the file. Set before the first zero page or shadow page is mapped.
    fsnotify_watch: SetOnce<KBox<Watch<WatchedFile>>>,
    /// [`FaultHandler::file_system_first`]. [`Self::begin_to_watch`] clears this. It is clear from
    /// the start if the mapping may have kept pages.
    file_system_first: Atomic<bool>,
}

impl Mapping {
    /// A mapping, without a stand-in yet.
    pub(super) fn new(state: Listed) -> Self {
        Self {
            file_system_first: Atomic::new(!state.may_keep()),
            state,
            fsnotify_watch: SetOnce::new(),
        }
    }

    pub(super) fn state(&self) -> &Arc<MappingState> {
        &self.state
    }

    /// A lower bound of the page indexes at which this mapping may have the zero page or a shadow
    /// page. Sleeps.
    pub(super) fn lowest_stand_in(&self) -> u64 {
        self.watched_file()
            .map_or(u64::MAX, |watched| watched.lowest_of(&self.state))
    }

    /// The watched file, if `fsnotify_watch` is set.
    pub(super) fn watched_file(&self) -> Option<&Arc<WatchedFile>> {
        self.fsnotify_watch.as_ref().map(|watch| watch.listener())
    }

    /// Starts watching the file, if this mapping does not yet. Once this has returned, each change
    /// of `i_size` is reported to `WatchedFile::modified()`, or a load of `i_size` after this call
    /// sees it.
    ///
    /// # Context
    ///
    /// Call it in a fault, inside `Fault::charged`, with neither a folio lock nor the semaphore
    /// held. Takes `watch_lock`, and inside it, one after the other, `Group::marks`, the semaphore
    /// for write, and `f_lock`. Allocates memory. Waits for an RCU grace period. Sleeps.
    ///
    /// # Errors
    ///
    /// The `FaultResult` for the current fault: `VM_FAULT_OOM`, or `VM_FAULT_SIGBUS` if the file
    /// system forbids fsnotify marks.
    fn ensure_watched(&self, file: &MappedFile<'_>) -> Result<&Arc<WatchedFile>, FaultResult> {
        // The first thread does the work; later ones find it done.
        let _watching = self.state.watch_lock.lock();
        if self.watched_file().is_none() {
            self.begin_to_watch(file).map_err(|error| {
                if error == ENOMEM {
                    FaultResult::oom()
                } else {
                    // fsnotify takes no mark on this file system. (No file that ENABLE accepts is
                    // on one.) Retrying would not end.
                    FaultResult::sigbus()
                }
            })?;
        }
        // Never an error: it is watched now.
        self.watched_file().ok_or_else(FaultResult::nopage)
    }

    /// The work of [`Self::ensure_watched`].
    ///
    /// # Context
    ///
    /// As [`Self::ensure_watched`], with `watch_lock` held.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what [`Group::watch`](crate::abstractions::fsnotify::Group::watch) returns.
    fn begin_to_watch(&self, file: &MappedFile<'_>) -> Result {
        let group = &self.state.shared().fsnotify_group;
        // If another mapping watches the file already, the new `WatchedFile` is dropped, and
        // `watch.listener()` is the one that all mappings of the file share.
        let watch = group.watch(file, WatchedFile::new()?)?;
        let watch = KBox::new(watch, GFP_KERNEL_ACCOUNT)?;
        let watched = watch.listener();
        if let Some(shadows) = &self.state.shadows {
            watched.add(shadows)?;
        }
        if let Some(errors) = &self.state.errors {
            errors.set_file(watched);
        }
        // Relaxed: a fault that finds a stand-in PTE took the page-table lock after this store, and
        // so loads `false`. A running `->map_pages` may have loaded `true`. It is in an RCU
        // read-side critical section. For a SharedWrite mapping, whose stand-ins other mms may see,
        // `start_reports()` waits until it has ended.
        self.file_system_first.store(false, Relaxed);
        watched.start_reports(file, &watch, self.state.class == Class::SharedWrite);
        // `watch_lock` is held, so no other task has populated it.
        self.fsnotify_watch.populate(watch);
        Ok(())
    }

    /// Keeps a shadow page in place of a page inside EOF that the file system failed to read or
    /// refused to make writable. The kept page stays until `NOSIGBUS_CLEAR_ERROR`.
    ///
    /// - It gets the content of the page cache, or zeros if there is no up-to-date folio.
    /// - After a refused write ([`FailedOp::Write`]) with no up-to-date folio, nothing is kept: the
    ///   retried access reads the page again, and only then writes.
    ///
    /// Returns `VM_FAULT_NOPAGE`, so that the access is retried, or `VM_FAULT_OOM`; `None` if the
    /// folio is hwpoisoned, or the mapping cannot have shadow pages.
    ///
    /// Why no store is lost: Documentation/errors.rst, 'Why all users of the mapping see the same
    /// stores'.
    ///
    /// # Context
    ///
    /// Call it in a fault, inside `Fault::charged`, with none of the locks 4 to 8 held. Takes the
    /// folio lock, and `error_zap_lock` with the semaphore for write: either may come first, what
    /// comes second is a trylock. Takes `i_mmap_rwsem` and page-table locks. Waits for an RCU grace
    /// period, once for each mapping. Allocates memory. Sleeps.
    fn keep(&self, errors: &Errors, failure: &Failure<'_>, mm: MmKey) -> Option<FaultResult> {
        let &Failure {
            file,
            watched,
            pgoff,
            failed,
            error,
        } = failure;
        let shadows = self.state.shadows.as_deref()?;
        let Ok(page) = PageRef::zeroed() else {
            return Some(FaultResult::oom());
        };
        errors.start_keeping();

        // Never wait for the semaphore with a folio locked, nor for a folio lock with it held.
        let Ok(locked) = file.lock_cached_page(pgoff) else {
            // This task is being killed. If the access was made in kernel mode, it is retried
            // without a look at signals. Then the next fault looks: `answer_sigbus()`.
            return Some(FaultResult::nopage());
        };
        let (cached, keeping) = match locked {
            Some(cached) => match watched.try_lock_to_keep() {
                Some(keeping) => (Some(cached), keeping),
                None => {
                    drop(cached);
                    // Take the locks in the other order: the semaphore first, then trylock the
                    // folio. Retrying with the folio lock first could starve under contention.
                    let keeping = watched.lock_to_keep();
                    match file.try_lock_cached_page(pgoff) {
                        Some(cached) => (Some(cached), keeping),
                        None => return Some(FaultResult::nopage()),
                    }
                }
            },
            None if failed == FailedOp::Write => {
                unmap(file, pgoff);
                return Some(FaultResult::nopage());
            }
            None => (None, watched.lock_to_keep()),
        };
        if past_eof(pgoff, keeping.announce(pgoff, &file.inode())) {
            return Some(FaultResult::nopage());
        }
        // No task maps a shadow page from here on: the semaphore is held for write.
        let had_shadow = shadows.get(pgoff).is_some();
        if let Some(cached) = &cached {
            // Needed even if no page table maps the folio: reclaim may have unmapped it, and
            // flushes the TLBs later (`TTU_BATCH_FLUSH`). `zap_pte_range()` flushes them now
            // (`flush_tlb_batched_pending()`).
            unmap(file, pgoff);
            cached.copy_to(&page).ok()?;
        }
        match shadows.keep(pgoff, page, mm) {
            Ok(true) => {}
            // Another thread has kept a page here first.
            Ok(false) => return Some(FaultResult::nopage()),
            Err(_) => return Some(FaultResult::oom()),
        }
        if cached.is_none() {
            // Pairs with the barrier in `MappingState::how_to_map`.
            smp_mb(Full);
            // If the page is in the page cache now, the file system has read it for another thread,
            // which may have stored to it. Then remove our kept page. No task has mapped that yet,
            // since the semaphore is held for write.
            let cached = file.cached(pgoff);
            let has_come = cached == CacheState::UpToDate;
            if has_come {
                shadows.remove_kept(pgoff..=pgoff);
            }
            // Unmap only if something may be mapped: a folio that is no longer up to date, or the
            // shadow page that the kept page replaced. Unmapping walks all VMAs of the file, and a
            // client decides how many there are. So do not do it for each page of a hole.
            let may_be_mapped = CacheState::Stale {
                may_be_mapped: true,
            };
            if had_shadow || cached == may_be_mapped {
                unmap(file, pgoff);
            }
            if has_come {
                return Some(FaultResult::nopage());
            }
        }
        errors.record(pgoff, error);
        errors.count_one(&keeping);
        if failed == (FailedOp::Read { has_mkwrite: false }) {
            // The first store to the kept page will not call `mkwrite`: make fsync(2) fail now.
            file.report_to_fsync(error.errno);
        }
        Some(FaultResult::nopage())
    }
}

/// A page inside EOF that the file system has failed to provide.
struct Failure<'a> {
    file: &'a MappedFile<'a>,
    watched: &'a WatchedFile,
    pgoff: u64,
    failed: FailedOp,
    error: FileError,
}

/// What the file system failed to do, at a page inside EOF.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FailedOp {
    /// To read the page. `has_mkwrite`: the VMA has `->page_mkwrite`.
    Read { has_mkwrite: bool },
    /// To make the page writable.
    Write,
}

/// Unmaps page index `pgoff` of the file from all VMAs.
fn unmap(file: &MappedFile<'_>, pgoff: u64) {
    file.inode().unmap_pages(pgoff..pgoff + 1);
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(shadows) = &self.state.shadows {
            // Free the shadow pages now. A concurrent report or NOSIGBUS_STATUS may hold another
            // reference, but the pages are no longer counted in any mm's RSS.
            shadows.remove(0..=u64::MAX);
            if let Some(watched) = self.watched_file() {
                watched.remove(shadows);
            }
        }
    }
}

impl FaultHandler for Mapping {
    fn file_system_first(&self) -> bool {
        read_once(&self.file_system_first)
    }

    fn fault_sigbus(fault: Fault<'_, Self>, sigbus: FaultResult) -> FaultResult {
        answer_sigbus(fault, sigbus)
    }

    fn mkwrite_sigbus(mkwrite: Mkwrite<'_, Self>, sigbus: FaultResult) -> FaultResult {
        answer_refusal(mkwrite, sigbus)
    }

    fn fault(fault: Fault<'_, Self>) -> FaultResult {
        let mapping = fault.handler();
        if let Some(watched) = mapping.watched_file() {
            if let Some(result) = try_stand_in_of_watched(&fault, watched) {
                return result;
            }
            watched.catch_up(&fault.file().inode(), &mapping.state, fault.pgoff());
        }
        // Allocate the page table before the file system locks the folio: we may map that folio
        // ourselves, and must not reclaim under its lock.
        if mapping.state.may_keep() || fault.may_be_huge() {
            if let Err(no_memory) = fault.allocate_page_table() {
                return no_memory;
            }
        }

        ask_file_system(fault).unwrap_or_else(|(fault, sigbus)| answer_sigbus(fault, sigbus))
    }

    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult {
        let (mapping, pgoff) = (mkwrite.handler(), mkwrite.pgoff());
        let shadows = mapping.state.shadows.as_deref();
        let owner = if mkwrite.is_of_file() {
            Owner::File
        } else if shadows.is_some_and(|shadows| mkwrite.is_shadow(shadows)) {
            Owner::Shadow
        } else {
            Owner::Nobody
        };
        let kept = mapping.state.is_kept(pgoff);
        let mkwrite = match answer_mkwrite(owner, kept) {
            MkwriteAnswer::Native => mkwrite,
            MkwriteAnswer::Retry => {
                unmap(&mkwrite.file(), pgoff);
                return FaultResult::nopage();
            }
            MkwriteAnswer::Allow => {
                if let Some(errors) = mapping.state.errors.as_deref().filter(|_| kept) {
                    // The store will not reach the file: make fsync(2) fail.
                    mkwrite.file().report_to_fsync(errors.first_errno());
                }
                match mkwrite.allow() {
                    Ok(result) => return result,
                    Err(mkwrite) => mkwrite,
                }
            }
        };

        match mkwrite.call_file_system() {
            FsResult::Final(result) => result,
            FsResult::Page(page) if page.fault().handler().state.may_keep() => {
                page.pass_unless(|mkwrite| mkwrite.handler().state.is_kept(mkwrite.pgoff()))
            }
            FsResult::Page(page) => page.pass(),
            FsResult::Sigbus(mkwrite, sigbus) => answer_refusal(mkwrite, sigbus),
        }
    }

    fn may_map_around(&self, file: &MappedFile<'_>, pgoff: u64) -> bool {
        // Fault-around maps only pages inside EOF, except on shmem: there it maps a whole large
        // folio that straddles EOF, in all PTEs that are none. So refuse it past EOF.
        !past_eof(pgoff, file.i_size()) && !self.state.is_keeping()
    }
}

/// Asks the file system for the page. Returns the result for core mm, or the fault and the SIGBUS
/// that the file system has answered it with.
///
/// # Context
///
/// As [`Fault::call_file_system`]. The page table must be allocated if the mapping may keep pages.
fn ask_file_system(
    fault: Fault<'_, Mapping>,
) -> Result<FaultResult, (Fault<'_, Mapping>, FaultResult)> {
    match fault.call_file_system() {
        FsResult::Final(result) => Ok(result),
        FsResult::Page(page) if page.fault().handler().state.may_keep() => {
            Ok(page.pass_as(|fault| {
                let state = &fault.handler().state;
                state.how_to_map(fault.pgoff(), fault.is_write())
            }))
        }
        FsResult::Page(page) => Ok(page.pass()),
        FsResult::Sigbus(fault, sigbus) => Err((fault, sigbus)),
    }
}

/// Answers a fault that the file system has answered with `sigbus`: past EOF by a stand-in, inside
/// EOF as an I/O error or as a race with a change of size.
///
/// # Context
///
/// With no lock but the VMA lock or mmap lock held. May call the file system again, a bounded
/// number of times ([`judge`]). Allocates memory; sleeps.
fn answer_sigbus(mut fault: Fault<'_, Mapping>, mut sigbus: FaultResult) -> FaultResult {
    let mut attempt = 1;
    loop {
        // Decide by the `i_size` of now: the page may be past EOF.
        if let Some(result) = try_stand_in(&fault) {
            return result;
        }
        // This task is being killed: the file system has given up waiting, which is no error. Each
        // loop of retries passes here. It must end, but after a fault in kernel mode
        // (copy_from_user()) the access is retried without a look at signals. So check before
        // `FaultResult::nopage()` below; other functions leave the check to the next fault.
        if is_being_killed() {
            return sigbus;
        }
        let reading = read(&fault);
        // Killed during the read: FUSE makes an EIO of it.
        if is_being_killed() {
            return sigbus;
        }
        match judge(reading, attempt) {
            Verdict::Retry => return FaultResult::nopage(),
            Verdict::Failed(error) => return stand_in_for_error(&fault, error).unwrap_or(sigbus),
            Verdict::AskAgain => {}
        }
        (fault, sigbus) = match ask_file_system(fault) {
            Ok(result) => return result,
            Err(again) => again,
        };
        attempt += 1;
    }
}

/// Answers a write to a page of the file that the file system has answered with `sigbus`.
fn answer_refusal(mkwrite: Mkwrite<'_, Mapping>, sigbus: FaultResult) -> FaultResult {
    // As in `answer_sigbus`.
    if is_being_killed() {
        return sigbus;
    }
    let (mapping, file, pgoff) = (mkwrite.handler(), mkwrite.file(), mkwrite.pgoff());
    // If the page has been truncated, the SIGBUS is no error. Look at EOF first: a truncation
    // removes its pages from the page cache before the inode lock lets the file grow again.
    if past_eof(pgoff, file.i_size()) || !mkwrite.is_of_file() {
        // Most file systems have zapped the page. Zap it here for those that have not.
        unmap(&file, pgoff);
        return FaultResult::nopage();
    }
    let Some(errors) = mapping.state.errors.as_deref() else {
        return sigbus;
    };
    let error = error_of_write(file.free_space().ok());
    mkwrite.charged(|| match mapping.ensure_watched(&file) {
        Err(result) => result,
        Ok(watched) => {
            let failure = Failure {
                file: &file,
                watched,
                pgoff,
                failed: FailedOp::Write,
                error,
            };
            mapping
                .keep(errors, &failure, mkwrite.mm_key())
                .unwrap_or(sigbus)
        }
    })
}

/// Answers a fault past EOF or at a kept page. Returns `None` if the file system has to answer.
///
/// # Context
///
/// With no lock but the VMA lock or mmap lock held. Takes the semaphore for read; before the first
/// zero page or shadow page also what [`Mapping::ensure_watched`] takes. Allocates memory; sleeps.
fn try_stand_in(fault: &Fault<'_, Mapping>) -> Option<FaultResult> {
    let mapping = fault.handler();
    if let Some(watched) = mapping.watched_file() {
        return try_stand_in_of_watched(fault, watched);
    }
    match decide(fault, fault.file().i_size()) {
        Answer::Native => None,
        Answer::PrivateZeros => private_zeros(fault, false),
        // A hole in the dump, see `map_stand_in`. No page of the mapping can be there yet.
        _ if is_dumping_core() => Some(FaultResult::sigbus()),
        _ => match fault.charged(|| mapping.ensure_watched(&fault.file())) {
            Ok(watched) => try_stand_in_of_watched(fault, watched),
            Err(result) => Some(result),
        },
    }
}

/// As [`try_stand_in`], for a mapping that watches the file.
// Inlined: this is on the path of every fault inside EOF.
#[inline(always)]
fn try_stand_in_of_watched(
    fault: &Fault<'_, Mapping>,
    watched: &WatchedFile,
) -> Option<FaultResult> {
    match decide(fault, fault.file().i_size()) {
        Answer::Native => None,
        // A private page is not dropped by growth; no semaphore needed.
        Answer::PrivateZeros => private_zeros(fault, false),
        expected => map_stand_in(fault, watched, expected),
    }
}

/// Maps the stand-in `expected`. If [`decide`] gives another answer once the semaphore is held,
/// maps that. Returns `None` if the file system has to answer.
///
/// A read by a task that dumps core gets SIGBUS where there is no shadow page. The dump then has a
/// hole, as for a plain mapping. The hole takes no memory, and reads as zeros, too.
///
/// # Context
///
/// As [`try_stand_in`].
fn map_stand_in(
    fault: &Fault<'_, Mapping>,
    watched: &WatchedFile,
    mut expected: Answer,
) -> Option<FaultResult> {
    let mapping = fault.handler();
    let (state, file, pgoff) = (&mapping.state, fault.file(), fault.pgoff());
    // Sequential readers get a fault-around window of zero pages. Random readers get one.
    let pages = if expected == Answer::ZeroPage && fault.follows_zero_page() {
        fault.pages_to_window_end()
    } else {
        1
    };
    let last = pgoff.saturating_add(pages as u64 - 1);
    loop {
        if expected == Answer::ShadowPage && !is_dumping_core() {
            let Some(shadows) = &state.shadows else {
                // Never: this answer is for SharedWrite mappings. Retrying would not end.
                return Some(FaultResult::sigbus());
            };
            let page = fault.charged(|| shadows.get_or_alloc(pgoff, fault.mm_key()));
            if page.is_err() {
                return Some(FaultResult::oom());
            }
        }

        let inserting = match inserting(fault, watched) {
            Ok(inserting) => inserting,
            Err(result) => return Some(result),
        };
        let i_size = match expected {
            Answer::ZeroPage | Answer::ShadowPage => {
                inserting.announce(&(pgoff..=last), &file.inode())
            }
            Answer::Native | Answer::PrivateZeros | Answer::KeptPage => file.i_size(),
        };
        // The file may have grown before the semaphore was taken.
        let now = decide(fault, i_size);
        let mapped = match now {
            Answer::Native => {
                drop(inserting);
                // The file has grown over `lowest`, which we have lowered. The report of that
                // growth raises it. If that report is over, we do.
                watched.drop_if_overdue(&file.inode());
                return None;
            }
            Answer::ZeroPage | Answer::ShadowPage
                if is_dumping_core() && state.shadow_page(pgoff).is_none() =>
            {
                return Some(FaultResult::sigbus());
            }
            // Only what was announced above may be mapped: another answer starts over. So this arm
            // must come before those that map.
            _ if now != expected => {
                expected = now;
                None
            }
            Answer::PrivateZeros => {
                drop(inserting);
                return private_zeros(fault, false);
            }
            Answer::ZeroPage => Some((Kind::Zero, fault.insert_zero_pages(pages))),
            // None if a growth freed it and the file has shrunk again: allocate a new one.
            Answer::ShadowPage => state
                .shadow_page(pgoff)
                .map(|page| (Kind::Shadow, fault.insert_shadow_page(&page))),
            // Not announced above: it has been in `first_failed..end_failed` since it was kept.
            Answer::KeptPage => state
                .kept_page(pgoff)
                .map(|page| (Kind::Shadow, fault.insert_shadow_page(&page))),
        };
        let Some((kind, insertion)) = mapped else {
            drop(inserting);
            if is_being_killed() {
                return Some(FaultResult::killed());
            }
            continue;
        };
        let stand_in = StandIn {
            kind,
            pgoff,
            for_error: now == Answer::KeptPage,
        };
        return Some(state.account_insertion(inserting, &stand_in, insertion));
    }
}

/// Takes the semaphore for read, with a page table present. While the guard is held, a report of a
/// growth waits for it, and so finds our PTEs. The report must not have to wait for memory as well,
/// so the page table is allocated before.
///
/// # Context
///
/// With no lock but the VMA lock or mmap lock held. Sleeps.
///
/// # Errors
///
/// The result of the fault: out of memory, or killed.
fn inserting<'a>(
    fault: &Fault<'_, Mapping>,
    watched: &'a WatchedFile,
) -> Result<Inserting<'a>, FaultResult> {
    loop {
        let inserting = watched
            .lock_to_insert()
            .map_err(|_| FaultResult::killed())?;
        if fault.has_page_table() {
            return Ok(inserting);
        }
        drop(inserting);
        // madvise(2) in another thread may have freed the page table again.
        if is_being_killed() {
            return Err(FaultResult::killed());
        }
        fault.allocate_page_table()?;
    }
}

/// Handles an I/O error inside EOF. Returns `None` if the SIGBUS must be delivered.
///
/// # Context
///
/// With no lock but the VMA lock or mmap lock held. Takes what [`Mapping::ensure_watched`] and
/// [`Mapping::keep`] take, or the semaphore for read. Allocates memory; sleeps.
fn stand_in_for_error(fault: &Fault<'_, Mapping>, error: FileError) -> Option<FaultResult> {
    // A hole in the dump, as in `map_stand_in`.
    if is_dumping_core() {
        return None;
    }
    let mapping = fault.handler();
    let (state, file, pgoff) = (&mapping.state, fault.file(), fault.pgoff());
    let errors = state.errors.as_deref()?;
    let watched = match fault.charged(|| mapping.ensure_watched(&file)) {
        Ok(watched) => watched,
        Err(result) => return Some(result),
    };
    let answer = fault::stand_in(state.class, access(fault));
    if answer == Answer::ShadowPage {
        let failure = Failure {
            file: &file,
            watched,
            pgoff,
            failed: FailedOp::Read {
                has_mkwrite: fault.has_mkwrite(),
            },
            error,
        };
        return fault.charged(|| mapping.keep(errors, &failure, fault.mm_key()));
    }

    let Ok(room) = fault.charged(Room::new) else {
        return Some(FaultResult::oom());
    };
    // A clear waits for the semaphore, too.
    let inserting = match inserting(fault, watched) {
        Ok(inserting) => inserting,
        Err(no_memory) => return Some(no_memory),
    };
    if past_eof(pgoff, inserting.announce_error(pgoff, &file.inode())) {
        return Some(FaultResult::nopage());
    }
    match answer {
        Answer::PrivateZeros => {
            errors.record(pgoff, error);
            errors.count_one(&inserting);
            drop(inserting);
            private_zeros(fault, true)
        }
        Answer::ZeroPage => {
            errors.record(pgoff, error);
            errors.record_zero_page(&inserting, pgoff, room);
            let insertion = fault.insert_zero_pages(1);
            if insertion.mapped() > 0 {
                errors.count_one(&inserting);
            }
            let stand_in = StandIn {
                kind: Kind::Zero,
                pgoff,
                for_error: true,
            };
            Some(state.account_insertion(inserting, &stand_in, insertion))
        }
        // A SharedRead mapping cannot be written to. (`KeptPage` is no answer of `stand_in()`.)
        _ => None,
    }
}

/// Answers a write fault in a private mapping with a zero-filled page, and counts it. `None` if it
/// is no such fault.
///
/// # Context
///
/// Without the semaphore, as [`MappingState::count`]. May allocate a page; sleeps.
fn private_zeros(fault: &Fault<'_, Mapping>, for_error: bool) -> Option<FaultResult> {
    let mapping = fault.handler();
    let result = fault.private_copy_of_zeros(&mapping.state.shared().cow_sources)?;
    let stand_in = StandIn {
        kind: Kind::Private,
        pgoff: fault.pgoff(),
        for_error,
    };
    mapping.state.count(&stand_in, 1);
    Some(result)
}

fn access(fault: &Fault<'_, Mapping>) -> Access {
    if fault.is_write() {
        Access::Write
    } else {
        Access::Read
    }
}

/// The answer to a fault if the file has `i_size` bytes.
fn decide(fault: &Fault<'_, Mapping>, i_size: u64) -> Answer {
    let (state, pgoff) = (&fault.handler().state, fault.pgoff());
    answer(state.class, access(fault), pgoff, i_size, || {
        state.is_kept(pgoff)
    })
}

/// Reads the page that `->fault` has failed to provide, for [`judge`].
///
/// # Context
///
/// As [`Fault::call_file_system`]: takes the invalidate lock and folio locks. Sleeps.
fn read(fault: &Fault<'_, Mapping>) -> Option<Result> {
    let (file, pgoff) = (fault.file(), fault.pgoff());
    let read = fault
        .takes_only_page_cache_locks()
        .then(|| file.read_page_invalidate_locked(pgoff, |i_size| past_eof(pgoff, i_size)))
        .flatten()
        .or_else(|| fault.charged(|| file.read_page_shmem(pgoff)))?;
    // Some file systems truncate without the invalidate lock: what has failed may be past EOF now.
    Some(if past_eof(pgoff, file.i_size()) {
        Ok(())
    } else {
        read
    })
}
