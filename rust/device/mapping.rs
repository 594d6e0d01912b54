// SPDX-License-Identifier: GPL-2.0-only

//! An opted-in mapping and the answers to its faults.

use crate::{
    abstractions::{
        page_insertion::ZeroPages,
        vm_operations::{
            Fault,
            FaultHandler,
            FaultResult,
            Native, //
        },
    },
    policy::{
        fault::{
            answer,
            Access,
            Answer, //
        },
        Class,
    },
};
use kernel::sync::Arc;

/// An opted-in mapping: one value for all VMAs that came from the one that opted in.
pub(super) struct Mapping {
    pub(super) class: Class,
    pub(super) zeros: Arc<ZeroPages>,
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
    }
}
