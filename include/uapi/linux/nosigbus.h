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
 * NOSIGBUS_FEATURE_SHARED_WRITE: MAP_SHARED mappings of ordinary files that are
 *	writable when they opt in.
 */
#define NOSIGBUS_FEATURE_PRIVATE	(1ULL << 0)
#define NOSIGBUS_FEATURE_SHARED_READ	(1ULL << 1)
#define NOSIGBUS_FEATURE_SHARED_WRITE	(1ULL << 2)

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

/**
 * struct nosigbus_disable - the range to opt out
 * @addr: address of the first byte, a multiple of the page size
 * @len: length in bytes, a non-zero multiple of the page size
 * @reserved: must be zero
 *
 * The range must consist of whole VMAs without a hole, all of them opted in:
 * either all of them are opted out, or none.
 */
struct nosigbus_disable {
	__u64 addr;
	__u64 len;
	__u64 reserved[2];
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
 * are unmapped or opted out, an access past end-of-file finds a page that
 * stands in for the one the file does not have, instead of raising SIGBUS.
 *
 * MAP_PRIVATE: zeros to read; a write gets a zero-filled page of the process's
 *	own.
 * MAP_SHARED, not writable when it opts in: zeros to read. The mapping cannot
 *	be made writable while it is opted in (mprotect: EACCES).
 * MAP_SHARED, writable when it opts in: a zero-filled page that all parts and
 *	copies of the mapping share (threads, mremap, fork), and nobody else. It
 *	keeps what is written to it until the file grows over it, or the last of
 *	them is gone.
 *
 * When the file grows, its pages replace what stood in for them before the
 * system call that has made it grow returns; private copies stay. Not seen are
 * changes on a server (NFS, 9p, FUSE), Linux AIO (io_submit), and write() and
 * fallocate() to a memfd through another open of it than the mapped one; then
 * it is the next change that is seen. An I/O error inside the file still raises
 * SIGBUS.
 *
 * Errors:
 * EINVAL: an unknown flag, a non-zero reserved field, an unaligned, empty or
 *	overflowing range, or a range that covers part of a VMA.
 * ENOMEM: a hole in the range, or out of memory.
 * EFAULT: bad pointer.
 * EOPNOTSUPP: not an ordinary file (anonymous or device memory, hugetlb, DAX,
 *	secretmem, guest_memfd, ...); locked by mlock or mlockall, or registered
 *	with userfaultfd (undo that first).
 * EBUSY: already opted in.
 * EINTR: the process was killed meanwhile.
 */
#define NOSIGBUS_ENABLE	_IOW(NOSIGBUS_IOC_MAGIC, 0x01, struct nosigbus_enable)

/*
 * NOSIGBUS_DISABLE opts the mappings in a range out: they are plain mappings
 * again. What stood in for pages past end-of-file is dropped, and SIGBUS is
 * back; private pages that were written to stay. A MAP_SHARED mapping that
 * could have been made writable before it opted in can be made so again, unless
 * the file has been sealed against it meanwhile.
 *
 * Copies of the mapping in other processes, and parts of it outside of the
 * range, stay opted in.
 *
 * Errors:
 * EINVAL: a non-zero reserved field, an unaligned, empty or overflowing range,
 *	or a range that covers part of a VMA.
 * ENOMEM: a hole in the range, or out of memory.
 * EFAULT: bad pointer.
 * ENOENT: not opted in.
 * EINTR: the process was killed meanwhile.
 */
#define NOSIGBUS_DISABLE _IOW(NOSIGBUS_IOC_MAGIC, 0x02, struct nosigbus_disable)

#endif /* _UAPI_LINUX_NOSIGBUS_H */
