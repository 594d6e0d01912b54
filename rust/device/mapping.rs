// SPDX-License-Identifier: GPL-2.0-only

//! An opted-in mapping and the answers to its faults.

use super::{
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
        barrier::smp_mb,
        file::{
            MappedFile,
            PageRead, //
        },
        fsnotify::Watch,
        holders::{
            Holders,
            Mm, //
        },
        page_insertion::ZeroPages,
        shadow_pages::PageRef,
        task::is_being_killed,
        vm_operations::{
            Fault,
            FaultHandler,
            FaultResult,
            Insertion,
            MayMap,
            Mkwrite,
            Native,
            ReadFault, //
        },
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
        fault_around::{
            pages_to_map,
            READERS, //
        },
        growth::{
            is_real_error,
            Reading, //
        },
        Class,
    },
};
use core::ops::RangeInclusive;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// An opted-in mapping: one value for all VMAs that came from the one that opted in.
pub(super) struct Mapping {
    stand_ins: Listed,
    zeros: Arc<ZeroPages>,
    watch: Watch<WatchedFile>,
    /// Whether mprotect(2) could make it writable before it opted in, and cannot now.
    may_become_writable: bool,
    /// Of each reader, the page index behind the last one that the zero page was mapped at; at
    /// first, none that there is.
    nexts: [Atomic<u64>; READERS],
}

impl Mapping {
    /// A mapping of the file that `watch` is for. Sleeps; fails with `ENOMEM`.
    pub(super) fn new(
        stand_ins: Listed,
        zeros: Arc<ZeroPages>,
        watch: Watch<WatchedFile>,
        may_become_writable: bool,
    ) -> Result<Self> {
        if stand_ins.class == Class::SharedWrite {
            watch.listener().add(&stand_ins)?;
        }
        Ok(Self {
            stand_ins,
            zeros,
            watch,
            may_become_writable,
            nexts: core::array::from_fn(|_| Atomic::new(u64::MAX)),
        })
    }

    pub(super) fn may_become_writable(&self) -> bool {
        self.may_become_writable
    }

    pub(super) fn stand_ins(&self) -> &Arc<StandIns> {
        &self.stand_ins
    }

    /// The page index that no stand-in is below. Sleeps.
    pub(super) fn lowest_stand_in(&self) -> u64 {
        // Not while an error is being cleared, since that takes what is past EOF by now from one of
        // these to the other.
        let _inserting = self.file().inserting();
        // Those for errors are inside the file.
        self.file()
            .lowest_stand_in()
            .min(self.stand_ins.first_failed())
    }

    pub(super) fn file(&self) -> &Arc<WatchedFile> {
        self.watch.listener()
    }

    /// Whether the file's page at `pgoff` (in pages) was past EOF since `generation`, or is.
    fn is_cut_off(&self, file: &MappedFile<'_>, pgoff: u64, generation: u64) -> bool {
        past_eof(pgoff, file.i_size()) || self.file().may_have_shrunk_since(generation)
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
        file: &MappedFile<'_>,
        (mm, pgoff): (Mm, u64),
        error: FileError,
        generation: u64,
        (writing, asked_before_writes): (bool, bool),
    ) -> Option<FaultResult> {
        let Ok(page) = PageRef::zeroed() else {
            return Some(FaultResult::oom());
        };
        self.stand_ins.start_keeping();

        // Nobody waits for the semaphore with a page locked, nor for a page with the semaphore held.
        let Ok(locked) = file.lock_cached_page(pgoff) else {
            return Some(FaultResult::again());
        };
        let (cached, keeping) = match locked {
            Some(cached) => match self.file().try_keeping() {
                Some(keeping) => (Some(cached), keeping),
                None => {
                    drop(cached);
                    // The other way round. Giving this back and trying again would give others their
                    // turn as often as they like.
                    let keeping = self.file().keeping();
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
            None => (None, self.file().keeping()),
        };
        keeping.page(pgoff);
        if self.is_cut_off(file, pgoff, generation) {
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
            smp_mb();
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
        self.stand_ins.record(pgoff, error);
        self.stand_ins.count_error();
        if !asked_before_writes {
            // It may be written to from here on.
            file.report_to_fsync(error.errno);
        }
        Some(FaultResult::again())
    }
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
            self.file().remove(&self.stand_ins);
        }
    }
}

impl FaultHandler for Mapping {
    fn holders(&self) -> Option<&Holders> {
        let stand_ins = &self.stand_ins;
        (stand_ins.class == Class::SharedWrite).then(|| stand_ins.shadows.holders())
    }

    fn fault(mut fault: Fault<'_, Self>) -> FaultResult {
        // Before the size is looked at, by `stand_in` and by the file system.
        let generation = fault.handler().file().generation();
        if let Some(result) = stand_in(&fault) {
            return result;
        }
        let mapping = fault.handler();
        mapping
            .file()
            .catch_up(&fault.file().inode(), &mapping.stand_ins, fault.pgoff());
        // Whoever needs the page of the file is not to wait for the memory of this task: nobody
        // allocates a page table with it locked.
        if let Err(no_memory) = fault.allocate_page_table() {
            return no_memory;
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
            if fault.handler().file().may_have_shrunk_since(generation) {
                return FaultResult::again();
            }
            let reading = read(&fault);
            if is_real_error(reading, attempt) {
                return stand_in_for_error(&fault, errors::failed(reading), generation)
                    .unwrap_or(sigbus);
            }
            attempt += 1;
        }
    }

    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult {
        let (mapping, pgoff) = (mkwrite.handler(), mkwrite.pgoff());
        let generation = mapping.file().generation();
        let shadow = mkwrite.is_shadow(&mapping.stand_ins.shadows);
        let kept = mapping.stand_ins.is_kept(pgoff);
        let mkwrite = match answer_mkwrite(shadow, kept) {
            MkwriteAnswer::Native => mkwrite,
            MkwriteAnswer::Again => {
                unmap(&mkwrite.file(), pgoff);
                return FaultResult::again();
            }
            MkwriteAnswer::Allow => {
                if kept {
                    // What is written does not reach the file.
                    mkwrite
                        .file()
                        .report_to_fsync(mapping.stand_ins.first_errno());
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
        // Then the file system has not failed, it has given up.
        if is_being_killed() {
            return sigbus;
        }
        // A page that has been truncated is unmapped, or about to be; not so by every file system.
        if mapping.is_cut_off(&file, pgoff, generation) {
            unmap(&file, pgoff);
            return FaultResult::again();
        }
        if !mapping.stand_ins.may_keep() {
            return sigbus;
        }
        let error = errors::refused(file.free_space().ok());
        let _charged = mkwrite.charge();
        mapping
            .keep(
                &file,
                (mkwrite.mm(), pgoff),
                error,
                generation,
                (true, true),
            )
            .unwrap_or(sigbus)
    }

    fn may_map_around(read: &ReadFault<'_, Self>) -> MayMap {
        let i_size = read.file().i_size();
        if past_eof(read.pgoff(), i_size) {
            MayMap::StandIns
        } else if read.handler().stand_ins.is_keeping() {
            MayMap::Nothing
        } else {
            MayMap::File
        }
    }

    fn map_around(fault: &Fault<'_, Self>, around: RangeInclusive<u64>) -> Option<FaultResult> {
        // What `stand_in` would decide: `may_map_around` has found this past EOF.
        let expected = fault::stand_in(fault.handler().stand_ins.class, access(fault));
        map_stand_in(fault, &around, expected)
    }
}

/// Answers a fault past EOF, or where a page is kept; `None` if it is the file system's to answer.
// Those inside the file come by here as well, and are to go on soon.
#[inline(always)]
fn stand_in(fault: &Fault<'_, Mapping>) -> Option<FaultResult> {
    match decide(fault) {
        Answer::Native => None,
        // Core mm has asked for what is around it, if it wants that, by `map_around`.
        expected => map_stand_in(fault, &(fault.pgoff()..=fault.pgoff()), expected),
    }
}

/// As [`stand_in`], which has decided on `expected`. The zero page may be mapped at all of `around`
/// (indexes).
fn map_stand_in(
    fault: &Fault<'_, Mapping>,
    around: &RangeInclusive<u64>,
    mut expected: Answer,
) -> Option<FaultResult> {
    let mapping = fault.handler();
    let (stand_ins, pgoff) = (&mapping.stand_ins, fault.pgoff());
    loop {
        if expected == Answer::ShadowPage {
            let _charged = fault.charge();
            if stand_ins.shadows.get_or_alloc(pgoff, fault.mm()).is_err() {
                return Some(FaultResult::oom());
            }
        }

        let inserting = match inserting(fault) {
            Ok(inserting) => inserting,
            Err(result) => return Some(result),
        };
        if matches!(expected, Answer::ZeroPage | Answer::ShadowPage) {
            inserting.stand_ins(&(pgoff..=*around.end()));
        }
        // It may have grown, up to here.
        let now = decide(fault);
        let mapped = match now {
            Answer::Native => {
                drop(inserting);
                // What was announced in vain is found by the report of the growth, unless that is over.
                mapping.file().settle_overdue(&fault.file().inode());
                return None;
            }
            _ if now != expected => {
                expected = now;
                None
            }
            Answer::PrivateZeros => {
                // Private, and so of no concern to a growth.
                drop(inserting);
                return private_zeros(fault, false);
            }
            Answer::ZeroPage => Some((Kind::Zero, zero_pages(fault, around))),
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
fn inserting<'a>(fault: &'a Fault<'_, Mapping>) -> Result<Inserting<'a>, FaultResult> {
    loop {
        fault.allocate_page_table()?;
        let inserting = fault.handler().file().inserting();
        // Another thread may have had it freed while this one waited.
        if fault.has_page_table() {
            return Ok(inserting);
        }
        drop(inserting);
        if is_being_killed() {
            return Err(FaultResult::given_up());
        }
    }
}

/// Answers a fault that the file system has failed at; `None` if it is to have its way.
fn stand_in_for_error(
    fault: &Fault<'_, Mapping>,
    error: FileError,
    generation: u64,
) -> Option<FaultResult> {
    let mapping = fault.handler();
    let (stand_ins, file, pgoff) = (&mapping.stand_ins, fault.file(), fault.pgoff());
    if !stand_ins.records_errors() {
        return None;
    }
    let answer = fault::stand_in(stand_ins.class, access(fault));
    if answer == Answer::ShadowPage {
        let _charged = fault.charge();
        let how = (false, fault.is_asked_before_writes());
        return mapping.keep(&file, (fault.mm(), pgoff), error, generation, how);
    }

    let room = {
        let _charged = fault.charge();
        match Room::new() {
            Ok(room) => room,
            Err(_) => return Some(FaultResult::oom()),
        }
    };
    // Nor is the error cleared from here on.
    let inserting = match inserting(fault) {
        Ok(inserting) => inserting,
        Err(no_memory) => return Some(no_memory),
    };
    inserting.stand_in_for_error(pgoff);
    if mapping.is_cut_off(&file, pgoff, generation) {
        return Some(FaultResult::again());
    }
    match answer {
        Answer::PrivateZeros => {
            stand_ins.record(pgoff, error);
            stand_ins.count_error();
            drop(inserting);
            private_zeros(fault, true)
        }
        Answer::ZeroPage => {
            stand_ins.record(pgoff, error);
            stand_ins.zero_page_for_error(pgoff, room);
            let insertion = fault.insert_zero_pages(1);
            if insertion.mapped() > 0 {
                stand_ins.count_error();
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

/// Maps the zero page, where there is no page of the file from there on.
fn zero_pages(fault: &Fault<'_, Mapping>, around: &RangeInclusive<u64>) -> Insertion {
    let (mapping, pgoff) = (fault.handler(), fault.pgoff());
    // Relaxed: what other threads do meanwhile costs nothing but a fault more or less.
    let nexts = mapping.nexts.iter().map(|next| next.load(Relaxed));
    let (pages, reader) = pages_to_map(pgoff, around, nexts);
    let insertion = fault.insert_zero_pages(pages);
    if insertion.mapped() > 0 {
        if let Some(next) = mapping.nexts.get(reader) {
            next.store(pgoff + insertion.mapped() as u64, Relaxed);
        }
    }
    insertion
}

fn private_zeros(fault: &Fault<'_, Mapping>, for_error: bool) -> Option<FaultResult> {
    let mapping = fault.handler();
    let result = fault.private_copy_of_zeros(&mapping.zeros)?;
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
    if read == PageRead::Unknown && fault.handler().stand_ins.records_errors() {
        read = file.ask_shmem(pgoff);
    }
    match read {
        PageRead::PastEof | PageRead::Read | PageRead::Interrupted => Reading::Fine,
        PageRead::Failed(error) => Reading::Failed(error.to_errno().unsigned_abs()),
        PageRead::Unknown => Reading::NotTried,
    }
}
