// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel macros and inline functions as functions that Rust can call. bindgen reads their
 * declarations here, so there is no header.
 *
 * One file per kernel header. A wrapper has the name of what it wraps, after nosigbus_, or the
 * names of two calls, the inner one first (page_folio_test_large). It leaves out arguments that are
 * always the same (gfp flags, THIS_MODULE, current). C code of the module's own is in calls.c, and
 * in functions that have a comment.
 */

#include "calls.c"
#include "dcache.c"
#include "debugfs.c"
#include "eventfd.c"
#include "fs.c"
#include "fsnotify.c"
#include "highmem.c"
#include "kdev_t.c"
#include "ksm.c"
#include "memcontrol.c"
#include "mm.c"
#include "mmap_lock.c"
#include "module.c"
#include "oom.c"
#include "page-flags.c"
#include "pagemap.c"
#include "pgtable.c"
#include "rcupdate.c"
#include "sched.c"
#include "seq_file.c"
#include "shmem_fs.c"
#include "userfaultfd_k.c"
#include "xarray.c"
