// SPDX-License-Identifier: GPL-2.0-only
/*
 * The uAPI as a binary interface: layout of the structures, command numbers, arguments at their
 * edges, requests in every kind of memory, and calls by several threads, by other processes and
 * after execve(2).
 */

#include "commands.h"
#include "mapped_file.h"
#include "status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* The same numbers in 32-bit and in 64-bit programs; each structure without padding. */
#define SIZE_IS(type, size) \
	_Static_assert(sizeof(struct type) == (size), "size of " #type)
#define FIELD_IS(type, field, offset, size) \
	_Static_assert(offsetof(struct type, field) == (offset) && \
		       sizeof(((struct type *)0)->field) == (size), #type "." #field)
#define VALUE_IS(name, value) \
	_Static_assert((name) == (value) && sizeof(name) == sizeof(value), #name)

SIZE_IS(nosigbus_query, 64);
FIELD_IS(nosigbus_query, version, 0, 4);
FIELD_IS(nosigbus_query, reserved, 4, 4);
FIELD_IS(nosigbus_query, features, 8, 8);
FIELD_IS(nosigbus_query, enable_flags, 16, 8);
FIELD_IS(nosigbus_query, reserved2, 24, 40);

SIZE_IS(nosigbus_enable, 48);
FIELD_IS(nosigbus_enable, addr, 0, 8);
FIELD_IS(nosigbus_enable, len, 8, 8);
FIELD_IS(nosigbus_enable, flags, 16, 4);
FIELD_IS(nosigbus_enable, eventfd, 20, 4);
FIELD_IS(nosigbus_enable, cookie, 24, 8);
FIELD_IS(nosigbus_enable, reserved, 32, 16);

SIZE_IS(nosigbus_disable, 32);
FIELD_IS(nosigbus_disable, addr, 0, 8);
FIELD_IS(nosigbus_disable, len, 8, 8);
FIELD_IS(nosigbus_disable, reserved, 16, 16);

SIZE_IS(nosigbus_status, 128);
FIELD_IS(nosigbus_status, addr, 0, 8);
FIELD_IS(nosigbus_status, request, 8, 4);
FIELD_IS(nosigbus_status, flags, 12, 4);
FIELD_IS(nosigbus_status, zero_pages, 16, 8);
FIELD_IS(nosigbus_status, private_pages, 24, 8);
FIELD_IS(nosigbus_status, shadow_pages, 32, 8);
FIELD_IS(nosigbus_status, shadow_pages_held, 40, 8);
FIELD_IS(nosigbus_status, given_back, 48, 8);
FIELD_IS(nosigbus_status, errors, 56, 8);
FIELD_IS(nosigbus_status, error_offset, 64, 8);
FIELD_IS(nosigbus_status, error, 72, 4);
FIELD_IS(nosigbus_status, error_flags, 76, 4);
FIELD_IS(nosigbus_status, reserved, 80, 48);

SIZE_IS(nosigbus_event, 32);
FIELD_IS(nosigbus_event, cookie, 0, 8);
FIELD_IS(nosigbus_event, offset, 8, 8);
FIELD_IS(nosigbus_event, kind, 16, 4);
FIELD_IS(nosigbus_event, flags, 20, 4);
FIELD_IS(nosigbus_event, reserved, 24, 8);

VALUE_IS(NOSIGBUS_VERSION, 1);
VALUE_IS(NOSIGBUS_FEATURE_PRIVATE, 0x01ULL);
VALUE_IS(NOSIGBUS_FEATURE_SHARED_READ, 0x02ULL);
VALUE_IS(NOSIGBUS_FEATURE_SHARED_WRITE, 0x04ULL);
VALUE_IS(NOSIGBUS_FEATURE_DISABLE, 0x08ULL);
VALUE_IS(NOSIGBUS_FEATURE_STATUS, 0x10ULL);
VALUE_IS(NOSIGBUS_FEATURE_EVENTS, 0x20ULL);
VALUE_IS(NOSIGBUS_RECORD_ERRORS, 0x1U);
VALUE_IS(NOSIGBUS_EVENTFD, 0x2U);
VALUE_IS(NOSIGBUS_EVENTS, 0x4U);
VALUE_IS(NOSIGBUS_EVENT_ZERO_PAGE, 1);
VALUE_IS(NOSIGBUS_EVENT_PRIVATE_PAGE, 2);
VALUE_IS(NOSIGBUS_EVENT_SHADOW_PAGE, 3);
VALUE_IS(NOSIGBUS_EVENT_OVERFLOW, 4);
VALUE_IS(NOSIGBUS_EVENT_ERROR, 0x1U);
VALUE_IS(NOSIGBUS_CLEAR_ERROR, 0x1U);
VALUE_IS(NOSIGBUS_ERROR_DEDUCED, 0x1U);

_Static_assert(NOSIGBUS_QUERY == 0x8040bb00, "NOSIGBUS_QUERY");
_Static_assert(NOSIGBUS_ENABLE == 0x4030bb01, "NOSIGBUS_ENABLE");
_Static_assert(NOSIGBUS_DISABLE == 0x4020bb02, "NOSIGBUS_DISABLE");
_Static_assert(NOSIGBUS_STATUS == 0xc080bb03, "NOSIGBUS_STATUS");

/*
 * Two mappings of a file with a page of content, four pages each: one is plain, one
 * is opted in. There are holes around each.
 */
#define PAGES		4
#define AREA_PAGES	(4 * PAGES)

FIXTURE(abi) {
	MAPPED_FILE;
	char *plain, *opted;
};

FIXTURE_VARIANT(abi) {
	enum class class;
};

FIXTURE_VARIANT_ADD(abi, private) { PRIVATE };
FIXTURE_VARIANT_ADD(abi, shared_read) { SHARED_READ };
FIXTURE_VARIANT_ADD(abi, shared_write) { SHARED_WRITE };

FIXTURE_SETUP(abi)
{
	char *area;

	set_up_file(_metadata, &self->file, MEMFD, page_size(), PAGES);
	area = mmap(NULL, AREA_PAGES * self->page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(area, MAP_FAILED);
	ASSERT_EQ(munmap(area, AREA_PAGES * self->page), 0);
	self->plain = area + self->len;
	self->opted = area + 2 * self->len + 2 * self->page;
	for (int i = 0; i < 2; i++) {
		char *addr = i ? self->opted : self->plain;

		ASSERT_EQ(mmap(addr, self->len, class_prot(variant->class),
			       class_flags(variant->class) | MAP_FIXED_NOREPLACE, self->fd, 0),
			  addr);
	}
	ASSERT_EQ(enable(self->device, self->opted, self->len), 0);
}

FIXTURE_TEARDOWN(abi)
{
	munmap(self->plain, self->len);
	munmap(self->opted, self->len);
	tear_down(&self->file);
}

#define IS_WRITABLE()	(variant->class != SHARED_READ)

static bool is_plain(const char *addr)
{
	size_t page = page_size();

	return read_byte(addr) == CONTENT && read_byte(addr + page) == -SIGBUS &&
		read_byte(addr + (PAGES - 1) * page) == -SIGBUS;
}

static bool is_opted_in(const char *addr)
{
	size_t page = page_size();

	return read_byte(addr) == CONTENT && read_byte(addr + page) >= 0 &&
		read_byte(addr + (PAGES - 1) * page) >= 0;
}

/* Both mappings are as they were when the test began. */
#define EXPECT_AS_BEFORE() do {			\
	EXPECT_TRUE(is_plain(self->plain));	\
	EXPECT_TRUE(is_opted_in(self->opted));	\
} while (0)

/* The mapping that the command can change: ENABLE the plain one, the others the opted-in one. */
static char *target(enum command cmd, char *plain, char *opted)
{
	return cmd == ENABLE ? plain : opted;
}

#define TARGET(cmd)	target(cmd, self->plain, self->opted)

/* The command has succeeded. Checks what it has done, and undoes it. */
#define EXPECT_DONE(cmd) do {						\
	if ((cmd) == ENABLE) {						\
		EXPECT_TRUE(is_opted_in(self->plain));			\
		EXPECT_EQ(disable(self->device, self->plain, self->len), 0);\
	} else if ((cmd) == DISABLE) {					\
		EXPECT_TRUE(is_plain(self->opted));			\
		EXPECT_EQ(enable(self->device, self->opted, self->len), 0);\
	}								\
	EXPECT_AS_BEFORE();						\
} while (0)

/* The errors that a command may return for a range. The VMA at addr has holes on both sides. */
static unsigned int errors_of_range(const char *addr, u64 from, u64 len)
{
	u64 start = (unsigned long)addr, page = page_size(), end = start + PAGES * page;
	u64 to = from + len;
	unsigned int errors = 0;

	if (!len || from % page || len % page || to < from)
		return ERRNO(EINVAL);
	if (from < start || to > end)
		errors |= ERRNO(ENOMEM);
	if ((from > start && from < end) || (to > start && to < end))
		errors |= ERRNO(EINVAL);
	/* The range reaches past the holes, where any mapping may be. */
	if (to > end + page || from + page < start)
		errors |= ERRNO(EOPNOTSUPP) | ERRNO(EBUSY) | ERRNO(ENOENT) | ERRNO(EINVAL);
	return errors;
}

TEST_F(abi, ranges_at_their_edges)
{
	u64 page = self->page, len = self->len;
	u64 lens[ARRAY_SIZE(edges) + 8], froms[ARRAY_SIZE(edges) + 8];

	for (enum command cmd = ENABLE; cmd <= DISABLE; cmd++) {
		u64 at = (unsigned long)TARGET(cmd);
		const u64 at_target[] = {
			at - page, at - 1, at, at + 1, at + page - 1, at + page, at + len - page,
			at + len,
		};
		const u64 about_len[] = {
			len - page, len - 1, len + 1, len + page, len + page - 1, -at, -at - page,
			-page - at,
		};

		memcpy(froms, edges, sizeof(edges));
		memcpy(froms + ARRAY_SIZE(edges), at_target, sizeof(at_target));
		memcpy(lens, edges, sizeof(edges));
		memcpy(lens + ARRAY_SIZE(edges), about_len, sizeof(about_len));
		for (size_t i = 0; i < ARRAY_SIZE(froms); i++)
			for (size_t j = 0; j < ARRAY_SIZE(lens); j++) {
				int result = call_range(self->device, cmd, froms[i], lens[j]);

				EXPECT_TRUE(one_of(result, errors_of_range(TARGET(cmd),
									   froms[i], lens[j])))
					TH_LOG("%s %#llx, %#llx: %s", commands[cmd].name,
					       froms[i], lens[j], strerror(-result));
			}
		EXPECT_AS_BEFORE();
		EXPECT_EQ(call_range(self->device, cmd, at, len), 0);
		EXPECT_DONE(cmd);
	}
}

/* Every wrong length is refused, and the mappings do not change. */
TEST_F(abi, lengths_that_are_refused_change_nothing)
{
	for (enum command cmd = ENABLE; cmd <= DISABLE; cmd++)
		for (u64 len = 0; len <= self->len + self->page; len += self->page / 2) {
			u64 at = (unsigned long)TARGET(cmd);

			if (len == self->len)
				continue;
			EXPECT_EQ(call_range(self->device, cmd, at, len),
				  len > self->len && len % self->page == 0 ? -ENOMEM : -EINVAL);
			EXPECT_AS_BEFORE();
		}
}

TEST_F(abi, status_at_edges)
{
	struct nosigbus_status s;

	for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
		EXPECT_EQ(call_range(self->device, STATUS, edges[i], 0), -ENOMEM)
			TH_LOG("%#llx", edges[i]);
	}
	/* Any byte of it, and none beside it. */
	for (u64 i = 0; i < self->len; i += self->page / 4) {
		EXPECT_EQ(status_of(self->device, self->opted + i, 0, &s), 0);
		EXPECT_EQ(s.addr, (unsigned long)self->opted + i);
		EXPECT_EQ(status_of(self->device, self->plain + i, 0, &s), -ENOENT);
	}
	EXPECT_EQ(status_of(self->device, self->opted + self->len - 1, 0, &s), 0);
	EXPECT_EQ(status_of(self->device, self->opted - 1, 0, &s), -ENOMEM);
	EXPECT_EQ(status_of(self->device, self->opted + self->len, 0, &s), -ENOMEM);
	/* Anonymous, a program's code, its stack. */
	EXPECT_EQ(status_of(self->device, edges, 0, &s), -ENOENT);
	EXPECT_EQ(status_of(self->device, status_of, 0, &s), -ENOENT);
	EXPECT_EQ(status_of(self->device, &s, 0, &s), -ENOENT);
	EXPECT_AS_BEFORE();
}

/* Every byte of every reserved field. */
TEST_F(abi, reserved_bytes)
{
	static const unsigned char values[] = { 0x01, 0x80, 0xff };

	for (enum command cmd = ENABLE; cmd < COMMANDS; cmd++)
		for (size_t i = commands[cmd].reserved; i < commands[cmd].reserved_end; i++)
			for (size_t j = 0; j < ARRAY_SIZE(values); j++) {
				union request request = request_of(cmd,
					(unsigned long)TARGET(cmd), self->len);

				request.bytes[i] = values[j];
				EXPECT_EQ(call(self->device, cmd, &request), -EINVAL)
					TH_LOG("%s, byte %zu", commands[cmd].name, i);
			}
	EXPECT_AS_BEFORE();
}

/* The caller need not initialize output fields. The module writes nothing beyond the structure. */
TEST_F(abi, what_is_written)
{
	struct {
		unsigned char before[8];
		union request request;
		unsigned char after[8];
	} got;
	struct nosigbus_status *s = &got.request.status;

	memset(&got, 0xff, sizeof(got));
	ASSERT_EQ(call(self->device, QUERY, &got.request), 0);
	EXPECT_EQ(differs(got.before, 0xff, sizeof(got.before)), 0);
	EXPECT_EQ(differs(got.request.bytes + sizeof(struct nosigbus_query), 0xff,
			  sizeof(got.request) - sizeof(struct nosigbus_query)), 0);
	EXPECT_EQ(got.request.query.version, NOSIGBUS_VERSION);
	EXPECT_EQ(got.request.query.reserved, 0);
	EXPECT_EQ(differs(got.request.query.reserved2, 0, sizeof(got.request.query.reserved2)), 0);

	memset(&got, 0xff, sizeof(got));
	s->addr = (unsigned long)self->opted + 5;
	s->request = NOSIGBUS_CLEAR_ERROR;
	memset(s->reserved, 0, sizeof(s->reserved));
	ASSERT_EQ(call(self->device, STATUS, s), 0);
	EXPECT_EQ(differs(got.before, 0xff, sizeof(got.before)), 0);
	EXPECT_EQ(differs(got.after, 0xff, sizeof(got.after)), 0);
	EXPECT_EQ(s->addr, (unsigned long)self->opted + 5);
	EXPECT_EQ(s->request, NOSIGBUS_CLEAR_ERROR);
	EXPECT_EQ(differs(&s->flags, 0, sizeof(*s) - offsetof(struct nosigbus_status, flags)), 0);

	/* Requests that are only read. */
	for (enum command cmd = ENABLE; cmd <= DISABLE; cmd++) {
		memset(&got, 0xff, sizeof(got));
		got.request = request_of(cmd, (unsigned long)TARGET(cmd), self->len);
		memset(got.request.bytes + commands[cmd].size, 0xff,
		       sizeof(got.request) - commands[cmd].size);
		EXPECT_EQ(call(self->device, cmd, &got.request), 0);
		EXPECT_EQ(differs(got.before, 0xff, sizeof(got.before)), 0);
		EXPECT_EQ(differs(got.request.bytes + commands[cmd].size, 0xff,
				  sizeof(got.request) - commands[cmd].size), 0);
		EXPECT_DONE(cmd);
	}
}

/* A STATUS that is refused returns an error and writes no output field. */
TEST_F(abi, status_refused_writes_nothing)
{
	const u64 addrs[] = { (unsigned long)self->plain, 0, ULLONG_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
		union request request;

		memset(&request, 0xff, sizeof(request));
		request.status.addr = addrs[i];
		request.status.request = 0;
		memset(request.status.reserved, 0, sizeof(request.status.reserved));
		EXPECT_EQ(call(self->device, STATUS, &request), i ? -ENOMEM : -ENOENT);
		EXPECT_EQ(differs(&request.status.flags, 0xff,
				  offsetof(struct nosigbus_status, reserved) -
				  offsetof(struct nosigbus_status, flags)), 0);
	}
}

/* Of all ioctl numbers, directions and sizes only four are commands. */
TEST_F(abi, enotty_all_other_numbers)
{
	union request request = request_of(ENABLE, (unsigned long)self->plain, self->len);
	const size_t sizes[] = { 0, 1, 8, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 16383 };

	for (unsigned int dir = 0; dir < 4; dir++)
		for (unsigned int nr = 0; nr < 256; nr++)
			for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
				unsigned int number = _IOC(dir, NOSIGBUS_IOC_MAGIC, nr, sizes[i]);

				if (number == NOSIGBUS_QUERY || number == NOSIGBUS_ENABLE ||
				    number == NOSIGBUS_DISABLE || number == NOSIGBUS_STATUS)
					continue;
				ASSERT_EQ(ioctl(self->device, number, &request), -1)
					TH_LOG("%#x", number);
				ASSERT_EQ(errno, ENOTTY) TH_LOG("%#x", number);
			}
	for (unsigned int magic = 0; magic < 256; magic++) {
		if (magic == NOSIGBUS_IOC_MAGIC)
			continue;
		ASSERT_EQ(ioctl(self->device, _IOW(magic, 0x01, struct nosigbus_enable), &request),
			  -1);
		ASSERT_EQ(errno, ENOTTY) TH_LOG("%#x", magic);
	}
	/* Whatever the argument is. */
	EXPECT_EQ(ioctl(self->device, _IO(NOSIGBUS_IOC_MAGIC, 4), NULL), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_AS_BEFORE();
}

/* Pointers to no memory at all. */
TEST_F(abi, efault_wild_pointers)
{
	for (enum command cmd = QUERY; cmd < COMMANDS; cmd++) {
		u64 size = commands[cmd].size;
		const u64 ends[] = {
			0x7ffffffff000 - size, 0x7ffffffff000 - size + 1, 0x7ffffffff000 - 1,
			0x800000000000 - size, 0x800000000000 - size + 1,
			0xfffffffffff000 - size, 0xfffffffffff000 - size + 1,
			0x100000000 - size, 0x100000000 - size + 1,
			-size, -size + 1,
		};

		for (size_t i = 0; i < ARRAY_SIZE(edges) + ARRAY_SIZE(ends); i++) {
			u64 pointer = i < ARRAY_SIZE(edges) ? edges[i] : ends[i - ARRAY_SIZE(edges)];

			/* A 32-bit program has no such pointers. */
			if (pointer > ULONG_MAX)
				continue;
			EXPECT_EQ(call(self->device, cmd, (void *)(unsigned long)pointer),
				  -EFAULT)
				TH_LOG("%s %#llx", commands[cmd].name, pointer);
		}
	}
	EXPECT_AS_BEFORE();
}

/* Memory for requests: a page that can be written to, and then another kind of page. */
enum behind { UNMAPPED, NO_ACCESS, READ_ONLY, PAST_EOF, BEHINDS };

static const char * const behind_names[] = { "unmapped", "PROT_NONE", "read-only", "past EOF" };

static char *two_pages(enum behind behind, int fd)
{
	size_t page = page_size();
	char *area = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	char *second = area + page;

	if (area == MAP_FAILED)
		return NULL;
	switch (behind) {
	case UNMAPPED:
		return munmap(second, page) ? NULL : area;
	case NO_ACCESS:
		return mprotect(second, page, PROT_NONE) ? NULL : area;
	case READ_ONLY:
		return mprotect(second, page, PROT_READ) ? NULL : area;
	default:
		/* One page of the file's, behind its EOF. */
		return mmap(second, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			    page) == second ? area : NULL;
	}
}

/*
 * Only the first n bytes of a request are in good memory, for every n from 0 to its size. The ioctl
 * succeeds in two cases only: n is the size, or the command only reads the request and the rest is
 * in read-only memory.
 */
TEST_F_TIMEOUT(abi, efault_across_the_end_of_memory, 300)
{
	for (enum behind behind = UNMAPPED; behind < BEHINDS; behind++) {
		char *area = two_pages(behind, self->fd);

		ASSERT_NE(area, NULL);
		for (enum command cmd = QUERY; cmd < COMMANDS; cmd++) {
			size_t size = commands[cmd].size;
			union request request = request_of(cmd,
				(unsigned long)TARGET(cmd), self->len);

			for (size_t n = 0; n <= size; n++) {
				char *at = area + self->page - n;
				bool good = n == size || (behind == READ_ONLY &&
							  !commands[cmd].writes);

				memcpy(at, &request, n);
				/* The rest of the request. A page past EOF shows zeros anyway. */
				if (behind == READ_ONLY) {
					char *second = area + self->page;

					ASSERT_EQ(mprotect(second, self->page,
							   PROT_READ | PROT_WRITE), 0);
					memcpy(second, request.bytes + n, size - n);
					ASSERT_EQ(mprotect(second, self->page, PROT_READ), 0);
				}
				EXPECT_EQ(call(self->device, cmd, at), good ? 0 : -EFAULT)
					TH_LOG("%s, %zu bytes, then %s", commands[cmd].name, n,
					       behind_names[behind]);
				if (good)
					EXPECT_DONE(cmd);
				else
					EXPECT_AS_BEFORE();
			}
		}
		munmap(area, 2 * self->page);
	}
}

TEST_F(abi, requests_need_no_alignment)
{
	char bytes[sizeof(union request) + 16];

	for (enum command cmd = QUERY; cmd < COMMANDS; cmd++)
		for (int i = 0; i < 16; i++) {
			union request request = request_of(cmd,
				(unsigned long)TARGET(cmd), self->len);

			memcpy(bytes + i, &request, sizeof(request));
			EXPECT_EQ(call(self->device, cmd, bytes + i), 0);
			memcpy(&request, bytes + i, sizeof(request));
			if (cmd == QUERY)
				EXPECT_EQ(request.query.version, NOSIGBUS_VERSION);
			EXPECT_DONE(cmd);
		}
}

/*
 * The request is inside the mapping that it is about: first inside EOF, then past EOF. No other
 * check of this test reads that page past EOF, because a private copy stays.
 */
TEST_F(abi, requests_inside_their_mapping)
{
	union request request;
	char *at;

	for (enum command cmd = QUERY; cmd < COMMANDS; cmd++) {
		char *addr = TARGET(cmd);
		size_t size = commands[cmd].size;

		request = request_of(cmd, (unsigned long)addr, self->len);
		for (int past = 0; past < 2; past++) {
			/* A mapping that is not opted in has no pages past EOF. */
			bool missing = past && addr == self->plain;
			int result, expected = missing ? -EFAULT : 0;

			at = addr + 2 * past * self->page + 64;
			if (!missing && IS_WRITABLE()) {
				for (size_t i = 0; i < size; i++)
					ASSERT_EQ(write_byte(at + i, request.bytes[i]), 0);
			} else if (!past) {
				ASSERT_EQ(pwrite(self->fd, &request, size, 64), (ssize_t)size);
			}
			if (!IS_WRITABLE()) {
				/* Nothing can be written to it; zeros are an empty range, or address 0. */
				if (commands[cmd].writes)
					expected = cmd == STATUS && past ? -ENOMEM : -EFAULT;
				else if (past && !missing)
					expected = -EINVAL;
			}
			result = call(self->device, cmd, at);
			EXPECT_EQ(result, expected)
				TH_LOG("%s, %s EOF", commands[cmd].name,
				       past ? "past" : "inside");
			if (!result && cmd == STATUS)
				EXPECT_EQ(((struct nosigbus_status *)at)->flags, 0);
			if (!result && cmd == QUERY)
				EXPECT_EQ(((struct nosigbus_query *)at)->version, NOSIGBUS_VERSION);
			if (result)
				EXPECT_AS_BEFORE();
			else
				EXPECT_DONE(cmd);
		}
	}
}

/* The kernel's write of the answer is the first access to a page past EOF. */
TEST_F(abi, answers_into_stand_ins)
{
	char *past = self->opted + self->page;
	struct nosigbus_query query;

	EXPECT_EQ(call(self->device, QUERY, past), IS_WRITABLE() ? 0 : -EFAULT);
	if (IS_WRITABLE()) {
		memcpy(&query, past, sizeof(query));
		EXPECT_EQ(query.version, NOSIGBUS_VERSION);
	}
	EXPECT_EQ(differs(past + sizeof(query), 0, self->page - sizeof(query)), 0);
	/* Zeros: STATUS of address 0. */
	EXPECT_EQ(call(self->device, STATUS, past + self->page), -ENOMEM);
	EXPECT_EQ(call(self->device, QUERY, self->plain + self->page), -EFAULT);
	EXPECT_AS_BEFORE();
}

static u64 signals_of(int eventfd)
{
	u64 value;

	return read(eventfd, &value, sizeof(value)) == sizeof(value) ? value : 0;
}

/* A STATUS that fails with EFAULT has no effect: it does not arm the eventfd again. */
TEST_F(abi, status_efault_does_not_rearm_the_eventfd)
{
	int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct nosigbus_status s = { .addr = (unsigned long)self->plain };
	char *area = two_pages(READ_ONLY, -1), *at;

	ASSERT_GE(efd, 0);
	ASSERT_NE(area, NULL);
	ASSERT_EQ(enable_with(self->device, self->plain, self->len, NOSIGBUS_EVENTFD, efd), 0);
	EXPECT_EQ(signals_of(efd), 0);
	/* From the last on, so that none is mapped ahead. */
	EXPECT_EQ(read_byte(self->plain + 3 * self->page), 0);
	EXPECT_EQ(signals_of(efd), 1);

	/* First only the last byte of the structure is read-only, then all of it. */
	at = area + self->page - sizeof(s) + 1;
	memcpy(at, &s, sizeof(s) - 1);
	EXPECT_EQ(call(self->device, STATUS, at), -EFAULT);
	ASSERT_EQ(mprotect(area, self->page, PROT_READ | PROT_WRITE), 0);
	memcpy(area, &s, sizeof(s));
	ASSERT_EQ(mprotect(area, self->page, PROT_READ), 0);
	EXPECT_EQ(call(self->device, STATUS, area), -EFAULT);
	EXPECT_EQ(read_byte(self->plain + 2 * self->page), 0);
	EXPECT_EQ(signals_of(efd), 0);

	EXPECT_EQ(call(self->device, STATUS, &s), 0);
	EXPECT_EQ(read_byte(self->plain + self->page), 0);
	EXPECT_EQ(signals_of(efd), 1);
	munmap(area, 2 * self->page);
	close(efd);
}

/* Such a STATUS does not clear the error, either (here ENOSPC of a full file system). */
TEST_F(abi, status_efault_does_not_forget_the_error)
{
	struct nosigbus_status s;
	char *addr, *area = two_pages(READ_ONLY, -1);
	int fds[2];

	ASSERT_NE(area, NULL);
	for (int i = 0; i < 2; i++) {
		fds[i] = new_file(SMALL_TMPFS);
		ASSERT_GE(fds[i], 0) TH_LOG("new file: %s", strerror(errno));
	}
	while (!fill(fds[0], 1, lseek(fds[0], 0, SEEK_END), self->page))
		;
	ASSERT_EQ(ftruncate(fds[1], self->len), 0);
	addr = map_file(SHARED_WRITE, fds[1], self->len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable_with(self->device, addr, self->len, NOSIGBUS_RECORD_ERRORS, 0), 0);
	EXPECT_EQ(write_byte(addr + self->page, 1), 0);

	s = (struct nosigbus_status){
		.addr = (unsigned long)addr, .request = NOSIGBUS_CLEAR_ERROR,
	};
	for (size_t n = 0; n < sizeof(s); n++) {
		char *at = area + self->page - n;

		memcpy(at, &s, n);
		ASSERT_EQ(mprotect(area + self->page, self->page, PROT_READ | PROT_WRITE), 0);
		memcpy(area + self->page, (char *)&s + n, sizeof(s) - n);
		ASSERT_EQ(mprotect(area + self->page, self->page, PROT_READ), 0);
		EXPECT_EQ(call(self->device, STATUS, at), -EFAULT);
	}
	ASSERT_EQ(call(self->device, STATUS, &s), 0);
	EXPECT_EQ(s.error, ENOSPC);
	EXPECT_EQ(s.error_offset, self->page);
	EXPECT_EQ(s.errors, 1);
	/* The successful STATUS has cleared it. */
	ASSERT_EQ(status_of(self->device, addr, 0, &s), 0);
	EXPECT_EQ(s.error, 0);
	munmap(addr, self->len);
	munmap(area, 2 * self->page);
	close(fds[0]);
	close(fds[1]);
}

/* The mode in which the device was opened makes no difference. */
TEST_F(abi, open_modes)
{
	const int modes[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_NONBLOCK, O_RDWR | O_APPEND, O_PATH,
	};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		int fd = open("/dev/nosigbus", modes[i] | O_CLOEXEC);

		ASSERT_GE(fd, 0);
		for (enum command cmd = QUERY; cmd < COMMANDS; cmd++) {
			int result = call_range(fd, cmd, (unsigned long)TARGET(cmd),
						self->len);

			EXPECT_EQ(result, modes[i] == O_PATH ? -EBADF : 0)
				TH_LOG("%s, %#x", commands[cmd].name, modes[i]);
			if (result)
				EXPECT_AS_BEFORE();
			else
				EXPECT_DONE(cmd);
		}
		close(fd);
		EXPECT_EQ(call_range(fd, QUERY, 0, 0), -EBADF);
	}
}

/* A mapping stays opted in after the device is closed. Any other open of the device can be used. */
TEST_F(abi, device_closed_while_opted_in)
{
	struct nosigbus_status s;
	int other;

	ASSERT_EQ(enable(self->device, self->plain, self->len), 0);
	close(self->device);
	EXPECT_TRUE(is_opted_in(self->plain));
	EXPECT_TRUE(is_opted_in(self->opted));
	if (IS_WRITABLE())
		EXPECT_EQ(write_byte(self->opted + self->page, 1), 0);
	EXPECT_EQ(read_byte(self->opted + 2 * self->page), 0);

	other = open_device();
	ASSERT_GE(other, 0);
	EXPECT_EQ(status_of(other, self->opted, 0, &s), 0);
	EXPECT_EQ(enable(other, self->opted, self->len), -EBUSY);
	EXPECT_EQ(disable(other, self->plain, self->len), 0);
	EXPECT_AS_BEFORE();
	self->device = other;
}

/* The two processes tell each other that it is the other's turn. */
static bool wait_for_turn(int socket)
{
	char byte;

	return read(socket, &byte, 1) == 1;
}

static bool send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	return sendmsg(socket, &message, 0) == 1;
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;
	int fd;

	if (recvmsg(socket, &message, 0) != 1)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(header), sizeof(int));
	return fd;
}

/*
 * The process that receives the device. It has plain mappings at both addresses, and opts in the
 * one that is plain in the sender. Its exit status says what went wrong.
 */
static int use_sent_device(int socket, char *plain, char *opted, size_t len)
{
	struct nosigbus_status s;
	int device = receive_fd(socket);

	if (device < 0)
		return 1;
	/* In this process neither mapping is opted in, unlike in the sender. */
	if (!is_plain(plain) || !is_plain(opted))
		return 2;
	if (status_of(device, opted, 0, &s) != -ENOENT || disable(device, opted, len) != -ENOENT)
		return 3;
	if (enable(device, plain, len) || !is_opted_in(plain) || !is_plain(opted))
		return 4;
	if (status_of(device, plain, 0, &s))
		return 5;
	/* The sender looks at its own, then closes the device. */
	if (write(socket, "", 1) != 1 || !wait_for_turn(socket))
		return 6;
	if (!is_opted_in(plain) || disable(device, plain, len) || !is_plain(plain))
		return 7;
	return 0;
}

TEST_F(abi, device_sent_to_another_process)
{
	int sockets[2], status;
	pid_t pid;

	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(self->device);
		/* New mappings, in both places. */
		for (int i = 0; i < 2; i++)
			if (mmap(i ? self->opted : self->plain, self->len,
				 class_prot(variant->class),
				 class_flags(variant->class) | MAP_FIXED, self->fd, 0) ==
			    MAP_FAILED)
				_exit(100);
		_exit(use_sent_device(sockets[1], self->plain, self->opted, self->len));
	}
	close(sockets[1]);
	ASSERT_TRUE(send_fd(sockets[0], self->device));
	EXPECT_TRUE(wait_for_turn(sockets[0]));
	EXPECT_AS_BEFORE();
	close(self->device);
	EXPECT_EQ(write(sockets[0], "", 1), 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0);
	EXPECT_AS_BEFORE();
	self->device = open_device();
	ASSERT_GE(self->device, 0);
}

struct inherited {
	int device;
	char *plain, *opted;
	size_t len;
};

/* A child with the device of its parent: the mappings are copies, and its own. */
static int use_inherited_device(void *arg)
{
	const struct inherited *in = arg;
	struct nosigbus_status s;

	if (!is_plain(in->plain) || !is_opted_in(in->opted))
		return 1;
	if (status_of(in->device, in->opted, 0, &s) ||
	    status_of(in->device, in->plain, 0, &s) != -ENOENT)
		return 2;
	if (enable(in->device, in->plain, in->len) || !is_opted_in(in->plain))
		return 3;
	if (disable(in->device, in->opted, in->len) || !is_plain(in->opted))
		return 4;
	return 0;
}

TEST_F(abi, device_inherited_by_fork)
{
	struct inherited in = { self->device, self->plain, self->opted, self->len };

	EXPECT_EQ(in_child(use_inherited_device, &in), 0);
	EXPECT_AS_BEFORE();
}

/* This program once more: "abi --after-exec DEVICE FILE ADDRESS". */
static int exec_self(void *arg)
{
	char **args = arg;

	execv("/proc/self/exe", args);
	return 100;
}

/* After execve(2) the old mappings are gone. The inherited device works for new ones. */
static int after_exec(char **args)
{
	int device = atoi(args[0]), fd = atoi(args[1]);
	void *old = (void *)strtoul(args[2], NULL, 16);
	size_t len = PAGES * page_size();
	struct nosigbus_status s;
	char *addr;

	catch_signals();
	/* Something of its own may be there; in 32-bit programs it often is. */
	if (!one_of(status_of(device, old, 0, &s), ERRNO(ENOMEM) | ERRNO(ENOENT)))
		return 1;
	addr = map_file(SHARED_READ, fd, len);
	if (addr == MAP_FAILED || !is_plain(addr) || status_of(device, addr, 0, &s) != -ENOENT)
		return 2;
	if (enable(device, addr, len) || !is_opted_in(addr) || status_of(device, addr, 0, &s))
		return 3;
	return 0;
}

TEST_F(abi, device_kept_over_exec)
{
	char numbers[3][20];
	char *args[6] = { "abi", "--after-exec", numbers[0], numbers[1], numbers[2], NULL };

	snprintf(numbers[0], sizeof(numbers[0]), "%d", dup(self->device));
	snprintf(numbers[1], sizeof(numbers[1]), "%d", dup(self->fd));
	snprintf(numbers[2], sizeof(numbers[2]), "%lx", (unsigned long)self->opted);
	EXPECT_EQ(in_child(exec_self, args), 0);
	EXPECT_AS_BEFORE();
}

/*
 * Some threads call the commands on a range, while others change what is mapped there. The range
 * has SPOTS places of PAGES pages each, and anonymous memory after them.
 */
#define SPOTS		4
#define BEHIND_SPOTS	3
#define CALLERS		3
#define CHANGERS	2
#define ROUNDS		1500

struct storm {
	int device, fd;
	size_t page;
	char *area;
	enum class class;
	atomic_int started, wrong[COMMANDS], last_wrong[COMMANDS], done[COMMANDS];
	/* What else has gone wrong. */
	atomic_int failures;
};

struct stormer {
	struct storm *storm;
	unsigned int seed;
};

/* A number below n. */
static unsigned int any(struct stormer *s, unsigned int n)
{
	return rand_r(&s->seed) % n;
}

/* The errors that a command may return for a valid request while its range changes. */
static const unsigned int storm_errors[COMMANDS] = {
	[ENABLE] = ERRNO(EINVAL) | ERRNO(ENOMEM) | ERRNO(EOPNOTSUPP) | ERRNO(EBUSY),
	[DISABLE] = ERRNO(EINVAL) | ERRNO(ENOMEM) | ERRNO(ENOENT),
	[STATUS] = ERRNO(ENOMEM) | ERRNO(ENOENT),
};

/* All threads start at once. By then no library function maps anything any more. */
static void start_together(struct storm *storm)
{
	atomic_fetch_add(&storm->started, 1);
	while (atomic_load(&storm->started) < CALLERS + CHANGERS)
		sched_yield();
}

static void *call_in_storm(void *arg)
{
	struct stormer *s = arg;
	struct storm *storm = s->storm;

	start_together(storm);
	for (int round = 0; round < ROUNDS; round++) {
		enum command cmd = any(s, COMMANDS);
		u64 from = any(s, SPOTS) * PAGES, pages = PAGES;
		int result;

		if (any(s, 4) == 0) {
			from += any(s, PAGES);
			pages = 1 + any(s, 2 * PAGES);
		}
		result = call_range(storm->device, cmd,
				    (unsigned long)storm->area + from * storm->page,
				    pages * storm->page);
		if (!result) {
			storm->done[cmd]++;
		} else if (!one_of(result, storm_errors[cmd])) {
			storm->wrong[cmd]++;
			storm->last_wrong[cmd] = -result;
		}
		/* The page may be anything now, or nothing. */
		read_byte(storm->area + from * storm->page);
	}
	return NULL;
}

static void *change_in_storm(void *arg)
{
	struct stormer *s = arg;
	struct storm *storm = s->storm;
	size_t page = storm->page, spot = PAGES * page;

	start_together(storm);
	for (int round = 0; round < ROUNDS; round++) {
		char *at = storm->area + any(s, SPOTS) * spot;
		char *other = storm->area + any(s, SPOTS) * spot;
		size_t part = any(s, PAGES) * page;
		enum class class = any(s, 2) ? storm->class : any(s, 3);

		switch (any(s, 8)) {
		case 0:
		case 1:
		case 2:
			if (mmap(at, spot, class_prot(class), class_flags(class) | MAP_FIXED,
				 storm->fd, 0) != at)
				storm->failures++;
			break;
		case 3:
			if (mmap(at, spot, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				 -1, 0) != at)
				storm->failures++;
			break;
		case 4:
			if (munmap(at + part, page))
				storm->failures++;
			break;
		case 5:
			/* Fails where there is a hole, or more than one VMA. */
			if (at != other)
				mremap(at, spot, spot, MREMAP_MAYMOVE | MREMAP_FIXED, other);
			break;
		case 6:
			mprotect(at + part, page, any(s, 2) ? PROT_READ : PROT_READ | PROT_WRITE);
			break;
		case 7:
			if (ftruncate(storm->fd, any(s, PAGES + 1) * page))
				storm->failures++;
			break;
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(abi, called_while_the_range_changes, 600)
{
	struct storm storm = {
		.device = self->device, .fd = self->fd, .page = self->page,
		.class = variant->class,
	};
	struct stormer stormers[CALLERS + CHANGERS];
	pthread_t threads[CALLERS + CHANGERS];

	storm.area = mmap(NULL, (SPOTS + BEHIND_SPOTS) * self->len, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(storm.area, MAP_FAILED);
	for (int i = 0; i < CALLERS + CHANGERS; i++) {
		stormers[i] = (struct stormer){ &storm, i + 1 };
		ASSERT_EQ(pthread_create(&threads[i], NULL,
					 i < CALLERS ? call_in_storm : change_in_storm,
					 &stormers[i]), 0);
	}
	for (int i = 0; i < CALLERS + CHANGERS; i++)
		ASSERT_EQ(pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < COMMANDS; i++) {
		EXPECT_EQ(storm.wrong[i], 0)
			TH_LOG("%s: last %s", commands[i].name, strerror(storm.last_wrong[i]));
		TH_LOG("%s: %d succeeded", commands[i].name, storm.done[i]);
		EXPECT_GE(storm.done[i], 10);
	}
	EXPECT_EQ(storm.failures, 0);
	/* All is as ever. */
	munmap(storm.area, (SPOTS + BEHIND_SPOTS) * self->len);
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	ASSERT_EQ(fill(self->fd, CONTENT, 0, self->page), 0);
	EXPECT_AS_BEFORE();
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "--after-exec"))
		return after_exec(argv + 2);
	return test_harness_run(argc, argv);
}
