/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/nosigbus: mappings of files that never raise SIGBUS past end-of-file.
 *
 * Every ioctl acts on the address space of the calling process only, and any
 * user may call it. Structures have the same layout for 32-bit and 64-bit
 * programs. Fields named reserved must be zero.
 */
#ifndef _UAPI_LINUX_NOSIGBUS_H
#define _UAPI_LINUX_NOSIGBUS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The version of this interface, as NOSIGBUS_QUERY reports it. */
#define NOSIGBUS_VERSION		1

/*
 * What may be opted in, as NOSIGBUS_QUERY reports it in features:
 *
 * NOSIGBUS_FEATURE_PRIVATE: MAP_PRIVATE mappings of ordinary files.
 * NOSIGBUS_FEATURE_SHARED_READ: MAP_SHARED mappings of ordinary files that are
 *	not writable when they opt in.
 */
#define NOSIGBUS_FEATURE_PRIVATE	(1ULL << 0)
#define NOSIGBUS_FEATURE_SHARED_READ	(1ULL << 1)

/**
 * struct nosigbus_query - what this module can do
 * @version: NOSIGBUS_VERSION of the module
 * @reserved: zero
 * @features: bits NOSIGBUS_FEATURE_*
 * @enable_flags: the bits that NOSIGBUS_ENABLE accepts in flags
 * @reserved2: zero
 */
struct nosigbus_query {
	__u32 version;
	__u32 reserved;
	__u64 features;
	__u64 enable_flags;
	__u64 reserved2[5];
};

/**
 * struct nosigbus_enable - the range to opt in
 * @addr: address of the first byte, a multiple of the page size
 * @len: length in bytes, a non-zero multiple of the page size
 * @flags: none are defined yet, must be zero
 * @eventfd: must be zero
 * @reserved: must be zero
 *
 * The range must consist of whole VMAs without a hole: either all of them are
 * opted in, or none.
 */
struct nosigbus_enable {
	__u64 addr;
	__u64 len;
	__u32 flags;
	__s32 eventfd;
	__u64 reserved[3];
};

#define NOSIGBUS_IOC_MAGIC		0xBB

/*
 * NOSIGBUS_QUERY fills in struct nosigbus_query.
 *
 * Errors: EFAULT (bad pointer).
 */
#define NOSIGBUS_QUERY	_IOR(NOSIGBUS_IOC_MAGIC, 0x00, struct nosigbus_query)

/*
 * NOSIGBUS_ENABLE opts the mappings in a range in: from then on, until they
 * are unmapped, an access past end-of-file reads zeros instead of raising
 * SIGBUS; a write to a MAP_PRIVATE mapping there gets a zero-filled page. A
 * MAP_SHARED mapping cannot be made writable while it is opted in, so a write
 * there raises SIGSEGV.
 *
 * Limits of version 1: pages that have been read as zeros stay so when the file
 * grows, until it is shrunk again or they are dropped (MADV_DONTNEED); a file
 * that shrinks and grows within the time of one fault can still raise SIGBUS.
 *
 * Errors:
 * EINVAL: an unknown flag, a non-zero reserved field, an unaligned, empty or
 *	overflowing range, or a range that covers part of a VMA.
 * ENOMEM: a hole in the range, or out of memory.
 * EFAULT: bad pointer.
 * EOPNOTSUPP: not an ordinary file (anonymous or device memory, hugetlb, DAX,
 *	secretmem, guest_memfd, ...); MAP_SHARED and writable; locked by mlock
 *	or mlockall, or registered with userfaultfd (undo that first).
 * EBUSY: already opted in.
 * EINTR: the process was killed meanwhile.
 */
#define NOSIGBUS_ENABLE	_IOW(NOSIGBUS_IOC_MAGIC, 0x01, struct nosigbus_enable)

#endif /* _UAPI_LINUX_NOSIGBUS_H */
