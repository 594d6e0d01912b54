/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two mappings of two equal files: one is plain, the other is opted in. A test does the same to
 * both. It states what each has to return and to show.
 */
#ifndef _NOSIGBUS_PAIR_H
#define _NOSIGBUS_PAIR_H

#include "side.h"

#include <sys/syscall.h>

FIXTURE(pair) {
	struct side plain, opted;
	int device;
	/* A page that child processes share with the test. They write to it what they have seen. */
	char *board;
	/* The test has changed one file and not the other. */
	bool files_differ;
};

FIXTURE_VARIANT(pair) {
	enum backing backing;
	enum class class;
};

FIXTURE_VARIANT_ADD(pair, memfd_private) {
	.backing = MEMFD, .class = PRIVATE,
};

FIXTURE_VARIANT_ADD(pair, memfd_shared_read) {
	.backing = MEMFD, .class = SHARED_READ,
};

FIXTURE_VARIANT_ADD(pair, memfd_shared_write) {
	.backing = MEMFD, .class = SHARED_WRITE,
};

FIXTURE_VARIANT_ADD(pair, ext4_private) {
	.backing = EXT4, .class = PRIVATE,
};

FIXTURE_VARIANT_ADD(pair, ext4_shared_read) {
	.backing = EXT4, .class = SHARED_READ,
};

FIXTURE_VARIANT_ADD(pair, ext4_shared_write) {
	.backing = EXT4, .class = SHARED_WRITE,
};

#define BY_CLASS(private, shared_read, shared_write)				\
	(variant->class == PRIVATE ? (private) :				\
	 variant->class == SHARED_READ ? (shared_read) : (shared_write))
#define IS_WRITABLE()			BY_CLASS(true, false, true)
#define IF_WRITABLE(yes, no)		BY_CLASS(yes, no, yes)

FIXTURE_SETUP(pair)
{
	need_backing(_metadata, variant->backing);
	need_class(_metadata, variant->class);
	page = page_size();
	catch_signals();
	self->device = open_device();
	ASSERT_GE(self->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	self->board = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->board, MAP_FAILED);
	ASSERT_TRUE(make_side(&self->plain, variant->backing, variant->class))
		TH_LOG("%s", strerror(errno));
	ASSERT_TRUE(make_side(&self->opted, variant->backing, variant->class))
		TH_LOG("%s", strerror(errno));
	ASSERT_EQ(enable(self->device, self->opted.addr, PAGES * page), 0);
}

/* After a test has done the same to both, the two files are equal. */
FIXTURE_TEARDOWN(pair)
{
	char *bytes[2] = { malloc(PAGES * page), malloc(PAGES * page) };
	const struct side *sides[2] = { &self->plain, &self->opted };
	struct stat st[2];

	for (int i = 0; i < 2; i++) {
		ASSERT_NE(bytes[i], NULL);
		memset(bytes[i], 0, PAGES * page);
		ASSERT_GE(pread(sides[i]->fd, bytes[i], PAGES * page, 0), 0);
		ASSERT_EQ(fstat(sides[i]->fd, &st[i]), 0);
	}
	EXPECT_EQ(st[0].st_size, st[1].st_size);
	if (!self->files_differ)
		EXPECT_EQ(memcmp(bytes[0], bytes[1], PAGES * page), 0);
}

/*
 * Evaluates the expression twice, with m as the plain mapping and then as the one that is opted
 * in. Compares both results with what they have to be: numbers (minus errno instead of -1).
 * DIFFER_STR() does the same with strings.
 */
#define DIFFER_IN(what, expression, plain_result, opted_result) do {		\
	struct side *m = &self->plain;						\
	EXPECT_EQ(plain_result, result((long)(expression)))			\
		TH_LOG("plain: %s", what);					\
	m = &self->opted;							\
	EXPECT_EQ(opted_result, result((long)(expression)))			\
		TH_LOG("opted in: %s", what);					\
} while (0)

#define DIFFER(expression, plain_result, opted_result) \
	DIFFER_IN(#expression, expression, plain_result, opted_result)
#define SAME(expression, expected)	DIFFER(expression, expected, expected)

#define DIFFER_STR(expression, plain_result, opted_result) do {			\
	struct side *m = &self->plain;						\
	EXPECT_STREQ(plain_result, expression)					\
		TH_LOG("plain: %s", #expression);				\
	m = &self->opted;							\
	EXPECT_STREQ(opted_result, expression)					\
		TH_LOG("opted in: %s", #expression);				\
} while (0)

/* What the mapping shows; what writing to it does. */
#define SHOWS(plain_picture, opted_picture) \
	DIFFER_STR(shows(m, m->addr, strlen(plain_picture)), plain_picture, opted_picture)
#define PUTS(plain_picture, opted_picture) \
	DIFFER_STR(put(m->addr, strlen(plain_picture)), plain_picture, opted_picture)

/*
 * No page of the mapping is missing or written to. Pages past EOF are SIGBUS in the plain mapping
 * and stand-ins in the other. Then writes to all pages, if the class allows it.
 */
#define EXPECT_INTACT() do {							\
	SHOWS("abc!!!", "abc000");						\
	if (IS_WRITABLE()) {							\
		PUTS("www!!!", "wwwwww");					\
		SHOWS("ABC!!!", "ABCwww");					\
	} else {								\
		PUTS("------", "------");					\
		SHOWS("abc!!!", "abc000");					\
	}									\
} while (0)

/* Forks a child. What it sees in the mapping; child_puts(): what it can write to it. */
static inline const char *child_shows(const struct side *m, char *board, int pages)
{
	pid_t pid = fork();

	if (!pid) {
		snprintf(board, page, "%s", shows(m, m->addr, pages));
		_exit(0);
	}
	return waitpid(pid, NULL, 0) == pid ? board : "no child";
}

static inline const char *child_puts(const struct side *m, char *board, int pages)
{
	pid_t pid = fork();

	if (!pid) {
		snprintf(board, page, "%s", put(m->addr, pages));
		_exit(0);
	}
	return waitpid(pid, NULL, 0) == pid ? board : "no child";
}

#endif /* _NOSIGBUS_PAIR_H */
