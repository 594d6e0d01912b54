/* SPDX-License-Identifier: GPL-2.0-only */
/* What bindgen reads: Kbuild makes rust/bindings_generated.rs of it. */

#include <linux/fsnotify_backend.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/nosigbus.h>
#include <linux/pagemap.h>
#include <linux/statfs.h>
#include <linux/vmalloc.h>

#include "helpers/helpers.c"

/* Macros that bindgen cannot evaluate. */

const vm_flags_t RUST_CONST_HELPER_VM_MAYSHARE = VM_MAYSHARE;
const vm_flags_t RUST_CONST_HELPER_VM_MERGEABLE = VM_MERGEABLE;
const vm_flags_t RUST_CONST_HELPER_VM_LOCKED_MASK = VM_LOCKED_MASK;
const vm_flags_t RUST_CONST_HELPER_VM_MAYBE_GUARD = VM_MAYBE_GUARD;
const unsigned long RUST_CONST_HELPER_SYSFS_MAGIC = SYSFS_MAGIC;
const unsigned long RUST_CONST_HELPER_XFS_SUPER_MAGIC = XFS_SUPER_MAGIC;
const unsigned long RUST_CONST_HELPER_F2FS_SUPER_MAGIC = F2FS_SUPER_MAGIC;
const gfp_t RUST_CONST_HELPER_XA_FLAGS_ACCOUNT = XA_FLAGS_ACCOUNT;
const xa_mark_t RUST_CONST_HELPER_XA_MARK_0 = XA_MARK_0;
const xa_mark_t RUST_CONST_HELPER_XA_MARK_1 = XA_MARK_1;
const xa_mark_t RUST_CONST_HELPER_XA_PRESENT = XA_PRESENT;
const unsigned long RUST_CONST_HELPER_PMD_SIZE = PMD_SIZE;
const u32 RUST_CONST_HELPER_NOSIGBUS_QUERY = NOSIGBUS_QUERY;
const u32 RUST_CONST_HELPER_NOSIGBUS_ENABLE = NOSIGBUS_ENABLE;
const u32 RUST_CONST_HELPER_NOSIGBUS_DISABLE = NOSIGBUS_DISABLE;
const u32 RUST_CONST_HELPER_NOSIGBUS_STATUS = NOSIGBUS_STATUS;
