// SPDX-License-Identifier: GPL-2.0-only

//! An opted-in mapping and the answers to its faults.

use super::watched_file::WatchedFile;
use crate::{
    abstractions::{
        file::PageRead,
        fsnotify::Watch,
        page_insertion::ZeroPages,
        shadow_pages::ShadowPages,
        vm_operations::{
            Fault,
            FaultHandler,
            FaultResult,
            Mkwrite,
            Native, //
        },
    },
    policy::{
        fault::{
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
    sync::Arc, //
};

/// An opted-in mapping: one value for all VMAs that came from the one that opted in.
pub(super) struct Mapping {
    class: Class,
    zeros: Arc<ZeroPages>,
    /// Of a mapping that can be written to for everybody.
    shadows: Option<Arc<ShadowPages>>,
    watch: Watch<WatchedFile>,
    /// Whether mprotect(2) could make it writable before it opted in, and cannot now.
    may_become_writable: bool,
}

impl Mapping {
    /// A mapping of the file that `watch` is for. Sleeps; fails with `ENOMEM`.
    pub(super) fn new(
        class: Class,
        zeros: Arc<ZeroPages>,
        watch: Watch<WatchedFile>,
        may_become_writable: bool,
    ) -> Result<Self> {
        let shadows = if class == Class::SharedWrite {
            let shadows = ShadowPages::new()?;
            watch.listener().add(&shadows)?;
            Some(shadows)
        } else {
            None
        };
        Ok(Self {
            class,
            zeros,
            shadows,
            watch,
            may_become_writable,
        })
    }

    pub(super) fn may_become_writable(&self) -> bool {
        self.may_become_writable
    }

    /// The page index that no stand-in is below.
    pub(super) fn lowest_stand_in(&self) -> u64 {
        self.file().lowest_stand_in()
    }

    fn file(&self) -> &WatchedFile {
        self.watch.listener()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(shadows) = &self.shadows {
            self.file().remove(shadows);
        }
    }
}

impl FaultHandler for Mapping {
    fn fault(mut fault: Fault<'_, Self>) -> FaultResult {
        // Before the size is looked at, by `stand_in` and by the file system.
        let generation = fault.handler().file().generation();
        if let Some(result) = stand_in(&fault) {
            return result;
        }
        fault.handler().file().catch_up(&fault.file().inode());

        let mut attempt = 1;
        loop {
            let (again, sigbus) = match fault.native() {
                Native::Answered(result) => return result,
                Native::Sigbus(fault, sigbus) => (fault, sigbus),
            };
            fault = again;
            // Inside the file when it was asked, perhaps past EOF since.
            if let Some(result) = stand_in(&fault) {
                return result;
            }
            if fault.handler().file().may_have_shrunk_since(generation) {
                return FaultResult::again();
            }
            if is_real_error(read(&fault), attempt) {
                return sigbus;
            }
            attempt += 1;
        }
    }

    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult {
        let generation = mkwrite.handler().file().generation();
        let shadow = match &mkwrite.handler().shadows {
            Some(shadows) => mkwrite.is_shadow(shadows),
            None => false,
        };
        let mkwrite = match answer_mkwrite(shadow) {
            MkwriteAnswer::Native => mkwrite,
            MkwriteAnswer::Allow => match mkwrite.allow() {
                Ok(result) => return result,
                Err(mkwrite) => mkwrite,
            },
        };
        match mkwrite.native() {
            Native::Answered(result) => result,
            Native::Sigbus(mkwrite, sigbus) => {
                // A page that has been truncated is unmapped, or about to be.
                if past_eof(mkwrite.pgoff(), mkwrite.file().i_size())
                    || mkwrite.handler().file().may_have_shrunk_since(generation)
                {
                    FaultResult::again()
                } else {
                    sigbus
                }
            }
        }
    }
}

/// Answers a fault past EOF; `None` if it is the file system's to answer.
fn stand_in(fault: &Fault<'_, Mapping>) -> Option<FaultResult> {
    let mapping = fault.handler();
    loop {
        let shadows = match decide(fault) {
            Answer::Native => return None,
            Answer::ShadowPage => mapping.shadows.as_deref(),
            Answer::PrivateZeros | Answer::ZeroPage => None,
        };
        // Whoever changes the file's size waits for what follows, and is not to wait for memory. A
        // page that turns out not to be needed is full of zeros, as it would be later.
        if shadows.is_some_and(|shadows| shadows.get_or_alloc(fault.pgoff()).is_err()) {
            return Some(FaultResult::oom());
        }

        // From here on the file does not grow unseen. It may have, up to here.
        let inserting = mapping.file().inserting();
        match decide(fault) {
            Answer::Native => return None,
            // Private, and so of no concern to a growth.
            Answer::PrivateZeros => return fault.private_copy_of_zeros(&mapping.zeros),
            Answer::ZeroPage => {
                inserting.stand_in(fault.pgoff());
                return Some(fault.insert_zero_page());
            }
            Answer::ShadowPage => {
                // Gone, if the file has grown over it and shrunk again.
                if let Some(page) = shadows.and_then(|shadows| shadows.get(fault.pgoff())) {
                    inserting.stand_in(fault.pgoff());
                    return Some(fault.insert_shadow_page(&page));
                }
            }
        }
    }
}

fn decide(fault: &Fault<'_, Mapping>) -> Answer {
    let access = if fault.is_write() {
        Access::Write
    } else {
        Access::Read
    };
    answer(
        fault.handler().class,
        access,
        fault.pgoff(),
        fault.file().i_size(),
    )
}

fn read(fault: &Fault<'_, Mapping>) -> Reading {
    let pgoff = fault.pgoff();
    let read = fault
        .file()
        .read_page_uncollapsed(pgoff, |i_size| past_eof(pgoff, i_size));
    match read {
        PageRead::PastEof | PageRead::Read | PageRead::Interrupted => Reading::Fine,
        PageRead::Failed => Reading::Failed,
        PageRead::Unknown => Reading::NotTried,
    }
}
