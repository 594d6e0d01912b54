// SPDX-License-Identifier: MIT OR Apache-2.0

//! mremap of an opted-in mapping. The kernel cannot grow such a mapping in place.

use crate::{
    device,
    kernel::{Mremap, Result, block, munmap, page_size, pages, status},
};
use libc::{ENOMEM, MREMAP_MAYMOVE};

/// Calls mremap. If there is room behind an opted-in mapping, the kernel tries to grow the mapping
/// in place, and fails. This function maps a page there and calls mremap again; then the kernel
/// moves the mapping.
///
/// Without MREMAP_MAYMOVE the program gets ENOMEM. It must expect that anyway, because another
/// mapping can always be behind. The alternative would be to opt out during the call. That would
/// lose the data in shadow pages, and SIGBUS could kill other threads.
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
    // If this fails, another thread has mapped something there just now.
    let blocked = block(room, page_size()).is_ok();
    // SAFETY: The caller's.
    let result = unsafe { args.call() };
    if blocked {
        // SAFETY: Created above, and no other code knows it.
        let _ = unsafe { munmap(room, page_size()) };
    }
    result
}
