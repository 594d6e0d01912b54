// SPDX-License-Identifier: MIT OR Apache-2.0

//! mremap of an opted-in mapping, which the kernel cannot grow where it is.

use crate::{
    device,
    kernel::{Mremap, Result, block, munmap, page_size, pages, status},
};
use libc::{ENOMEM, MREMAP_MAYMOVE};

/// mremap. Where there is room behind the mapping, the kernel tries to grow it there, and fails.
/// With the room taken it moves the mapping, if it may.
///
/// If it may not, ENOMEM is what the program gets: it has to be prepared for that, since there may
/// always be another mapping behind. The alternative, to opt out meanwhile, would lose what was
/// written to shadow pages, and have SIGBUS kill other threads.
///
/// # Safety
///
/// That of mremap.
pub unsafe fn mremap(args: Mremap) -> Result {
    // SAFETY: The caller's.
    let result = unsafe { args.call() };
    if result != Err(ENOMEM) || args.flags != MREMAP_MAYMOVE || args.len <= args.old_len {
        return result;
    }
    let opted_in = || status(device::get()?, args.old).ok();
    if opted_in().is_none() {
        return result;
    }
    let room = pages(args.old, args.old_len).end;
    // If it is taken already, another thread has done it just now.
    let blocked = block(room, page_size()).is_ok();
    // SAFETY: The caller's.
    let result = unsafe { args.call() };
    if blocked {
        // SAFETY: Made above, and nobody else knows of it.
        let _ = unsafe { munmap(room, page_size()) };
    }
    result
}
