/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
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
 *
 * And which commands there are besides NOSIGBUS_QUERY and NOSIGBUS_ENABLE:
 *
 * NOSIGBUS_FEATURE_DISABLE: NOSIGBUS_DISABLE.
 * NOSIGBUS_FEATURE_STATUS: NOSIGBUS_STATUS.
 *
 * NOSIGBUS_FEATURE_EVENTS: read(2) and poll(2) tell of first stand-ins.
 */
#define NOSIGBUS_FEATURE_PRIVATE	(1ULL << 0)
#define NOSIGBUS_FEATURE_SHARED_READ	(1ULL << 1)
#define NOSIGBUS_FEATURE_SHARED_WRITE	(1ULL << 2)
#define NOSIGBUS_FEATURE_DISABLE	(1ULL << 3)
#define NOSIGBUS_FEATURE_STATUS		(1ULL << 4)
#define NOSIGBUS_FEATURE_EVENTS		(1ULL << 5)

/*
 * Flags of NOSIGBUS_ENABLE:
 *
 * NOSIGBUS_RECORD_ERRORS: where the file system cannot read a page inside the
 *	file, or refuses a write to one (EIO, ENOSPC, EDQUOT), the access gets a
 *	stand-in as past end-of-file, and NOSIGBUS_STATUS tells of the error.
 *	Broken memory still raises SIGBUS.
 * NOSIGBUS_EVENTFD: the eventfd is signalled at the first stand-in, and at the
 *	first one after each NOSIGBUS_STATUS. An access to where the zero page has
 *	been mapped ahead of it is none.
 * NOSIGBUS_EVENTS: when the eventfd would be signalled, struct nosigbus_event can
 *	be read from the file descriptor that the ioctl was called with.
 */
#define NOSIGBUS_RECORD_ERRORS		(1U << 0)
#define NOSIGBUS_EVENTFD		(1U << 1)
#define NOSIGBUS_EVENTS			(1U << 2)

/*
 * What NOSIGBUS_STATUS is to do besides telling:
 *
 * NOSIGBUS_CLEAR_ERROR: forget the error, having told it, and drop what stands
 *	in for pages of the file because of errors, with all that was written to
 *	it. The next access to each of them asks the file system again. Private
 *	pages stay, and so does what is past end-of-file by now.
 */
#define NOSIGBUS_CLEAR_ERROR		(1U << 0)

/*
 * What NOSIGBUS_STATUS says of the error:
 *
 * NOSIGBUS_ERROR_DEDUCED: the file system has not said what it was. The error is
 *	ENOSPC if it had next to no space left, and otherwise EIO, which can be
 *	any other as well, EDQUOT among them.
 */
#define NOSIGBUS_ERROR_DEDUCED		(1U << 0)

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
 * @flags: NOSIGBUS_RECORD_ERRORS, NOSIGBUS_EVENTFD, NOSIGBUS_EVENTS
 * @eventfd: with NOSIGBUS_EVENTFD the file descriptor of an eventfd, which can be
 *	closed at once; otherwise must be zero
 * @cookie: with NOSIGBUS_EVENTS any number, by which struct nosigbus_event names the
 *	mapping; otherwise must be zero
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
	__u64 cookie;
	__u64 reserved[2];
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

/**
 * struct nosigbus_status - what has become of a mapping
 * @addr: address of any byte of the mapping
 * @request: NOSIGBUS_CLEAR_ERROR, or zero
 * @flags: the flags that it has opted in with
 * @zero_pages: how many times the shared zero page was mapped, also ahead of
 *	who reads one page after the other
 * @private_pages: how many writes were given a page of the process's own, not
 *	counting writes to where the zero page was mapped, also ahead, which are
 *	not seen; threads that write to one page at once may count more than once
 * @shadow_pages: how many times a shadow page was mapped
 * @shadow_pages_held: how many shadow pages there are now
 * @given_back: how many shadow pages were freed because the file has grown over
 *	them
 * @errors: how many times the file system has failed and the page was given a
 *	stand-in, with NOSIGBUS_RECORD_ERRORS; stand-ins are counted by kind as well
 * @error_offset: of the first error, where in the file, in bytes: the start of
 *	the page
 * @error: the first error since NOSIGBUS_ENABLE or NOSIGBUS_CLEAR_ERROR: a
 *	(positive) errno, or zero if there was none
 * @error_flags: NOSIGBUS_ERROR_DEDUCED, or zero
 * @reserved: must be zero
 *
 * The program fills in @addr, @request and @reserved, the module the rest. All
 * counts are since NOSIGBUS_ENABLE, of all parts and copies of the mapping
 * together (mremap, fork). A page that is mapped again counts again.
 */
struct nosigbus_status {
	__u64 addr;
	__u32 request;
	__u32 flags;
	__u64 zero_pages;
	__u64 private_pages;
	__u64 shadow_pages;
	__u64 shadow_pages_held;
	__u64 given_back;
	__u64 errors;
	__u64 error_offset;
	__u32 error;
	__u32 error_flags;
	__u64 reserved[6];
};

/*
 * The kinds of struct nosigbus_event: what has been mapped, or
 *
 * NOSIGBUS_EVENT_OVERFLOW: nothing; events are lost here, because too many waited
 *	to be read. NOSIGBUS_STATUS tells of each mapping.
 */
#define NOSIGBUS_EVENT_ZERO_PAGE	1
#define NOSIGBUS_EVENT_PRIVATE_PAGE	2
#define NOSIGBUS_EVENT_SHADOW_PAGE	3
#define NOSIGBUS_EVENT_OVERFLOW		4

/*
 * Flags of struct nosigbus_event:
 *
 * NOSIGBUS_EVENT_ERROR: it stands in for a page inside the file, because of an error
 *	(NOSIGBUS_RECORD_ERRORS).
 */
#define NOSIGBUS_EVENT_ERROR		(1U << 0)

/**
 * struct nosigbus_event - the first stand-in of a mapping
 * @cookie: as given to NOSIGBUS_ENABLE; zero in NOSIGBUS_EVENT_OVERFLOW
 * @offset: where in the file, in bytes: the start of the page; of
 *	NOSIGBUS_EVENT_OVERFLOW, how many are lost
 * @kind: NOSIGBUS_EVENT_ZERO_PAGE and so on; there may be others in future
 * @flags: NOSIGBUS_EVENT_ERROR, or zero; there may be others in future
 * @reserved: zero
 *
 * read(2) from the device gives as many of them as there are and fit, the oldest
 * first, of the mappings that were opted in with NOSIGBUS_EVENTS through the same
 * open file. A mapping has one at its first stand-in, and at the first one after
 * each NOSIGBUS_STATUS, but not a second one while the first waits to be read: read
 * it, and then ask for the status. It outlives the mapping. poll(2) says POLLIN when
 * there are any.
 *
 * Errors of read(2): EINVAL (room for less than one), EAGAIN (none, and O_NONBLOCK),
 * EINTR (a signal), EFAULT (bad pointer; none is lost).
 */
struct nosigbus_event {
	__u64 cookie;
	__u64 offset;
	__u32 kind;
	__u32 flags;
	__u64 reserved;
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
 * SIGBUS, without NOSIGBUS_RECORD_ERRORS.
 *
 * Errors:
 * EINVAL: an unknown flag, a non-zero reserved field, an unaligned, empty or
 *	overflowing range, a range that covers part of a VMA, an eventfd without
 *	NOSIGBUS_EVENTFD, a cookie without NOSIGBUS_EVENTS, or a file descriptor that
 *	is no eventfd.
 * EBADF: no open file descriptor.
 * ENOMEM: a hole in the range, or out of memory.
 * EFAULT: bad pointer.
 * EOPNOTSUPP: not an ordinary file (anonymous or device memory, hugetlb, DAX,
 *	secretmem, guest_memfd, Coda, ...); locked by mlock or mlockall, or registered
 *	with userfaultfd (undo that first).
 * EBUSY: already opted in.
 * EINTR: a signal, while pages were copied that KSM had merged; nothing is opted
 *	in. Or the process was killed meanwhile.
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

/*
 * NOSIGBUS_STATUS tells what has become of the mapping at an address, and with
 * NOSIGBUS_CLEAR_ERROR clears its error. From then on the next stand-in is an
 * event again (NOSIGBUS_EVENTFD, NOSIGBUS_EVENTS).
 *
 * An error stays until it is cleared, the mapping is opted out, or the last part
 * of it is gone: ask before munmap().
 *
 * Errors:
 * EINVAL: an unknown bit in request, or a non-zero reserved field.
 * EFAULT: bad pointer.
 * ENOMEM: nothing is mapped at the address.
 * ENOENT: not opted in.
 * EINTR: a signal, while errors were being cleared, or one after the other was met
 *	that had to be told of before. The error stays.
 */
#define NOSIGBUS_STATUS	_IOWR(NOSIGBUS_IOC_MAGIC, 0x03, struct nosigbus_status)

#endif /* _UAPI_LINUX_NOSIGBUS_H */
