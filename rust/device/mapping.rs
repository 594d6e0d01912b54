// SPDX-License-Identifier: GPL-2.0-only

//! An opted-in mapping and the answers to its faults.

use super::{
    errors::Errors,
    registry::Listed,
    stand_ins::{
        Kind,
        StandIn,
        StandIns, //
    },
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
            Native, //
        },
        file::{
            MappedFile,
            PageRead, //
        },
        fsnotify::Watch,
        holders::{
            Holders,
            Mm, //
        },
        memalloc::ChargedTo,
        page_mkwrite::Mkwrite,
        shadow_pages::PageRef,
        task::is_being_killed,
        vm_operations::FaultHandler,
    },
    policy::{
        errors::{
            self,
            FileError,
            Room, //
        },
        fault::{
            self,
            answer,
            answer_mkwrite,
            past_eof,
            Access,
            Answer,
            MkwriteAnswer, //
        },
        growth::{
            is_real_error,
            Reading, //
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

/// An opted-in mapping: one value for all VMAs that came from the one that opted in.
pub(super) struct Mapping {
    stand_ins: Listed,
    /// Of the file, from just before the first stand-in on.
    watch: SetOnce<KBox<Watch<WatchedFile>>>,
    /// Whether nothing stands in for a page of the file, nor is about to. `false` where pages may be kept.
    is_plain: Atomic<bool>,
    /// Whether mprotect(2) could make it writable before it opted in, and cannot now.
    may_become_writable: bool,
}

impl Mapping {
    /// A mapping, without a stand-in yet.
    pub(super) fn new(stand_ins: Listed, may_become_writable: bool) -> Self {
        Self {
            is_plain: Atomic::new(!stand_ins.may_keep()),
            stand_ins,
            watch: SetOnce::new(),
            may_become_writable,
        }
    }

    pub(super) fn may_become_writable(&self) -> bool {
        self.may_become_writable
    }

    pub(super) fn stand_ins(&self) -> &Arc<StandIns> {
        &self.stand_ins
    }

    /// The page index that no stand-in is below. Sleeps.
    pub(super) fn lowest_stand_in(&self) -> u64 {
        let Some(watched) = self.watched() else {
            return u64::MAX;
        };
        // Not while an error is being cleared, since that takes what is past EOF by now from one of
        // these to the other.
        let _inserting = watched.inserting();
        // Those for errors are inside the file.
        watched.lowest_stand_in().min(self.stand_ins.first_failed())
    }

    /// The file, if something has stood in for its pages here, or is about to.
    pub(super) fn watched(&self) -> Option<&Arc<WatchedFile>> {
        self.watch.as_ref().map(|watch| watch.listener())
    }

    /// Has each change of the file told of that is seen by nobody who looks at its size after this, so
    /// that something may stand in for its pages. Fails with the answer to a fault, whose owner is
    /// charged. Sleeps.
    fn watch(
        &self,
        file: &MappedFile<'_>,
        _charged: Option<ChargedTo>,
    ) -> Result<&Arc<WatchedFile>, FaultResult> {
        // One thread at a time, of which the first does it.
        let _watching = self.stand_ins.watching.lock();
        if self.watched().is_none() {
            self.begin_to_watch(file).map_err(|_| FaultResult::oom())?;
        }
        self.watched().ok_or_else(FaultResult::again)
    }

    /// The answer to a fault inside the file that the file system has failed at before the file was watched:
    /// the access is tried again, with the file watched.
    fn look_again(&self, file: &MappedFile<'_>, charged: Option<ChargedTo>) -> FaultResult {
        self.watch(file, charged)
            .map_or_else(|result| result, |_| FaultResult::again())
    }

    fn begin_to_watch(&self, file: &MappedFile<'_>) -> Result {
        let watches = &self.stand_ins.shared().watches;
        let watch = watches.watch(file, WatchedFile::new(file.i_size())?)?;
        let watch = KBox::new(watch, GFP_KERNEL_ACCOUNT)?;
        let watched = watch.listener();
        if self.stand_ins.class == Class::SharedWrite {
            watched.add(&self.stand_ins)?;
        }
        if let Some(errors) = &self.stand_ins.errors {
            errors.set_file(watched);
        }
        // Relaxed: a fault that finds a stand-in has taken the page table's lock after the fault that has
        // mapped it. Core mm may have found the mapping plain, and be mapping pages of the file: it does so
        // in an RCU read-side critical section. Where other processes have the mapping as well, and could get
        // the file's page where this one gets a stand-in, the grace period waits for that.
        self.is_plain.store(false, Relaxed);
        watched.start_reports(file, &watch, self.stand_ins.class == Class::SharedWrite);
        self.watch.populate(watch);
        Ok(())
    }

    /// Has a shadow page stand in for a page that the file system cannot give, or let be written
    /// to, from now on until the error is cleared. It has what the page cache has; if that has
    /// nothing, zeros, or none is kept if it is only `writing` that has failed, since there is
    /// something to be read. The access is to be tried again.
    ///
    /// Nothing that is written is lost: what is mapped of the file's page is unmapped before it is
    /// copied, and nobody maps it any more (Documentation/errors.rst).
    ///
    /// - Core mm, from the page cache, by `->map_pages`: `start_keeping` has ended that.
    /// - A fault, or a write to a read-only page, that has been to the file system: it looks for a
    ///   kept page while the file's is locked, and maps the latter before it is unlocked, and then
    ///   none beside it.
    ///
    /// `None`: the page's memory is broken. `asked_before_writes` says that this module is asked before
    /// the page is first written to.
    fn keep(
        &self,
        (file, watched): (&MappedFile<'_>, &WatchedFile),
        (mm, pgoff): (Mm, u64),
        (errors, error): (&Errors, FileError),
        generation: u64,
        (writing, asked_before_writes): (bool, bool),
    ) -> Option<FaultResult> {
        let Ok(page) = PageRef::zeroed() else {
            return Some(FaultResult::oom());
        };
        errors.start_keeping();

        // Nobody waits for the semaphore with a page locked, nor for a page with the semaphore held.
        let Ok(locked) = file.lock_cached_page(pgoff) else {
            return Some(FaultResult::again());
        };
        let (cached, keeping) = match locked {
            Some(cached) => match watched.try_keeping() {
                Some(keeping) => (Some(cached), keeping),
                None => {
                    drop(cached);
                    // The other way round. Giving this back and trying again would give others their
                    // turn as often as they like.
                    let keeping = watched.keeping();
                    match file.try_lock_cached_page(pgoff) {
                        Some(cached) => (Some(cached), keeping),
                        None => return Some(FaultResult::again()),
                    }
                }
            },
            None if writing => {
                unmap(file, pgoff);
                return Some(FaultResult::again());
            }
            None => (None, watched.keeping()),
        };
        keeping.page(pgoff);
        if is_cut_off((file, watched), pgoff, generation) {
            return Some(FaultResult::again());
        }
        if let Some(cached) = &cached {
            unmap(file, pgoff);
            cached.copy_to(&page).ok()?;
        }
        match self.stand_ins.shadows.keep(pgoff, page, mm) {
            Ok(true) => {}
            // Another thread was first.
            Ok(false) => return Some(FaultResult::again()),
            Err(_) => return Some(FaultResult::oom()),
        }
        if cached.is_none() {
            // Pairs with that in `StandIns::passage`.
            smp_mb(Full);
            // The file system has given the page to another thread, which may have written to it.
            // Nobody has mapped the one that is kept.
            let has_come = file.has_cached_page(pgoff);
            if has_come {
                self.stand_ins.shadows.remove_kept(pgoff..=pgoff);
            }
            // A page of the file may be there, and mapped, but not up to date any more; and so may a
            // page that the kept one has replaced, which the file has grown over.
            unmap(file, pgoff);
            if has_come {
                return Some(FaultResult::again());
            }
        }
        errors.record(pgoff, error);
        errors.count_one();
        if !asked_before_writes {
            // It may be written to from here on.
            file.report_to_fsync(error.errno);
        }
        Some(FaultResult::again())
    }
}

/// Whether the file's page at `pgoff` (in pages) was past EOF since `generation`, or is.
fn is_cut_off(
    (file, watched): (&MappedFile<'_>, &WatchedFile),
    pgoff: u64,
    generation: u64,
) -> bool {
    past_eof(pgoff, file.i_size()) || watched.may_have_shrunk_since(generation)
}

/// Unmaps the page of a file (index) from all processes.
fn unmap(file: &MappedFile<'_>, pgoff: u64) {
    file.inode().unmap_pages(pgoff..pgoff + 1);
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.stand_ins.class == Class::SharedWrite {
            // At once, and not when a report of a growth is over or whoever asks for the status is
            // done: the OOM killer takes them for gone.
            self.stand_ins.shadows.remove(0..=u64::MAX);
            if let Some(watched) = self.watched() {
                watched.remove(&self.stand_ins);
            }
        }
    }
}

impl FaultHandler for Mapping {
    fn holders(&self) -> Option<&Holders> {
        let stand_ins = &self.stand_ins;
        (stand_ins.class == Class::SharedWrite).then(|| stand_ins.shadows.holders())
    }

    fn is_plain(&self) -> bool {
        read_once(&self.is_plain)
    }

    fn failed(fault: Fault<'_, Self>, sigbus: FaultResult) -> FaultResult {
        if let Some(result) = stand_in(&fault) {
            return result;
        }
        // The file system has not failed, it has given up.
        if is_being_killed() {
            return sigbus;
        }
        fault.handler().look_again(&fault.file(), fault.charge())
    }

    fn write_failed(mkwrite: Mkwrite<'_, Self>, _: FaultResult) -> FaultResult {
        mkwrite
            .handler()
            .look_again(&mkwrite.file(), mkwrite.charge())
    }

    fn fault(mut fault: Fault<'_, Self>) -> FaultResult {
        let mapping = fault.handler();
        let mut generation = None;
        if let Some(watched) = mapping.watched() {
            // Before the size is looked at, by `decide` and by the file system.
            generation = Some(watched.generation());
            if let Some(result) = stand_in_of_watched(&fault, watched) {
                return result;
            }
            watched.catch_up(&fault.file().inode(), &mapping.stand_ins, fault.pgoff());
        }
        // Whoever needs the page of the file is not to wait for the memory of this task: where this
        // module maps it, it does not allocate a page table with it locked.
        if mapping.stand_ins.may_keep() || fault.may_be_huge() {
            if let Err(no_memory) = fault.allocate_page_table() {
                return no_memory;
            }
        }

        let mut attempt = 1;
        loop {
            let (again, sigbus) = match fault.native() {
                Native::Answered(result) => return result,
                Native::Page(page) if page.question().handler().stand_ins.may_keep() => {
                    return page.pass_as(|fault| {
                        let stand_ins = &fault.handler().stand_ins;
                        stand_ins.passage(fault.pgoff(), fault.is_write())
                    });
                }
                Native::Page(page) => return page.pass(),
                Native::Sigbus(fault, sigbus) => (fault, sigbus),
            };
            fault = again;
            // Inside the file when it was asked, perhaps past EOF since.
            if let Some(result) = stand_in(&fault) {
                return result;
            }
            // The file system has not failed, it has given up. Nobody waits for the page. Before anything
            // that has the access tried again: in the kernel, that ends for no signal.
            if is_being_killed() {
                return sigbus;
            }
            let (watched, generation) = match (fault.handler().watched(), generation) {
                (Some(watched), Some(generation)) => (watched, generation),
                // Perhaps it was cut off, and has grown since.
                _ => return fault.handler().look_again(&fault.file(), fault.charge()),
            };
            if watched.may_have_shrunk_since(generation) {
                return FaultResult::again();
            }
            let reading = read(&fault);
            if is_real_error(reading, attempt) {
                return stand_in_for_error(&fault, errors::failed(reading), watched, generation)
                    .unwrap_or(sigbus);
            }
            attempt += 1;
        }
    }

    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult {
        let (mapping, pgoff) = (mkwrite.handler(), mkwrite.pgoff());
        let generation = mapping.watched().map(|watched| watched.generation());
        let shadow = mkwrite.is_shadow(&mapping.stand_ins.shadows);
        let kept = mapping.stand_ins.is_kept(pgoff);
        let mkwrite = match answer_mkwrite(shadow, kept) {
            MkwriteAnswer::Native => mkwrite,
            MkwriteAnswer::Again => {
                unmap(&mkwrite.file(), pgoff);
                return FaultResult::again();
            }
            MkwriteAnswer::Allow => {
                if let Some(errors) = mapping.stand_ins.errors.as_deref().filter(|_| kept) {
                    // What is written does not reach the file.
                    mkwrite.file().report_to_fsync(errors.first_errno());
                }
                match mkwrite.allow() {
                    Ok(result) => return result,
                    Err(mkwrite) => mkwrite,
                }
            }
        };

        let (mkwrite, sigbus) = match mkwrite.native() {
            Native::Answered(result) => return result,
            Native::Page(page) if page.question().handler().stand_ins.may_keep() => {
                return page
                    .pass_unless(|mkwrite| mkwrite.handler().stand_ins.is_kept(mkwrite.pgoff()));
            }
            Native::Page(page) => return page.pass(),
            Native::Sigbus(mkwrite, sigbus) => (mkwrite, sigbus),
        };
        let (mapping, file) = (mkwrite.handler(), mkwrite.file());
        let (Some(watched), Some(generation)) = (mapping.watched(), generation) else {
            return mapping.look_again(&file, mkwrite.charge());
        };
        // Then the file system has not failed, it has given up.
        if is_being_killed() {
            return sigbus;
        }
        // A page that has been truncated is unmapped, or about to be; not so by every file system.
        if is_cut_off((&file, watched), pgoff, generation) {
            unmap(&file, pgoff);
            return FaultResult::again();
        }
        let Some(errors) = mapping.stand_ins.errors.as_deref() else {
            return sigbus;
        };
        let error = errors::refused(file.free_space().ok());
        let _charged = mkwrite.charge();
        mapping
            .keep(
                (&file, watched),
                (mkwrite.mm(), pgoff),
                (errors, error),
                generation,
                (true, true),
            )
            .unwrap_or(sigbus)
    }

    fn may_map_around(&self, file: &MappedFile<'_>, pgoff: u64) -> bool {
        // What core mm maps is inside the file, but on shmem, where it maps a large page as a whole: what
        // stands in for the rest of that is not to be hidden.
        !past_eof(pgoff, file.i_size()) && !self.stand_ins.is_keeping()
    }
}

/// Answers a fault past EOF, or where a page is kept; `None` if it is the file system's to answer.
fn stand_in(fault: &Fault<'_, Mapping>) -> Option<FaultResult> {
    let mapping = fault.handler();
    if let Some(watched) = mapping.watched() {
        return stand_in_of_watched(fault, watched);
    }
    match decide(fault) {
        Answer::Native => None,
        Answer::PrivateZeros => private_zeros(fault, false),
        _ => match mapping.watch(&fault.file(), fault.charge()) {
            Ok(watched) => stand_in_of_watched(fault, watched),
            Err(result) => Some(result),
        },
    }
}

/// As [`stand_in`], where the file is watched.
// Faults inside the file come by here as well, and are to go on soon.
#[inline(always)]
fn stand_in_of_watched(fault: &Fault<'_, Mapping>, watched: &WatchedFile) -> Option<FaultResult> {
    match decide(fault) {
        Answer::Native => None,
        // Private, and so of no concern to a growth.
        Answer::PrivateZeros => private_zeros(fault, false),
        expected => map_stand_in(fault, watched, expected),
    }
}

/// As [`stand_in_of_watched`], which has decided on `expected`.
fn map_stand_in(
    fault: &Fault<'_, Mapping>,
    watched: &WatchedFile,
    mut expected: Answer,
) -> Option<FaultResult> {
    let mapping = fault.handler();
    let (stand_ins, pgoff) = (&mapping.stand_ins, fault.pgoff());
    // Those who read one page after the other get as many as core mm maps of the file's; others have no
    // use for more than one.
    let pages = if expected == Answer::ZeroPage && fault.follows_zero_page() {
        fault.pages_around()
    } else {
        1
    };
    let last = pgoff.saturating_add(pages as u64 - 1);
    loop {
        if expected == Answer::ShadowPage {
            let _charged = fault.charge();
            if stand_ins.shadows.get_or_alloc(pgoff, fault.mm()).is_err() {
                return Some(FaultResult::oom());
            }
        }

        let inserting = match inserting(fault, watched) {
            Ok(inserting) => inserting,
            Err(result) => return Some(result),
        };
        if matches!(expected, Answer::ZeroPage | Answer::ShadowPage) {
            inserting.stand_ins(&(pgoff..=last));
        }
        // It may have grown, up to here.
        let now = decide(fault);
        let mapped = match now {
            Answer::Native => {
                drop(inserting);
                // What was announced in vain is found by the report of the growth, unless that is over.
                watched.settle_overdue(&fault.file().inode());
                return None;
            }
            _ if now != expected => {
                expected = now;
                None
            }
            Answer::PrivateZeros => {
                drop(inserting);
                return private_zeros(fault, false);
            }
            Answer::ZeroPage => Some((Kind::Zero, fault.insert_zero_pages(pages))),
            // Gone, if the file has grown over it and shrunk again.
            Answer::ShadowPage => stand_ins
                .shadows
                .get(pgoff)
                .map(|page| (Kind::Shadow, fault.insert_shadow_page(&page))),
            Answer::KeptPage => stand_ins
                .shadows
                .kept(pgoff)
                .map(|page| (Kind::Shadow, fault.insert_shadow_page(&page))),
        };
        drop(inserting);
        let Some((kind, insertion)) = mapped else {
            if is_being_killed() {
                return Some(FaultResult::given_up());
            }
            continue;
        };
        let stand_in = StandIn {
            kind,
            pgoff,
            for_error: now == Answer::KeptPage,
        };
        return Some(stand_ins.inserted(&stand_in, insertion));
    }
}

/// From here on the file does not grow unseen. Whoever makes it grow waits for what follows, and is not
/// to wait for memory: there is a page table. Sleeps; fails with the answer to the fault.
fn inserting<'a>(
    fault: &Fault<'_, Mapping>,
    watched: &'a WatchedFile,
) -> Result<Inserting<'a>, FaultResult> {
    loop {
        let inserting = watched.inserting();
        if fault.has_page_table() {
            return Ok(inserting);
        }
        drop(inserting);
        // Another thread may have had it freed since it was allocated.
        if is_being_killed() {
            return Err(FaultResult::given_up());
        }
        fault.allocate_page_table()?;
    }
}

/// Answers a fault that the file system has failed at; `None` if it is to have its way.
fn stand_in_for_error(
    fault: &Fault<'_, Mapping>,
    error: FileError,
    watched: &WatchedFile,
    generation: u64,
) -> Option<FaultResult> {
    let mapping = fault.handler();
    let (stand_ins, file, pgoff) = (&mapping.stand_ins, fault.file(), fault.pgoff());
    let errors = stand_ins.errors.as_deref()?;
    let answer = fault::stand_in(stand_ins.class, access(fault));
    if answer == Answer::ShadowPage {
        let _charged = fault.charge();
        let how = (false, fault.is_asked_before_writes());
        let place = (fault.mm(), pgoff);
        return mapping.keep((&file, watched), place, (errors, error), generation, how);
    }

    let room = {
        let _charged = fault.charge();
        match Room::new() {
            Ok(room) => room,
            Err(_) => return Some(FaultResult::oom()),
        }
    };
    // Nor is the error cleared from here on.
    let inserting = match inserting(fault, watched) {
        Ok(inserting) => inserting,
        Err(no_memory) => return Some(no_memory),
    };
    inserting.stand_in_for_error(pgoff);
    if is_cut_off((&file, watched), pgoff, generation) {
        return Some(FaultResult::again());
    }
    match answer {
        Answer::PrivateZeros => {
            errors.record(pgoff, error);
            errors.count_one();
            drop(inserting);
            private_zeros(fault, true)
        }
        Answer::ZeroPage => {
            errors.record(pgoff, error);
            errors.zero_page(pgoff, room);
            let insertion = fault.insert_zero_pages(1);
            if insertion.mapped() > 0 {
                errors.count_one();
            }
            drop(inserting);
            let stand_in = StandIn {
                kind: Kind::Zero,
                pgoff,
                for_error: true,
            };
            Some(stand_ins.inserted(&stand_in, insertion))
        }
        _ => None,
    }
}

fn private_zeros(fault: &Fault<'_, Mapping>, for_error: bool) -> Option<FaultResult> {
    let mapping = fault.handler();
    let result = fault.private_copy_of_zeros(&mapping.stand_ins.shared().zeros)?;
    let stand_in = StandIn {
        kind: Kind::Private,
        pgoff: fault.pgoff(),
        for_error,
    };
    mapping.stand_ins.count(&stand_in, 1);
    Some(result)
}

fn access(fault: &Fault<'_, Mapping>) -> Access {
    if fault.is_write() {
        Access::Write
    } else {
        Access::Read
    }
}

fn decide(fault: &Fault<'_, Mapping>) -> Answer {
    let (stand_ins, pgoff) = (&fault.handler().stand_ins, fault.pgoff());
    answer(
        stand_ins.class,
        access(fault),
        pgoff,
        fault.file().i_size(),
        || stand_ins.is_kept(pgoff),
    )
}

fn read(fault: &Fault<'_, Mapping>) -> Reading {
    let (file, pgoff) = (fault.file(), fault.pgoff());
    let mut read = if fault.reads_as_page_cache_does() {
        file.read_page_uncollapsed(pgoff, |i_size| past_eof(pgoff, i_size))
    } else {
        PageRead::Unknown
    };
    if read == PageRead::Unknown && fault.handler().stand_ins.errors.is_some() {
        read = file.ask_shmem(pgoff);
    }
    match read {
        PageRead::PastEof | PageRead::Read | PageRead::Interrupted => Reading::Fine,
        PageRead::Failed(error) => Reading::Failed(error.to_errno().unsigned_abs()),
        PageRead::Unknown => Reading::NotTried,
    }
}
