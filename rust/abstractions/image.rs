// SPDX-License-Identifier: GPL-2.0-only

//! Telling the image of the kernel or of a module from allocated memory.
//!
//! C headers: [`include/linux/page-flags.h`](srctree/include/linux/page-flags.h),
//! [`include/linux/vmalloc.h`](srctree/include/linux/vmalloc.h)

use super::bindings;
use core::ffi::c_void;
use kernel::prelude::*;

/// Returns `true` only if `object` is part of the image of the kernel or of a module. May return
/// `false` for one that is.
///
/// The module address range holds only module images and generated code. The pages of the kernel
/// image are reserved (`PageReserved()`). So are early-boot allocations; no file system keeps a
/// `vm_operations_struct` there. `false` for a module that lies outside the module range (arm64
/// with KASLR). Callers must also ask
/// [`MappedFile::module_contains`](super::file::MappedFile::module_contains).
///
/// # Safety
///
/// `object` must be the address of something in the kernel's memory that is valid.
pub(super) unsafe fn contains(object: *const c_void) -> bool {
    // SAFETY: The address is valid, as the caller promises. So a vmalloc address has a page, and an
    // address outside the vmalloc and module ranges is in the linear map or the kernel image.
    unsafe {
        let page = if bindings::is_vmalloc_addr(object) {
            bindings::vmalloc_to_page(object)
        } else if bindings::is_vmalloc_or_module_addr(object) != 0 {
            return true;
        } else {
            bindings::nosigbus_virt_to_page(object)
        };
        !page.is_null() && bindings::nosigbus_page_is_reserved(page)
    }
}

#[kunit_tests(nosigbus_image)]
mod tests {
    use super::*;

    static OF_THIS_MODULE: u64 = 1;

    fn has<T>(object: *const T) -> bool {
        // SAFETY: The tests pass pointers to valid objects only.
        unsafe { contains(object.cast()) }
    }

    #[test]
    fn images_are_told_from_allocated_memory() -> Result {
        assert!(has(&OF_THIS_MODULE));
        assert!(has(&raw const kernel::bindings::system_percpu_wq));
        assert!(!has(&*KBox::new(1u64, GFP_KERNEL)?));
        assert!(!has(&*VBox::new(1u64, GFP_KERNEL)?));
        // A stack.
        let local = 1u64;
        assert!(!has(&local));
        Ok(())
    }
}
