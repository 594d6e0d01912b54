// SPDX-License-Identifier: GPL-2.0-only
/*
 * NOSIGBUS_EVENTS: what read(2) and poll(2) of the device return for first stand-ins. eventfd.c
 * tests when there is an event: the module sends both kinds at the same time.
 */

#include "broken_file_systems.h"
#include "mapped_file.h"
#include "status.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sched.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

/* One page of content, then pages past EOF. */
#define FILE_PAGES	1
#define PAGES		10

/* The queue holds at most so many events (rust/device/events.rs). */
#define MOST		(1 << 14)

FIXTURE(events) {
	MAPPED_FILE;
};

FIXTURE_VARIANT(events) {
	enum class class;
	unsigned int read_kind, write_kind;
};

FIXTURE_VARIANT_ADD(events, private) {
	PRIVATE, NOSIGBUS_EVENT_ZERO_PAGE, NOSIGBUS_EVENT_PRIVATE_PAGE
};
FIXTURE_VARIANT_ADD(events, shared_read) { SHARED_READ, NOSIGBUS_EVENT_ZERO_PAGE, 0 };
FIXTURE_VARIANT_ADD(events, shared_write) {
	SHARED_WRITE, NOSIGBUS_EVENT_SHADOW_PAGE, NOSIGBUS_EVENT_SHADOW_PAGE
};

/* A new mapping that is not opted in; a device that never blocks. */
FIXTURE_SETUP(events)
{
	set_up_file(_metadata, &self->file, MEMFD, FILE_PAGES * page_size(), PAGES);
	set_up_mapping(_metadata, &self->file, variant->class);
	ASSERT_EQ(fcntl(self->device, F_SETFL, O_NONBLOCK), 0);
}

FIXTURE_TEARDOWN(events)
{
	tear_down(&self->file);
}

/* NOSIGBUS_ENABLE with a cookie: 0, or minus errno. */
static int enable_as(int device, const char *addr, size_t len, unsigned int flags, __u64 cookie)
{
	struct nosigbus_enable request = {
		.addr = (unsigned long)addr,
		.len = len,
		.flags = flags,
		.cookie = cookie,
	};

	return ioctl(device, NOSIGBUS_ENABLE, &request) ? -errno : 0;
}

#define ENABLE(addr, cookie) \
	ASSERT_EQ(enable_as(self->device, addr, self->len, NOSIGBUS_EVENTS, cookie), 0)

/* NOSIGBUS_STATUS at addr: 0, or minus errno. */
static int ask(int device, const char *addr)
{
	struct nosigbus_status status;

	return status_of(device, addr, 0, &status);
}

static short events_of(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDNORM };

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

/* Reads one event. Returns how many bytes it has read, or minus errno. */
static long read_event(int device, struct nosigbus_event *event)
{
	/* 0xa5 stays in every field that the module forgets to fill in. */
	memset(event, 0xa5, sizeof(*event));
	return result(read(device, event, sizeof(*event)));
}

/* The next event is this. */
#define EXPECT_EVENT(want_cookie, want_kind, want_page) do {			\
	struct nosigbus_event _event;						\
										\
	EXPECT_EQ(events_of(self->device), POLLIN | POLLRDNORM);		\
	EXPECT_EQ(read_event(self->device, &_event), (long)sizeof(_event));	\
	EXPECT_EQ(_event.cookie, want_cookie);					\
	EXPECT_EQ(_event.kind, want_kind);					\
	EXPECT_EQ(_event.offset, (want_page) * (__u64)self->page);		\
	EXPECT_EQ(_event.flags, 0);						\
	EXPECT_EQ(_event.reserved, 0);						\
} while (0)

/* There is none. */
#define EXPECT_NONE() do {							\
	struct nosigbus_event _event;						\
										\
	EXPECT_EQ(events_of(self->device), 0);					\
	EXPECT_EQ(read_event(self->device, &_event), -EAGAIN);			\
} while (0)

/* Tests go from the last page to the first: then no page is mapped ahead of its access. */
#define READ_PAGE(addr, i)	ASSERT_GE(read_byte((addr) + (i) * self->page), 0)

TEST_F(events, first_stand_in)
{
	ENABLE(self->addr, 0xfedcba9876543210);
	READ_PAGE(self->addr, 0);
	EXPECT_NONE();
	READ_PAGE(self->addr, 9);
	READ_PAGE(self->addr, 8);
	EXPECT_EVENT(0xfedcba9876543210, variant->read_kind, 9);
	READ_PAGE(self->addr, 7);
	EXPECT_NONE();

	/* One more event after each STATUS, but no second one while the first is in the queue. */
	ASSERT_EQ(ask(self->device, self->addr), 0);
	EXPECT_NONE();
	READ_PAGE(self->addr, 6);
	ASSERT_EQ(ask(self->device, self->addr), 0);
	READ_PAGE(self->addr, 5);
	EXPECT_EVENT(0xfedcba9876543210, variant->read_kind, 6);
	EXPECT_NONE();
	ASSERT_EQ(ask(self->device, self->addr), 0);
	READ_PAGE(self->addr, 4);
	EXPECT_EVENT(0xfedcba9876543210, variant->read_kind, 4);
	EXPECT_NONE();
}

TEST_F(events, of_a_write)
{
	if (!variant->write_kind)
		SKIP(return, "no stand-in can be written to");
	ENABLE(self->addr, 1);
	ASSERT_EQ(write_byte(self->addr + 9 * self->page, 1), 0);
	EXPECT_EVENT(1, variant->write_kind, 9);
}

/* Events of stand-ins for errors: a page that cannot be read, and a page without space. */
TEST_F(events, of_an_error)
{
	bool writable = variant->class == SHARED_WRITE;
	int fd = new_file(writable ? SMALL_TMPFS : DM_EXT4), filler = -1;
	struct nosigbus_event event;
	char *addr;

	if (geteuid())
		SKIP(return, "it takes root to break things");
	need_backing(_metadata, writable ? SMALL_TMPFS : DM_EXT4);
	ASSERT_GE(fd, 0);
	if (writable) {
		ASSERT_EQ(ftruncate(fd, 3 * self->page), 0);
		filler = new_file(SMALL_TMPFS);
		ASSERT_GE(filler, 0);
		ASSERT_EQ(fill_up(filler), -ENOSPC);
	} else {
		ASSERT_EQ(fill(fd, CONTENT, 0, 3 * self->page), 0);
		ASSERT_TRUE(make_all_cold(fd));
	}
	addr = map_file(variant->class, fd, 3 * self->page);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable_as(self->device, addr, 3 * self->page,
			    NOSIGBUS_EVENTS | NOSIGBUS_RECORD_ERRORS, 11), 0);
	if (!writable)
		ASSERT_EQ(disk_fails(true), 0);
	EXPECT_EQ(writable ? write_byte(addr + self->page, 1) : read_byte(addr + self->page), 0);
	if (!writable)
		ASSERT_EQ(disk_fails(false), 0);
	EXPECT_EQ(read_event(self->device, &event), (long)sizeof(event));
	EXPECT_EQ(event.cookie, 11);
	EXPECT_EQ(event.kind, variant->read_kind);
	EXPECT_EQ(event.offset, (__u64)self->page);
	EXPECT_EQ(event.flags, NOSIGBUS_EVENT_ERROR);
	EXPECT_NONE();
	munmap(addr, 3 * self->page);
	if (writable)
		close(filler);
	close(fd);
}

TEST_F(events, offset_is_that_of_the_file)
{
	char *addr = mmap(NULL, self->len, class_prot(variant->class), class_flags(variant->class),
			  self->fd, (1LL << 40) - 3 * self->page);

	ASSERT_NE(addr, MAP_FAILED);
	ENABLE(addr, 2);
	READ_PAGE(addr, 7);
	EXPECT_EVENT(2, variant->read_kind, (1ULL << 40) / self->page + 4);
	munmap(addr, self->len);
}

/* Events come in order. Each has the cookie of its mapping; two mappings may have the same one. */
TEST_F(events, of_several_mappings)
{
	static const __u64 cookies[] = { 0, ULLONG_MAX, 7, 7 };
	static const int order[] = { 2, 0, 3, 1 };
	char *addrs[ARRAY_SIZE(cookies)];

	for (size_t i = 0; i < ARRAY_SIZE(cookies); i++) {
		addrs[i] = map_file(variant->class, self->fd, self->len);
		ASSERT_NE(addrs[i], MAP_FAILED);
		ENABLE(addrs[i], cookies[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		for (int page = PAGES - 1 - i; page >= FILE_PAGES; page--)
			READ_PAGE(addrs[order[i]], page);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		EXPECT_EVENT(cookies[order[i]], variant->read_kind, PAGES - 1 - i);
	EXPECT_NONE();
	for (size_t i = 0; i < ARRAY_SIZE(cookies); i++)
		munmap(addrs[i], self->len);
}

/* VMAs that are opted in at once have an event each; parts and copies of one have one. */
TEST_F(events, of_several_vmas_and_parts)
{
	int prot = class_prot(variant->class), flags = class_flags(variant->class) | MAP_FIXED;
	char *area = mmap(NULL, 2 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(area, MAP_FAILED);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(mmap(area + i * self->len, self->len, prot, flags, self->fd, 0),
			  area + i * self->len);
	ASSERT_EQ(enable_as(self->device, area, 2 * self->len, NOSIGBUS_EVENTS, 3), 0);
	ASSERT_EQ(munmap(area + 5 * self->page, self->page), 0);
	READ_PAGE(area, 9);
	READ_PAGE(area, 4);
	READ_PAGE(area + self->len, 8);
	EXPECT_EVENT(3, variant->read_kind, 9);
	EXPECT_EVENT(3, variant->read_kind, 8);
	EXPECT_NONE();
	munmap(area, 2 * self->len);
}

static int touches_last_page(void *addr)
{
	return read_byte((char *)addr + (PAGES - 1) * page_size()) < 0;
}

TEST_F(events, of_children)
{
	ENABLE(self->addr, 4);
	EXPECT_EQ(in_child(touches_last_page, self->addr), 0);
	EXPECT_EVENT(4, variant->read_kind, PAGES - 1);
	READ_PAGE(self->addr, 8);
	EXPECT_NONE();
}

/* Each open file of the device gets the events of the mappings that were opted in with it. */
TEST_F(events, of_each_open_file)
{
	int other = open_device(), copy = dup(self->device);
	char *addr = map_file(variant->class, self->fd, self->len);
	struct nosigbus_event event;

	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(fcntl(other, F_SETFL, O_NONBLOCK), 0);
	ENABLE(self->addr, 5);
	ASSERT_EQ(enable_as(other, addr, self->len, NOSIGBUS_EVENTS, 6), 0);
	READ_PAGE(self->addr, 9);
	EXPECT_EQ(events_of(other), 0);
	EXPECT_EQ(read_event(other, &event), -EAGAIN);
	READ_PAGE(addr, 9);
	EXPECT_EQ(read_event(other, &event), (long)sizeof(event));
	EXPECT_EQ(event.cookie, 6);
	EXPECT_EQ(events_of(copy), POLLIN | POLLRDNORM);
	EXPECT_EVENT(5, variant->read_kind, 9);

	/* After the open file is closed, its events are dropped, and nothing else changes. */
	ASSERT_EQ(ask(self->device, addr), 0);
	READ_PAGE(addr, 8);
	close(other);
	for (int i = 7; i >= FILE_PAGES; i--) {
		ASSERT_EQ(ask(self->device, addr), 0);
		READ_PAGE(addr, i);
	}
	EXPECT_NONE();
	close(copy);
	munmap(addr, self->len);
}

/* The event stays in the queue after its mapping is unmapped or opted out. */
TEST_F(events, outlives_the_mapping)
{
	ENABLE(self->addr, 8);
	READ_PAGE(self->addr, 9);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	ENABLE(self->addr, 9);
	READ_PAGE(self->addr, 8);
	ASSERT_EQ(munmap(self->addr, self->len), 0);
	self->addr = MAP_FAILED;
	EXPECT_EVENT(8, variant->read_kind, 9);
	EXPECT_EVENT(9, variant->read_kind, 8);
	EXPECT_NONE();
}

TEST_F(events, with_an_eventfd)
{
	struct nosigbus_enable request = {
		.addr = (unsigned long)self->addr,
		.len = self->len,
		.flags = NOSIGBUS_EVENTS | NOSIGBUS_EVENTFD | NOSIGBUS_RECORD_ERRORS,
		.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.cookie = 10,
	};
	struct nosigbus_status status;
	uint64_t value;

	ASSERT_GE(request.eventfd, 0);
	ASSERT_EQ(ioctl(self->device, NOSIGBUS_ENABLE, &request), 0);
	READ_PAGE(self->addr, 9);
	EXPECT_EVENT(10, variant->read_kind, 9);
	EXPECT_EQ(read(request.eventfd, &value, sizeof(value)), (ssize_t)sizeof(value));
	EXPECT_EQ(value, 1);
	ASSERT_EQ(status_of(self->device, self->addr, 0, &status), 0);
	EXPECT_EQ(status.flags, request.flags);
	close(request.eventfd);
}

TEST_F(events, without_the_flag)
{
	for (int bit = 0; bit < 64; bit++) {
		EXPECT_EQ(enable_as(self->device, self->addr, self->len, 0, 1ULL << bit), -EINVAL);
		EXPECT_EQ(enable_as(self->device, self->addr, self->len, NOSIGBUS_RECORD_ERRORS,
				    1ULL << bit), -EINVAL);
	}
	EXPECT_EQ(read_byte(self->past), -SIGBUS);
	ASSERT_EQ(enable_as(self->device, self->addr, self->len, 0, 0), 0);
	READ_PAGE(self->addr, 9);
	EXPECT_NONE();
}

/* Opts in n mappings with cookies 0 to n - 1, and causes an event of each. */
static void provoke(struct __test_metadata *_metadata, FIXTURE_DATA(events) * self,
		    char **addrs, int n)
{
	for (int i = 0; i < n; i++) {
		addrs[i] = map_file(PRIVATE, self->fd, self->len);
		ASSERT_NE(addrs[i], MAP_FAILED);
		ENABLE(addrs[i], i);
		READ_PAGE(addrs[i], FILE_PAGES + i);
	}
}

/* read(2) returns whole events only, as many as fit, and writes nothing after them. */
TEST_F(events, sizes_of_a_read)
{
	const size_t size = sizeof(struct nosigbus_event);
	struct nosigbus_event events[5];
	char *addrs[7];

	provoke(_metadata, self, addrs, 7);
	for (size_t len = 0; len < size; len++)
		EXPECT_EQ(result(read(self->device, events, len)), -EINVAL);
	memset(events, 0xa5, sizeof(events));
	EXPECT_EQ(read(self->device, events, 2 * size - 1), (ssize_t)size);
	EXPECT_EQ(events[0].cookie, 0);
	EXPECT_EQ(differs(events + 1, 0xa5, 4 * size), 0);
	EXPECT_EQ(read(self->device, events, 3 * size + 5), (ssize_t)(3 * size));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(events[i].cookie, (__u64)i + 1);
		EXPECT_EQ(events[i].offset, (i + 1 + FILE_PAGES) * self->page);
	}
	EXPECT_EQ(differs(events + 3, 0xa5, 2 * size), 0);
	EXPECT_EQ(read(self->device, events, 5 * size), (ssize_t)(3 * size));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(events[i].cookie, (__u64)i + 4);
	EXPECT_NONE();
	for (int i = 0; i < 7; i++)
		munmap(addrs[i], self->len);
}

/* An event that could not be copied to user space is returned by the next read(2). */
TEST_F(events, bad_memory_loses_none)
{
	const size_t size = sizeof(struct nosigbus_event);
	char *addrs[3], *memory = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(memory, MAP_FAILED);
	ASSERT_EQ(mprotect(memory + self->page, self->page, PROT_READ), 0);
	provoke(_metadata, self, addrs, 3);
	EXPECT_EQ(syscall(SYS_read, self->device, NULL, size), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(syscall(SYS_read, self->device, -size, size), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(result(read(self->device, memory + self->page, 2 * size)), -EFAULT);
	EXPECT_EQ(result(read(self->device, memory + self->page - size / 2, size)), -EFAULT);
	/* One fits, the second does not. */
	EXPECT_EQ(result(read(self->device, memory + self->page - size, 2 * size)), (long)size);
	EXPECT_EQ(((struct nosigbus_event *)(memory + self->page - size))->cookie, 0);
	EXPECT_EVENT(1, NOSIGBUS_EVENT_ZERO_PAGE, FILE_PAGES + 1);
	EXPECT_EVENT(2, NOSIGBUS_EVENT_ZERO_PAGE, FILE_PAGES + 2);
	EXPECT_NONE();
	munmap(memory, 2 * self->page);
	for (int i = 0; i < 3; i++)
		munmap(addrs[i], self->len);
}

TEST_F(events, poll_and_epoll)
{
	struct epoll_event level = { .events = EPOLLIN }, edge = { .events = EPOLLIN | EPOLLET };
	int epoll = epoll_create1(EPOLL_CLOEXEC), epoll_edge = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event got;

	ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, self->device, &level), 0);
	ASSERT_EQ(epoll_ctl(epoll_edge, EPOLL_CTL_ADD, self->device, &edge), 0);
	ENABLE(self->addr, 1);
	EXPECT_EQ(epoll_wait(epoll, &got, 1, 0), 0);
	EXPECT_EQ(epoll_wait(epoll_edge, &got, 1, 0), 0);
	READ_PAGE(self->addr, 9);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(epoll_wait(epoll, &got, 1, 0), 1);
		EXPECT_EQ(got.events, (unsigned int)EPOLLIN);
		EXPECT_EQ(epoll_wait(epoll_edge, &got, 1, 0), !i);
	}
	EXPECT_EVENT(1, variant->read_kind, 9);
	EXPECT_EQ(epoll_wait(epoll, &got, 1, 0), 0);
	/* Closed while it is waited for. */
	close(self->device);
	EXPECT_EQ(epoll_wait(epoll, &got, 1, 0), 0);
	close(epoll);
	close(epoll_edge);
	self->device = open_device();
}

/* One thread, which waits for what another one does. */
struct waiter {
	int device;
	atomic_int waits;
	long result;
	struct nosigbus_event event;
};

static void *wait_in_read(void *arg)
{
	struct waiter *w = arg;

	atomic_store(&w->waits, 1);
	w->result = read_event(w->device, &w->event);
	return NULL;
}

static void *wait_in_poll(void *arg)
{
	struct waiter *w = arg;
	struct pollfd p = { .fd = w->device, .events = POLLIN };

	atomic_store(&w->waits, 1);
	w->result = poll(&p, 1, -1) == 1 && p.revents == POLLIN ?
		read_event(w->device, &w->event) : 0;
	return NULL;
}

TEST_F(events, wakes_who_waits)
{
	void *(*const ways[])(void *) = { wait_in_read, wait_in_poll };

	ASSERT_EQ(fcntl(self->device, F_SETFL, 0), 0);
	ENABLE(self->addr, 1);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct waiter w = { .device = self->device };
		pthread_t thread;

		ASSERT_EQ(pthread_create(&thread, NULL, ways[i], &w), 0);
		while (!atomic_load(&w.waits))
			usleep(1000);
		/* Likely to wait by now; if not, it does not have to. */
		usleep(10000);
		READ_PAGE(self->addr, 9 - i);
		ASSERT_EQ(pthread_join(thread, NULL), 0);
		EXPECT_EQ(w.result, (long)sizeof(w.event));
		EXPECT_EQ(w.event.offset, (9 - i) * self->page);
		ASSERT_EQ(ask(self->device, self->addr), 0);
	}
}

static void ignore(int sig)
{
	(void)sig;
}

static int waits_until_signal(void *arg)
{
	struct sigaction sa = { .sa_handler = ignore };
	struct nosigbus_event event;

	sigaction(SIGALRM, &sa, NULL);
	/* Again and again: one alone might come before it waits. */
	ualarm(20000, 20000);
	return read_event(*(int *)arg, &event) == -EINTR ? 0 : 1;
}

TEST_F(events, signals_end_a_read)
{
	ASSERT_EQ(fcntl(self->device, F_SETFL, 0), 0);
	ENABLE(self->addr, 1);
	EXPECT_EQ(in_child(waits_until_signal, &self->device), 0);
	READ_PAGE(self->addr, 9);
	EXPECT_EVENT(1, variant->read_kind, 9);
}

/* The device is a stream, and can only be read. */
TEST_F(events, no_other_file_operations)
{
	struct nosigbus_event event;
	int fd;

	EXPECT_EQ(lseek(self->device, 0, SEEK_SET), -1);
	EXPECT_EQ(errno, ESPIPE);
	EXPECT_EQ(result(pread(self->device, &event, sizeof(event), 0)), -ESPIPE);
	EXPECT_EQ(result(write(self->device, &event, sizeof(event))), -EINVAL);
	fd = open("/dev/nosigbus", O_WRONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(read_event(fd, &event), -EBADF);
	close(fd);
}

/*
 * Mappings come and go and leave their events in the queue until it is full. read(2) then returns
 * MOST events and the number of those that were lost. After that new events are queued again.
 */
TEST_F_TIMEOUT(events, overflow, 300)
{
	const int more = 5;
	struct nosigbus_event event;
	char *stays;

	if (variant->class != SHARED_READ)
		SKIP(return, "the queue is the same for all classes");
	/* Keeps the file watched. Otherwise each first stand-in would wait for a grace period. */
	stays = map_file(variant->class, self->fd, self->len);
	ASSERT_NE(stays, MAP_FAILED);
	ASSERT_EQ(enable(self->device, stays, self->len), 0);
	READ_PAGE(stays, 9);
	for (int i = 0; i < MOST + more; i++) {
		char *addr = map_file(variant->class, self->fd, self->len);

		ASSERT_NE(addr, MAP_FAILED);
		ENABLE(addr, i);
		READ_PAGE(addr, 9);
		ASSERT_EQ(munmap(addr, self->len), 0);
	}
	for (int i = 0; i < MOST; i++) {
		ASSERT_EQ(read_event(self->device, &event), (long)sizeof(event));
		ASSERT_EQ(event.cookie, (__u64)i);
	}
	EXPECT_EQ(events_of(self->device), POLLIN | POLLRDNORM);
	ASSERT_EQ(read_event(self->device, &event), (long)sizeof(event));
	EXPECT_EQ(event.kind, NOSIGBUS_EVENT_OVERFLOW);
	EXPECT_EQ(event.cookie, 0);
	EXPECT_EQ(event.offset, (__u64)more);
	EXPECT_EQ(event.flags, 0);
	EXPECT_NONE();
	ENABLE(self->addr, 1);
	READ_PAGE(self->addr, 9);
	EXPECT_EVENT(1, variant->read_kind, 9);
	ASSERT_EQ(munmap(stays, self->len), 0);
}

/*
 * Several threads read events while others map stand-ins and call STATUS. No event is lost: each
 * stand-in after a STATUS is read exactly once.
 */
#define THREADS		3
#define ROUNDS		300

struct crowd {
	int device;
	char *addrs[THREADS];
	atomic_ulong seen[THREADS];
	atomic_int stop, bad;
};

struct member {
	struct crowd *crowd;
	int index;
};

static void *reads(void *arg)
{
	struct crowd *c = arg;
	struct nosigbus_event events[2];
	struct pollfd p = { .fd = c->device, .events = POLLIN };

	while (!atomic_load(&c->stop)) {
		ssize_t len = read(c->device, events, sizeof(events));

		if (len < 0 && errno == EAGAIN) {
			poll(&p, 1, 10);
			continue;
		}
		if (len <= 0 || len % sizeof(*events))
			atomic_fetch_add(&c->bad, 1);
		for (int i = 0; i < len / (ssize_t)sizeof(*events); i++) {
			if (events[i].cookie < THREADS)
				atomic_fetch_add(&c->seen[events[i].cookie], 1);
			else
				atomic_fetch_add(&c->bad, 1);
		}
	}
	return NULL;
}

/* One stand-in and its event in each round. */
static void *touches(void *arg)
{
	struct member *m = arg;
	struct crowd *c = m->crowd;
	char *addr = c->addrs[m->index];
	size_t page = page_size();

	for (int round = 0; round < ROUNDS; round++) {
		if (ask(c->device, addr) || read_byte(addr + (PAGES - 1) * page) < 0 ||
		    madvise(addr, PAGES * page, MADV_DONTNEED))
			atomic_fetch_add(&c->bad, 1);
		/* Wait until the event is read: while it is queued there is no second one. */
		while (atomic_load(&c->seen[m->index]) <= (unsigned long)round)
			sched_yield();
	}
	return NULL;
}

TEST_F_TIMEOUT(events, of_threads, 300)
{
	struct crowd crowd = { .device = self->device };
	struct member members[THREADS];
	pthread_t readers[2], touchers[THREADS];

	for (int i = 0; i < THREADS; i++) {
		crowd.addrs[i] = map_file(variant->class, self->fd, self->len);
		ASSERT_NE(crowd.addrs[i], MAP_FAILED);
		ENABLE(crowd.addrs[i], i);
	}
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&readers[i], NULL, reads, &crowd), 0);
	for (int i = 0; i < THREADS; i++) {
		members[i] = (struct member){ &crowd, i };
		ASSERT_EQ(pthread_create(&touchers[i], NULL, touches, &members[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		ASSERT_EQ(pthread_join(touchers[i], NULL), 0);
	atomic_store(&crowd.stop, 1);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(pthread_join(readers[i], NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		EXPECT_EQ(atomic_load(&crowd.seen[i]), ROUNDS);
		munmap(crowd.addrs[i], self->len);
	}
	EXPECT_EQ(atomic_load(&crowd.bad), 0);
	EXPECT_NONE();
}

TEST_HARNESS_MAIN
