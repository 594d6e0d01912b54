/* SPDX-License-Identifier: GPL-2.0-only */
/* NOSIGBUS_STATUS, and NOSIGBUS_ENABLE with all its arguments. */
#ifndef _NOSIGBUS_STATUS_H
#define _NOSIGBUS_STATUS_H

#include "nosigbus_test.h"

/* NOSIGBUS_ENABLE: 0, or minus errno. */
static inline int enable_with(int device, const void *addr, size_t len, unsigned int flags,
			      int eventfd)
{
	struct nosigbus_enable request = {
		.addr = (unsigned long)addr,
		.len = len,
		.flags = flags,
		.eventfd = eventfd,
	};

	return ioctl(device, NOSIGBUS_ENABLE, &request) ? -errno : 0;
}

/* NOSIGBUS_STATUS: 0, or minus errno. */
static inline int status_of(int device, const void *addr, unsigned int request,
			    struct nosigbus_status *status)
{
	/* 0xa5 stays in every field that the module forgets to fill in. */
	memset(status, 0xa5, sizeof(*status));
	status->addr = (unsigned long)addr;
	status->request = request;
	memset(status->reserved, 0, sizeof(status->reserved));
	return ioctl(device, NOSIGBUS_STATUS, status) ? -errno : 0;
}

/* How many stand-ins there have been, of all kinds. */
static inline __u64 stand_ins(const struct nosigbus_status *status)
{
	return status->zero_pages + status->private_pages + status->shadow_pages;
}

/* Every field that the module fills in has the wanted value. */
#define EXPECT_SAME_STATUS(seen, want) do {					\
	const struct nosigbus_status *_got = &(seen), *_want = &(want);		\
										\
	EXPECT_EQ(_got->flags, _want->flags);					\
	EXPECT_EQ(_got->zero_pages, _want->zero_pages);				\
	EXPECT_EQ(_got->private_pages, _want->private_pages);			\
	EXPECT_EQ(_got->shadow_pages, _want->shadow_pages);			\
	EXPECT_EQ(_got->shadow_pages_held, _want->shadow_pages_held);		\
	EXPECT_EQ(_got->given_back, _want->given_back);				\
	EXPECT_EQ(_got->errors, _want->errors);					\
	EXPECT_EQ(_got->error_offset, _want->error_offset);			\
	EXPECT_EQ(_got->error, _want->error);					\
	EXPECT_EQ(_got->error_flags, _want->error_flags);			\
} while (0)

/* NOSIGBUS_STATUS with the request flags "how" returns the wanted status. */
#define EXPECT_STATUS_OF(device, at, how, want) do {				\
	struct nosigbus_status _status;						\
										\
	ASSERT_EQ(status_of(device, at, how, &_status), 0);			\
	EXPECT_SAME_STATUS(_status, want);					\
	EXPECT_EQ(_status.addr, (unsigned long)(at));				\
	EXPECT_EQ(_status.request, (unsigned int)(how));			\
	for (size_t _i = 0; _i < ARRAY_SIZE(_status.reserved); _i++)		\
		EXPECT_EQ(_status.reserved[_i], 0);				\
} while (0)

/* How an access is made. */
enum how { READ, WRITE };

/*
 * Accesses the pages from first to end (exclusive); false if an access has raised a signal. It
 * goes downwards: for upward reads the module maps zero pages ahead, past end as well.
 */
static inline bool touch(char *addr, int first, int end, enum how how)
{
	size_t size = page_size();

	for (int i = end; i-- > first;)
		if (how == WRITE ? write_byte(addr + i * size, 1) : read_byte(addr + i * size) < 0)
			return false;
	return true;
}

/*
 * Updates the wanted status: "pages" pages have got a stand-in. For "fresh" of them the mapping
 * had no shadow page yet.
 */
static inline void add(struct nosigbus_status *want, enum class class, enum how how, int pages,
		       int fresh)
{
	if (class == SHARED_WRITE) {
		want->shadow_pages += pages;
		want->shadow_pages_held += fresh;
	} else if (how == WRITE) {
		want->private_pages += pages;
	} else {
		want->zero_pages += pages;
	}
}

/* Updates the wanted status: the file has grown over "pages" stand-ins. */
static inline void give_back(struct nosigbus_status *want, enum class class, int pages)
{
	if (class == SHARED_WRITE) {
		want->given_back += pages;
		want->shadow_pages_held -= pages;
	}
}

/*
 * How many of the pages from first to end (exclusive) have an entry in the page table. pagemap:
 * an open /proc/self/pagemap.
 */
static inline int mapped_pages(int pagemap, const char *addr, int first, int end)
{
	uint64_t entries[64];
	int pages = 0, many;

	for (int i = first; i < end; i += many) {
		off_t pos = ((unsigned long)addr / page_size() + i) * sizeof(*entries);
		ssize_t len;

		many = end - i < 64 ? end - i : 64;
		len = many * sizeof(*entries);
		if (pread(pagemap, entries, len, pos) != len) {
			perror("/proc/self/pagemap");
			abort();
		}
		/* Present, or swapped. */
		for (int j = 0; j < many; j++)
			pages += entries[j] >> 62 != 0;
	}
	return pages;
}

#endif /* _NOSIGBUS_STATUS_H */
