// SPDX-License-Identifier: GPL-2.0-only

//! An opted-in mapping and the answers to its faults.

use crate::{
    abstractions::{
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
            mkwrite_was_truncated,
            Access,
            Answer,
            MkwriteAnswer, //
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
    pub(super) class: Class,
    pub(super) zeros: Arc<ZeroPages>,
    pub(super) shadows: Pin<KBox<ShadowPages>>,
    /// Whether mprotect(2) could make it writable before it opted in, and cannot now.
    pub(super) may_become_writable: bool,
}

impl FaultHandler for Mapping {
    fn fault(fault: Fault<'_, Self>) -> FaultResult {
        let fault = match try_answer(fault) {
            Ok(result) => return result,
            Err(fault) => fault,
        };
        match fault.native() {
            Native::Answered(result) => result,
            // Inside the file when it was asked, perhaps past EOF since.
            Native::Sigbus(fault, sigbus) => try_answer(fault).unwrap_or(sigbus),
        }
    }

    fn mkwrite(mkwrite: Mkwrite<'_, Self>) -> FaultResult {
        let shadow = mkwrite.is_shadow(&mkwrite.handler().shadows);
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
                if mkwrite_was_truncated(mkwrite.pgoff(), mkwrite.file().i_size()) {
                    FaultResult::again()
                } else {
                    sigbus
                }
            }
        }
    }
}

/// Answers a fault past EOF; gives back one that is the file system's to answer.
fn try_answer(fault: Fault<'_, Mapping>) -> Result<FaultResult, Fault<'_, Mapping>> {
    let access = if fault.is_write() {
        Access::Write
    } else {
        Access::Read
    };
    let class = fault.handler().class;
    match answer(class, access, fault.pgoff(), fault.file().i_size()) {
        Answer::Native => Err(fault),
        Answer::ZeroPage => Ok(fault.insert_zero_page()),
        Answer::PrivateZeros => fault.private_copy_of_zeros(|mapping| &mapping.zeros),
        Answer::ShadowPage => Ok(fault.insert_shadow_page(|mapping| &mapping.shadows)),
    }
}
