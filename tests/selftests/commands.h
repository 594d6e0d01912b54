/* SPDX-License-Identifier: GPL-2.0-only */
/* The commands as a table, for tests that do the same with each of them. */
#ifndef _NOSIGBUS_COMMANDS_H
#define _NOSIGBUS_COMMANDS_H

#include "nosigbus_test.h"

typedef unsigned long long u64;

enum command { QUERY, ENABLE, DISABLE, STATUS, COMMANDS };

/* Each command's ioctl number, the size of its structure, and the range of its reserved bytes. */
static const struct {
	const char *name;
	unsigned int number;
	size_t size, reserved, reserved_end;
	bool writes;
} commands[COMMANDS] = {
	[QUERY] = { "QUERY", NOSIGBUS_QUERY, 64, 64, 64, true },
	[ENABLE] = { "ENABLE", NOSIGBUS_ENABLE, 48, 32, 48, false },
	[DISABLE] = { "DISABLE", NOSIGBUS_DISABLE, 32, 16, 32, false },
	[STATUS] = { "STATUS", NOSIGBUS_STATUS, 128, 80, 128, true },
};

/* Large enough for any of them. */
union request {
	struct nosigbus_query query;
	struct nosigbus_enable enable;
	struct nosigbus_disable disable;
	struct nosigbus_status status;
	unsigned char bytes[128];
};

static inline union request request_of(enum command cmd, u64 addr, u64 len)
{
	union request request = {};

	if (cmd == ENABLE) {
		request.enable.addr = addr;
		request.enable.len = len;
	} else if (cmd == DISABLE) {
		request.disable.addr = addr;
		request.disable.len = len;
	} else if (cmd == STATUS) {
		request.status.addr = addr;
	}
	return request;
}

/* 0, or minus errno. */
static inline int call(int device, enum command cmd, const void *request)
{
	return ioctl(device, commands[cmd].number, request) ? -errno : 0;
}

/* The same for a range. addr and len need not be possible values of a mapping. */
static inline int call_range(int device, enum command cmd, u64 addr, u64 len)
{
	union request request = request_of(cmd, addr, len);

	return call(device, cmd, &request);
}

/* An errno as a bit of a set. All errnos that the commands are documented to return have one. */
#define ERRNO(error) ((error) == EOPNOTSUPP ? 1U : (error) < 32 ? 1U << (error) % 32 : 0)

/*
 * errors: the errors that are possible for this call. Whether result is one of them, or, if there
 * are none, 0.
 */
static inline bool one_of(int result, unsigned int errors)
{
	return result ? errors & ERRNO(-result) : !errors;
}

/* The errors that the header documents for each command. */
static const unsigned int documented[COMMANDS] = {
	[QUERY] = ERRNO(EFAULT),
	[ENABLE] = ERRNO(EINVAL) | ERRNO(EBADF) | ERRNO(ENOMEM) | ERRNO(EFAULT) |
		ERRNO(EOPNOTSUPP) | ERRNO(EBUSY) | ERRNO(EINTR),
	[DISABLE] = ERRNO(EINVAL) | ERRNO(ENOMEM) | ERRNO(EFAULT) | ERRNO(ENOENT) | ERRNO(EINTR),
	[STATUS] = ERRNO(EINVAL) | ERRNO(EFAULT) | ERRNO(ENOMEM) | ERRNO(ENOENT),
};

/* Edge cases: addresses at which a process has nothing mapped. They are used as lengths, too. */
static const u64 edges[] = {
	0, 1, 4095, 4096, 4097,
	/* 2 and 4 GiB, where signs and 32-bit programs end. */
	0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff, 0x100000000, 0x100001000,
	/* The end of user space, with page tables of four and of five levels. */
	0x7fffffffe000, 0x7fffffffefff, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000,
	0xffffffffffe000, 0xfffffffffff000, 0x100000000000000,
	/* No address at all. */
	0x7ffffffffffff000, 0x8000000000000000, 0x8000000000001000, 0xff00000000000000,
	/* The kernel's: its memory, its text, the vsyscall page. */
	0xff11000000000000, 0xffff800000000000, 0xffff888000000000, 0xffffffff81000000,
	0xffffffffff600000,
	/* -page - 1, -page, -page + 1, -1 */
	0xffffffffffffefff, 0xfffffffffffff000, 0xfffffffffffff001, ULLONG_MAX,
};

#endif /* _NOSIGBUS_COMMANDS_H */
