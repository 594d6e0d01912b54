// SPDX-License-Identifier: GPL-2.0-only
/*
 * NOSIGBUS_EVENTFD: the module signals an eventfd at the first stand-in, and at the first one after
 * each NOSIGBUS_STATUS.
 */

#include "mapped_file.h"
#include "status.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* One page of content, then pages past EOF. */
#define FILE_PAGES	1
#define PAGES		10

/* The highest value of an eventfd's counter that write(2) can reach, and that the kernel can. */
#define COUNTER_MAX	0xfffffffffffffffeULL
#define COUNTER_FULL	0xffffffffffffffffULL

FIXTURE(event) {
	MAPPED_FILE;
	int event;
};

FIXTURE_VARIANT(event) {
	enum backing backing;
	enum class class;
};

FIXTURE_VARIANT_ADD(event, memfd_private) { MEMFD, PRIVATE };
FIXTURE_VARIANT_ADD(event, memfd_shared_read) { MEMFD, SHARED_READ };
FIXTURE_VARIANT_ADD(event, memfd_shared_write) { MEMFD, SHARED_WRITE };
FIXTURE_VARIANT_ADD(event, tmpfs_shared_write) { TMPFS, SHARED_WRITE };
FIXTURE_VARIANT_ADD(event, ext4_private) { EXT4, PRIVATE };
FIXTURE_VARIANT_ADD(event, ext4_shared_read) { EXT4, SHARED_READ };
FIXTURE_VARIANT_ADD(event, ext4_shared_write) { EXT4, SHARED_WRITE };

#define IS_WRITABLE()	(variant->class != SHARED_READ)

/* A new mapping that is not opted in; a new eventfd that never blocks. */
FIXTURE_SETUP(event)
{
	set_up_file(_metadata, &self->file, variant->backing, FILE_PAGES * page_size(), PAGES);
	set_up_mapping(_metadata, &self->file, variant->class);
	self->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_GE(self->event, 0);
}

FIXTURE_TEARDOWN(event)
{
	close(self->event);
	tear_down(&self->file);
}

#define ENABLE(addr, len) \
	ASSERT_EQ(enable_with(self->device, addr, len, NOSIGBUS_EVENTFD, self->event), 0)

/* Reads the counter of an eventfd, which resets it; 0 if the read would block. */
static uint64_t counter(int event)
{
	uint64_t value;

	if (read(event, &value, sizeof(value)) == sizeof(value))
		return value;
	return errno == EAGAIN ? 0 : UINT64_MAX / 2;
}

static short events_of(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

/* NOSIGBUS_STATUS at addr: 0, or minus errno. */
static int ask(int device, const char *addr)
{
	struct nosigbus_status status;

	return status_of(device, addr, 0, &status);
}

/* Tests go from the last page to the first: then no page is mapped ahead of its access. */
#define READ_PAGE(i)	ASSERT_EQ(read_byte(self->addr + (i) * self->page), 0)
#define WRITE_PAGE(i)	ASSERT_EQ(write_byte(self->addr + (i) * self->page, 1), 0)

TEST_F(event, first_stand_in)
{
	ENABLE(self->addr, self->len);
	EXPECT_EQ(counter(self->event), 0);
	EXPECT_EQ(read_byte(self->addr), CONTENT);
	EXPECT_EQ(counter(self->event), 0);
	/* The first stand-in signals the event. The next ones do not. */
	READ_PAGE(9);
	EXPECT_EQ(counter(self->event), 1);
	READ_PAGE(9);
	READ_PAGE(8);
	EXPECT_EQ(counter(self->event), 0);
	if (IS_WRITABLE()) {
		WRITE_PAGE(9);
		WRITE_PAGE(7);
		EXPECT_EQ(counter(self->event), 0);
	}

	/* STATUS itself signals nothing, nor does an access to a mapped stand-in. */
	ASSERT_EQ(ask(self->device, self->addr), 0);
	READ_PAGE(8);
	EXPECT_EQ(counter(self->event), 0);
	READ_PAGE(6);
	EXPECT_EQ(counter(self->event), 1);
	ASSERT_EQ(ask(self->device, self->addr), 0);
	ASSERT_EQ(ask(self->device, self->addr), 0);
	if (IS_WRITABLE()) {
		WRITE_PAGE(5);
		EXPECT_EQ(counter(self->event), 1);
		WRITE_PAGE(4);
		EXPECT_EQ(counter(self->event), 0);
		ASSERT_EQ(ask(self->device, self->addr), 0);
	}

	/* A stand-in that is mapped once more signals the event, too. */
	ASSERT_EQ(madvise(self->addr, self->len, MADV_DONTNEED), 0);
	EXPECT_EQ(read_byte(self->addr + 9 * self->page), variant->class == SHARED_WRITE);
	EXPECT_EQ(counter(self->event), 1);

	/* Signals add up until the eventfd is read. */
	for (int i = 3; i >= FILE_PAGES; i--) {
		ASSERT_EQ(ask(self->device, self->addr), 0);
		READ_PAGE(i);
	}
	EXPECT_EQ(counter(self->event), 4 - FILE_PAGES);
}

TEST_F(event, first_is_a_write)
{
	if (!IS_WRITABLE()) {
		/* No stand-in is mapped for a write that is not allowed. */
		ENABLE(self->addr, self->len);
		EXPECT_EQ(write_byte(self->addr + self->page, 1), -SIGSEGV);
		EXPECT_EQ(counter(self->event), 0);
		return;
	}
	ENABLE(self->addr, self->len);
	WRITE_PAGE(1);
	EXPECT_EQ(counter(self->event), 1);
	WRITE_PAGE(2);
	EXPECT_EQ(counter(self->event), 0);
}

TEST_F(event, of_a_system_call)
{
	int fds[2];

	ASSERT_EQ(pipe2(fds, O_NONBLOCK), 0);
	ENABLE(self->addr, self->len);
	ASSERT_EQ(write(fds[1], self->addr, FILE_PAGES * self->page), FILE_PAGES * self->page);
	EXPECT_EQ(counter(self->event), 0);
	ASSERT_EQ(write(fds[1], self->addr, self->len), (ssize_t)self->len);
	EXPECT_EQ(counter(self->event), 1);
	close(fds[0]);
	close(fds[1]);
}

TEST_F(event, poll_and_epoll)
{
	struct epoll_event level = { .events = EPOLLIN }, edge = { .events = EPOLLIN | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC), epoll_edge = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event got;

	ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, self->event, &level), 0);
	ASSERT_EQ(epoll_ctl(epoll_edge, EPOLL_CTL_ADD, self->event, &edge), 0);
	ENABLE(self->addr, self->len);
	EXPECT_EQ(events_of(self->event), 0);
	EXPECT_EQ(epoll_wait(epoll, &got, 1, 0), 0);
	EXPECT_EQ(epoll_wait(epoll_edge, &got, 1, 0), 0);
	READ_PAGE(9);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(events_of(self->event), POLLIN);
		EXPECT_EQ(epoll_wait(epoll, &got, 1, 0), 1);
		EXPECT_EQ(got.events, (unsigned int)EPOLLIN);
		EXPECT_EQ(epoll_wait(epoll_edge, &got, 1, 0), !i);
	}
	READ_PAGE(8);
	EXPECT_EQ(epoll_wait(epoll_edge, &got, 1, 0), 0);
	ASSERT_EQ(ask(self->device, self->addr), 0);
	READ_PAGE(7);
	EXPECT_EQ(epoll_wait(epoll_edge, &got, 1, 0), 1);
	EXPECT_EQ(counter(self->event), 2);
	EXPECT_EQ(events_of(self->event), 0);
	EXPECT_EQ(epoll_wait(epoll, &got, 1, 0), 0);
	close(epoll);
	close(epoll_edge);
}

/* One thread, which waits for what another one does. */
struct waiter {
	int event;
	atomic_int waits;
	uint64_t value;
};

static void *wait_in_read(void *arg)
{
	struct waiter *w = arg;

	atomic_store(&w->waits, 1);
	if (read(w->event, &w->value, sizeof(w->value)) != sizeof(w->value))
		w->value = 0;
	return NULL;
}

static void *wait_in_poll(void *arg)
{
	struct waiter *w = arg;
	struct pollfd p = { .fd = w->event, .events = POLLIN };

	atomic_store(&w->waits, 1);
	w->value = poll(&p, 1, -1) == 1 && p.revents == POLLIN;
	return NULL;
}

TEST_F(event, wakes_who_waits)
{
	void *(*const ways[])(void *) = { wait_in_read, wait_in_poll };

	ASSERT_EQ(fcntl(self->event, F_SETFL, 0), 0);
	ENABLE(self->addr, self->len);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct waiter w = { .event = self->event };
		pthread_t thread;

		ASSERT_EQ(pthread_create(&thread, NULL, ways[i], &w), 0);
		while (!atomic_load(&w.waits))
			usleep(1000);
		/* The thread is likely to wait now. If not, it finds the event without waiting. */
		usleep(10000);
		READ_PAGE(9 - i);
		ASSERT_EQ(pthread_join(thread, NULL), 0);
		EXPECT_EQ(w.value, 1);
		ASSERT_EQ(ask(self->device, self->addr), 0);
	}
}

/* Several mappings have one eventfd; each signals once. */
TEST_F(event, of_several_mappings)
{
	char *addrs[3] = { self->addr };

	for (int i = 0; i < 3; i++) {
		if (i)
			addrs[i] = map_file(variant->class, self->fd, self->len);
		ASSERT_NE(addrs[i], MAP_FAILED);
		ENABLE(addrs[i], self->len);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			for (int p = FILE_PAGES; p < PAGES; p++)
				EXPECT_EQ(read_byte(addrs[i] + p * self->page), 0);
		EXPECT_EQ(counter(self->event), round ? 1 : 3);
		/* One of them may signal again. */
		ASSERT_EQ(ask(self->device, addrs[1]), 0);
		for (int i = 0; i < 3; i++)
			ASSERT_EQ(madvise(addrs[i], self->len, MADV_DONTNEED), 0);
	}
	/* The end of other mappings does not affect this one. */
	ASSERT_EQ(munmap(addrs[2], self->len), 0);
	ASSERT_EQ(disable(self->device, addrs[0], self->len), 0);
	EXPECT_EQ(counter(self->event), 0);
	EXPECT_EQ(read_byte(addrs[1] + self->page), 0);
	EXPECT_EQ(counter(self->event), 1);
	munmap(addrs[1], self->len);
}

TEST_F(event, of_several_vmas_at_once)
{
	int prot = class_prot(variant->class), flags = class_flags(variant->class) | MAP_FIXED;
	char *area = mmap(NULL, 3 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(area, MAP_FAILED);
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(mmap(area + i * self->len, self->len, prot, flags, self->fd, 0),
			  area + i * self->len);
	ENABLE(area, 3 * self->len);
	for (int i = 0; i < 3; i++) {
		char *p = area + i * self->len + 3 * self->page;

		EXPECT_EQ(read_byte(p), 0);
		EXPECT_EQ(counter(self->event), 1);
		EXPECT_EQ(read_byte(p - self->page), 0);
		EXPECT_EQ(counter(self->event), 0);
	}
	ASSERT_EQ(ask(self->device, area + self->len), 0);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(read_byte(area + i * self->len + self->page), 0);
	EXPECT_EQ(counter(self->event), 1);
	munmap(area, 3 * self->len);
}

/* VMAs that were split, moved or copied from one mapping share its event. */
TEST_F(event, of_parts)
{
	char *to = mmap(NULL, self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(to, MAP_FAILED);
	ENABLE(self->addr, self->len);
	ASSERT_EQ(munmap(self->addr + 3 * self->page, self->page), 0);
	ASSERT_EQ(mremap(self->addr + 4 * self->page, 2 * self->page, 2 * self->page,
			 MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	EXPECT_EQ(read_byte(to + self->page), 0);
	EXPECT_EQ(counter(self->event), 1);
	READ_PAGE(7);
	READ_PAGE(2);
	EXPECT_EQ(counter(self->event), 0);
	ASSERT_EQ(ask(self->device, to), 0);
	READ_PAGE(1);
	EXPECT_EQ(counter(self->event), 1);
	EXPECT_EQ(read_byte(to), 0);
	EXPECT_EQ(counter(self->event), 0);
	munmap(to, self->len);
}

struct child_arg {
	int device;
	char *addr;
	int page;
	bool asks;
};

static int touches(void *arg)
{
	const struct child_arg *a = arg;

	if (a->asks && ask(a->device, a->addr))
		return 1;
	return read_byte(a->addr + a->page * page_size()) ? 2 : 0;
}

TEST_F(event, of_children)
{
	struct child_arg arg = { .device = self->device, .addr = self->addr, .page = 9 };

	ENABLE(self->addr, self->len);
	EXPECT_EQ(in_child(touches, &arg), 0);
	EXPECT_EQ(counter(self->event), 1);
	READ_PAGE(8);
	arg.page = 7;
	EXPECT_EQ(in_child(touches, &arg), 0);
	EXPECT_EQ(counter(self->event), 0);
	ASSERT_EQ(ask(self->device, self->addr), 0);
	arg.page = 6;
	EXPECT_EQ(in_child(touches, &arg), 0);
	EXPECT_EQ(counter(self->event), 1);
	/* A STATUS by the child arms the same mapping. */
	arg.page = 0;
	arg.asks = true;
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	EXPECT_EQ(in_child(touches, &arg), 0);
	EXPECT_EQ(counter(self->event), 1);
	READ_PAGE(5);
	EXPECT_EQ(counter(self->event), 0);
}

TEST_F(event, semaphore)
{
	char *addrs[3];

	close(self->event);
	self->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	ASSERT_GE(self->event, 0);
	for (int i = 0; i < 3; i++) {
		addrs[i] = map_file(variant->class, self->fd, self->len);
		ASSERT_NE(addrs[i], MAP_FAILED);
		ENABLE(addrs[i], self->len);
		EXPECT_EQ(read_byte(addrs[i] + self->page), 0);
	}
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(counter(self->event), 1);
	EXPECT_EQ(counter(self->event), 0);
	for (int i = 0; i < 3; i++)
		munmap(addrs[i], self->len);
}

/* The owner closes the eventfd: at once; after a signal; while a dup() of it exists. */
TEST_F(event, closed_early)
{
	for (int round = 0; round < 3; round++) {
		struct nosigbus_status status;
		int copy = -1;

		ENABLE(self->addr, self->len);
		if (round)
			READ_PAGE(PAGES - 1);
		if (round == 2)
			copy = dup(self->event);
		ASSERT_EQ(close(self->event), 0);
		for (int i = PAGES - 1; i >= FILE_PAGES; i--) {
			READ_PAGE(i);
			ASSERT_EQ(status_of(self->device, self->addr, 0, &status), 0);
			EXPECT_EQ(stand_ins(&status), (unsigned int)(PAGES - i));
			EXPECT_EQ(status.flags, NOSIGBUS_EVENTFD);
		}
		if (copy >= 0) {
			EXPECT_EQ(counter(copy), PAGES - FILE_PAGES);
			close(copy);
		}
		if (round < 2)
			ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
		self->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ASSERT_GE(self->event, 0);
	}
	/* A new eventfd with the same descriptor number gets no signal. */
	EXPECT_EQ(counter(self->event), 0);
}

/* The counter is full: write(2) to the eventfd would block, but a fault does not. */
TEST_F(event, counter_is_full)
{
	uint64_t value = COUNTER_MAX;

	ASSERT_EQ(fcntl(self->event, F_SETFL, 0), 0);
	ASSERT_EQ(write(self->event, &value, sizeof(value)), sizeof(value));
	ENABLE(self->addr, self->len);
	for (int i = PAGES - 1; i >= FILE_PAGES; i--) {
		READ_PAGE(i);
		ASSERT_EQ(ask(self->device, self->addr), 0);
	}
	EXPECT_EQ(counter(self->event), COUNTER_FULL);
	/* After the read the eventfd counts again. */
	ASSERT_EQ(madvise(self->addr, self->len, MADV_DONTNEED), 0);
	READ_PAGE(1);
	EXPECT_EQ(counter(self->event), 1);
}

TEST_F(event, opting_out)
{
	for (int i = 0; i < 2; i++) {
		/* A new opt-in is armed without a STATUS. */
		ENABLE(self->addr, self->len);
		READ_PAGE(1);
		EXPECT_EQ(counter(self->event), 1);
		ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
		EXPECT_EQ(read_byte(self->addr + self->page), -SIGBUS);
		EXPECT_EQ(counter(self->event), 0);
	}
	/* Without the flag there is none. */
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	READ_PAGE(1);
	EXPECT_EQ(counter(self->event), 0);
}

TEST_F(event, what_is_no_eventfd)
{
	const struct {
		unsigned int flags;
		int fd, expected;
	} cases[] = {
		{ NOSIGBUS_EVENTFD, -1, -EBADF },
		{ NOSIGBUS_EVENTFD, INT_MIN, -EBADF },
		{ NOSIGBUS_EVENTFD, INT_MAX, -EBADF },
		/* Closed below. */
		{ NOSIGBUS_EVENTFD, self->event, -EBADF },
		{ NOSIGBUS_EVENTFD, self->fd, -EINVAL },
		{ NOSIGBUS_EVENTFD, self->device, -EINVAL },
		{ 0, self->event, -EINVAL },
		{ 0, -1, -EINVAL },
		{ 0, 1, -EINVAL },
		{ NOSIGBUS_RECORD_ERRORS, self->event, -EINVAL },
	};
	int copy = dup(self->event), fds[2];

	ASSERT_GE(copy, 0);
	ASSERT_EQ(close(self->event), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		EXPECT_EQ(enable_with(self->device, self->addr, self->len, cases[i].flags,
				      cases[i].fd), cases[i].expected) TH_LOG("case %zu", i);
		EXPECT_EQ(read_byte(self->addr + self->page), -SIGBUS);
	}
	ASSERT_EQ(pipe(fds), 0);
	EXPECT_EQ(enable_with(self->device, self->addr, self->len, NOSIGBUS_EVENTFD, fds[0]),
		  -EINVAL);
	close(fds[0]);
	close(fds[1]);

	/* A valid eventfd in an ENABLE that fails: neither the eventfd nor the mapping changes. */
	EXPECT_EQ(enable_with(self->device, self->addr, self->len / 2, NOSIGBUS_EVENTFD, copy),
		  -EINVAL);
	EXPECT_EQ(read_byte(self->addr + self->page), -SIGBUS);
	EXPECT_EQ(enable_with(self->device, self->addr, self->len, NOSIGBUS_EVENTFD, copy), 0);
	EXPECT_EQ(enable_with(self->device, self->addr, self->len, NOSIGBUS_EVENTFD, copy),
		  -EBUSY);
	READ_PAGE(1);
	EXPECT_EQ(counter(copy), 1);
	close(copy);
}

/*
 * One thread waits for the event and calls STATUS, in a loop, while others map stand-ins. When they
 * pause, no stand-in is missed: either the last STATUS has counted it, or there is an event.
 */
#define THREADS		3
#define EACH_PAGES	16
/* A gap of one page between threads: none of them continues the sequential reads of another. */
#define EACH_APART	(EACH_PAGES + 1)
#define ROUNDS		100
#define BURSTS		1000

struct toucher {
	pthread_t thread;
	char *addr;
	bool writes;
	int bad;
};

static void *touch_own(void *arg)
{
	struct toucher *t = arg;

	for (int round = 0; round < ROUNDS; round++) {
		/* Downwards, so that no page is mapped ahead. */
		for (int i = EACH_PAGES - 1; i >= 0; i--)
			t->bad += !touch(t->addr, i, i + 1, t->writes ? WRITE : READ);
		t->bad += !!madvise(t->addr, EACH_PAGES * page_size(), MADV_DONTNEED);
	}
	return NULL;
}

struct watcher {
	pthread_t thread;
	/* question: "Is an event left?" answer: the stand-ins it knows of when none is left. */
	int device, event, question[2], answer[2];
	char *addr;
	__u64 told;
	long events;
	int bad;
};

static void *watch(void *arg)
{
	struct watcher *w = arg;
	struct pollfd fds[2] = {
		{ .fd = w->event, .events = POLLIN }, { .fd = w->question[0], .events = POLLIN },
	};
	struct nosigbus_status status;
	char byte;

	for (;;) {
		bool asked;

		if (poll(fds, 2, -1) < 1)
			w->bad++;
		asked = fds[1].revents;
		if (asked && read(w->question[0], &byte, 1) != 1)
			return NULL;
		/* Poll again: the first poll() looked at the event before the question. */
		if (asked && poll(fds, 1, 0) < 0)
			w->bad++;
		if (fds[0].revents) {
			if (counter(w->event) != 1 || status_of(w->device, w->addr, 0, &status))
				w->bad++;
			w->told = stand_ins(&status);
			w->events++;
		}
		if (asked && write(w->answer[1], &w->told, sizeof(w->told)) != sizeof(w->told))
			return NULL;
	}
}

/* How many stand-ins the watcher knows of when there is no event left. */
static __u64 told_of(const struct watcher *w)
{
	__u64 told;

	if (write(w->question[1], "", 1) != 1 ||
	    read(w->answer[0], &told, sizeof(told)) != sizeof(told))
		return UINT64_MAX;
	return told;
}

TEST_F_TIMEOUT(event, none_is_left_untold, 300)
{
	const unsigned long pages = THREADS * EACH_APART;
	struct watcher w = { .device = self->device, .event = self->event };
	enum how how = IS_WRITABLE() ? WRITE : READ;
	struct toucher touchers[THREADS];
	unsigned int seed = 1;
	__u64 total = 0;

	w.addr = mmap(NULL, pages * self->page, class_prot(variant->class),
		      class_flags(variant->class), self->fd, FILE_PAGES * self->page);
	ASSERT_NE(w.addr, MAP_FAILED);
	ENABLE(w.addr, pages * self->page);
	ASSERT_EQ(pipe(w.question), 0);
	ASSERT_EQ(pipe(w.answer), 0);
	ASSERT_EQ(pthread_create(&w.thread, NULL, watch, &w), 0);

	/* A few pages each time, because a STATUS would most likely miss the last ones. */
	for (int burst = 0; burst < BURSTS; burst++) {
		int n = 1 + rand_r(&seed) % EACH_PAGES;

		/* The last pages of the mapping: nothing is mapped ahead of them. */
		ASSERT_TRUE(touch(w.addr, pages - n, pages, how));
		total += n;
		ASSERT_EQ(told_of(&w), total);
		ASSERT_EQ(madvise(w.addr + (pages - n) * self->page, n * self->page,
				  MADV_DONTNEED), 0);
	}

	for (int i = 0; i < THREADS; i++) {
		touchers[i] = (struct toucher) {
			.addr = w.addr + i * EACH_APART * self->page, .writes = IS_WRITABLE() && i,
		};
		ASSERT_EQ(pthread_create(&touchers[i].thread, NULL, touch_own, &touchers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		ASSERT_EQ(pthread_join(touchers[i].thread, NULL), 0);
		EXPECT_EQ(touchers[i].bad, 0);
	}
	total += THREADS * EACH_PAGES * ROUNDS;
	EXPECT_EQ(told_of(&w), total);

	close(w.question[1]);
	ASSERT_EQ(pthread_join(w.thread, NULL), 0);
	EXPECT_EQ(w.bad, 0);
	EXPECT_GE(w.events, BURSTS);
	TH_LOG("%llu stand-ins, %ld events", total, w.events);
	munmap(w.addr, pages * self->page);
}

TEST_HARNESS_MAIN
