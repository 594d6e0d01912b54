// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a system call that grows a file returns, the stand-ins inside the new EOF are gone: all
 * opted-in mappings of all processes show the file.
 */

#include "fuse_server.h"
#include "mapped_file.h"
#include "sys_files.h"

#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* How much of the file is mapped. */
#define PAGES		8

/* The tests write MARK to stand-ins, at offset MARK_AT of a page, and CONTENT to files. */
#define MARK		0x4d
#define MARK_AT		8

static size_t page;
/* PAGES pages of CONTENT, page-aligned for O_DIRECT. */
static char *content;

/* What a grower is to do. */
struct growth {
	/* The file, and another one of the same kind that has content. */
	int fd, source;
	size_t from, to;
};

/* The growers: each fails with minus errno. */

/* What a system call has returned, which should be len. */
static long all_of(ssize_t ret, size_t len)
{
	return ret < 0 ? -errno : (size_t)ret == len ? 0 : -EIO;
}

static const char *path_of(int fd)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

static struct iovec content_of(size_t len)
{
	return (struct iovec){ .iov_base = content, .iov_len = len };
}

static long grow_ftruncate(const struct growth *g)
{
	return all_of(ftruncate(g->fd, g->to), 0);
}

static long grow_truncate(const struct growth *g)
{
	return all_of(truncate(path_of(g->fd), g->to), 0);
}

static long grow_write(const struct growth *g)
{
	if (lseek(g->fd, g->from, SEEK_SET) < 0)
		return -errno;
	return all_of(write(g->fd, content, g->to - g->from), g->to - g->from);
}

static long grow_pwrite(const struct growth *g)
{
	return all_of(pwrite(g->fd, content, g->to - g->from, g->from), g->to - g->from);
}

/* Writes only the last byte, and leaves a hole before it. */
static long grow_pwrite_behind(const struct growth *g)
{
	return all_of(pwrite(g->fd, content, 1, g->to - 1), 1);
}

static long grow_writev(const struct growth *g)
{
	struct iovec iov[2] = { content_of(1), content_of(g->to - g->from - 1) };

	if (lseek(g->fd, g->from, SEEK_SET) < 0)
		return -errno;
	return all_of(writev(g->fd, iov, 2), g->to - g->from);
}

static long grow_pwritev2(const struct growth *g)
{
	struct iovec iov = content_of(g->to - g->from);

	return all_of(pwritev2(g->fd, &iov, 1, g->from, RWF_DSYNC), g->to - g->from);
}

static long grow_rwf_append(const struct growth *g)
{
	struct iovec iov = content_of(g->to - g->from);

	return all_of(pwritev2(g->fd, &iov, 1, 0, RWF_APPEND), g->to - g->from);
}

/* Writes while the file has this file status flag. */
static long write_with_flag(const struct growth *g, int flag)
{
	int flags = fcntl(g->fd, F_GETFL);
	long ret;

	if (fcntl(g->fd, F_SETFL, flags | flag) || lseek(g->fd, g->from, SEEK_SET) < 0)
		return -errno;
	ret = all_of(write(g->fd, content, g->to - g->from), g->to - g->from);
	fcntl(g->fd, F_SETFL, flags);
	return ret;
}

static long grow_o_append(const struct growth *g)
{
	return write_with_flag(g, O_APPEND);
}

static long grow_o_direct(const struct growth *g)
{
	return write_with_flag(g, O_DIRECT);
}

static long grow_fallocate(const struct growth *g)
{
	return all_of(fallocate(g->fd, 0, g->from, g->to - g->from), 0);
}

static long grow_posix_fallocate(const struct growth *g)
{
	return -posix_fallocate(g->fd, g->from, g->to - g->from);
}

static long grow_zero_range(const struct growth *g)
{
	return all_of(fallocate(g->fd, FALLOC_FL_ZERO_RANGE, g->from, g->to - g->from), 0);
}

static long grow_insert_range(const struct growth *g)
{
	return all_of(fallocate(g->fd, FALLOC_FL_INSERT_RANGE, 0, g->to - g->from), 0);
}

static long grow_copy_file_range(const struct growth *g)
{
	off_t in = 0, out = g->from;

	return all_of(copy_file_range(g->source, &in, g->fd, &out, g->to - g->from, 0), g->to - g->from);
}

static long grow_sendfile(const struct growth *g)
{
	off_t in = 0;

	if (lseek(g->fd, g->from, SEEK_SET) < 0)
		return -errno;
	return all_of(sendfile(g->fd, g->source, &in, g->to - g->from), g->to - g->from);
}

static long grow_ficlone(const struct growth *g)
{
	long ret;

	(void)g->from;
	if (ftruncate(g->source, g->to))
		return -errno;
	ret = all_of(ioctl(g->fd, FICLONE, g->source), 0);
	return ret ?: fill(g->source, CONTENT, 0, PAGES * page);
}

static long grow_ficlonerange(const struct growth *g)
{
	struct file_clone_range range = {
		.src_fd = g->source, .src_length = g->to - g->from, .dest_offset = g->from,
	};

	return all_of(ioctl(g->fd, FICLONERANGE, &range), 0);
}

/* Splices from a pipe, which is filled by writev(2) or, for pages_themselves, by vmsplice(2). */
static long splice_to(const struct growth *g, bool pages_themselves)
{
	struct iovec iov = content_of(g->to - g->from);
	off_t out = g->from;
	ssize_t in_pipe;
	int fds[2];
	long ret;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	in_pipe = pages_themselves ? vmsplice(fds[1], &iov, 1, 0) : writev(fds[1], &iov, 1);
	ret = all_of(in_pipe, g->to - g->from) ?:
		all_of(splice(fds[0], NULL, g->fd, &out, g->to - g->from, 0), g->to - g->from);
	close(fds[0]);
	close(fds[1]);
	return ret;
}

static long grow_splice(const struct growth *g)
{
	return splice_to(g, false);
}

static long grow_vmsplice(const struct growth *g)
{
	return splice_to(g, true);
}

/*
 * Keeps one more ring open. When the last ring is closed, the workers exit. A new ring may then
 * queue work that no worker ever does: seen in 7.2.12, where io_wq_worker() does not look again
 * after io_wq_set_exit_on_idle().
 */
static void keep_a_ring_open(void)
{
	struct io_uring_params params = {};
	static int ring = -1;

	if (ring < 0)
		ring = syscall(SYS_io_uring_setup, 8, &params);
}

/* Does one io_uring operation in a new ring. Returns its result, or minus errno. */
static long uring(unsigned int setup_flags, const struct io_uring_sqe *sqe)
{
	struct io_uring_params params = { .flags = setup_flags };
	struct io_uring_sqe *sqes;
	size_t size, cq_size;
	char *rings;
	long ret;
	int ring;

	keep_a_ring_open();
	ring = syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0)
		return -errno;
	size = params.sq_off.array + params.sq_entries * sizeof(__u32);
	cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	size = cq_size > size ? cq_size : size;
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (rings == MAP_FAILED || sqes == MAP_FAILED)
		return -errno;
	*sqes = *sqe;
	*(__u32 *)(rings + params.sq_off.array) = 0;
	atomic_store((_Atomic(__u32) *)(rings + params.sq_off.tail), 1);
	ret = syscall(SYS_io_uring_enter, ring, 1, 1,
		      IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, NULL, 0);
	if (ret < 0)
		ret = -errno;
	else if (atomic_load((_Atomic(__u32) *)(rings + params.cq_off.tail)) != 1)
		ret = -ETIME;
	else
		ret = ((struct io_uring_cqe *)(rings + params.cq_off.cqes))->res;
	munmap(sqes, page);
	munmap(rings, size);
	close(ring);
	return ret;
}

static long uring_write(const struct growth *g, unsigned int setup_flags, int sqe_flags)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_WRITE, .flags = sqe_flags, .fd = g->fd, .off = g->from,
		.addr = (unsigned long)content, .len = g->to - g->from,
	};
	long ret = uring(setup_flags, &sqe);

	return ret < 0 ? ret : all_of(ret, g->to - g->from);
}

static long grow_uring_write(const struct growth *g)
{
	return uring_write(g, 0, 0);
}

static long grow_uring_write_by_worker(const struct growth *g)
{
	return uring_write(g, 0, IOSQE_ASYNC);
}

static long grow_uring_write_sqpoll(const struct growth *g)
{
	return uring_write(g, IORING_SETUP_SQPOLL, 0);
}

static long grow_uring_o_direct(const struct growth *g)
{
	int flags = fcntl(g->fd, F_GETFL);
	long ret;

	if (fcntl(g->fd, F_SETFL, flags | O_DIRECT))
		return -errno;
	ret = uring_write(g, 0, 0);
	fcntl(g->fd, F_SETFL, flags);
	return ret;
}

static long grow_uring_fallocate(const struct growth *g)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_FALLOCATE, .fd = g->fd, .off = g->from, .addr = g->to - g->from,
	};

	return uring(0, &sqe);
}

static long grow_uring_ftruncate(const struct growth *g)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_FTRUNCATE, .fd = g->fd, .off = g->to };

	return uring(0, &sqe);
}

static long grow_uring_splice(const struct growth *g)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_SPLICE, .fd = g->fd, .off = g->from, .len = g->to - g->from,
		.splice_off_in = -1,
	};
	int fds[2];
	long ret;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	sqe.splice_fd_in = fds[0];
	ret = all_of(write(fds[1], content, g->to - g->from), g->to - g->from) ?: uring(0, &sqe);
	close(fds[0]);
	close(fds[1]);
	return ret < 0 ? ret : all_of(ret, g->to - g->from);
}

#define ON(backing)	(1U << (backing))
#define EVERYWHERE	(~0U)
#define NOT_ON(backing)	(~ON(backing))

static const struct grower {
	const char *name;
	long (*grow)(const struct growth *g);
	/* The file systems on which it works, and the sizes that it can grow a file to. */
	unsigned int on;
	enum { ANY_SIZE, WHOLE_PAGES, WHOLE_PAGES_NOT_0 } sizes;
} growers[] = {
	{ "ftruncate", grow_ftruncate, EVERYWHERE, ANY_SIZE },
	{ "truncate", grow_truncate, EVERYWHERE, ANY_SIZE },
	{ "write", grow_write, EVERYWHERE, ANY_SIZE },
	{ "pwrite", grow_pwrite, EVERYWHERE, ANY_SIZE },
	{ "pwrite of the last byte", grow_pwrite_behind, EVERYWHERE, ANY_SIZE },
	{ "writev", grow_writev, EVERYWHERE, ANY_SIZE },
	{ "pwritev2, RWF_DSYNC", grow_pwritev2, EVERYWHERE, ANY_SIZE },
	{ "pwritev2, RWF_APPEND", grow_rwf_append, EVERYWHERE, ANY_SIZE },
	{ "write, O_APPEND", grow_o_append, EVERYWHERE, ANY_SIZE },
	{ "write, O_DIRECT", grow_o_direct, NOT_ON(MEMFD), WHOLE_PAGES },
	{ "fallocate", grow_fallocate, EVERYWHERE, ANY_SIZE },
	{ "posix_fallocate", grow_posix_fallocate, EVERYWHERE, ANY_SIZE },
	{ "fallocate, ZERO_RANGE", grow_zero_range, NOT_ON(MEMFD) & NOT_ON(TMPFS), ANY_SIZE },
	{ "fallocate, INSERT_RANGE", grow_insert_range, ON(EXT4) | ON(XFS) | ON(OVERLAY),
	  WHOLE_PAGES_NOT_0 },
	{ "copy_file_range", grow_copy_file_range, EVERYWHERE, ANY_SIZE },
	{ "sendfile", grow_sendfile, EVERYWHERE, ANY_SIZE },
	{ "splice", grow_splice, EVERYWHERE, ANY_SIZE },
	{ "vmsplice and splice", grow_vmsplice, EVERYWHERE, ANY_SIZE },
	{ "FICLONE", grow_ficlone, ON(XFS) | ON(BTRFS), ANY_SIZE },
	{ "FICLONERANGE", grow_ficlonerange, ON(XFS) | ON(BTRFS), WHOLE_PAGES },
	{ "io_uring WRITE", grow_uring_write, EVERYWHERE, ANY_SIZE },
	{ "io_uring WRITE by a worker", grow_uring_write_by_worker, EVERYWHERE, ANY_SIZE },
	{ "io_uring WRITE, SQPOLL", grow_uring_write_sqpoll, EVERYWHERE, ANY_SIZE },
	{ "io_uring WRITE, O_DIRECT", grow_uring_o_direct, NOT_ON(MEMFD), WHOLE_PAGES },
	{ "io_uring FALLOCATE", grow_uring_fallocate, EVERYWHERE, ANY_SIZE },
	{ "io_uring FTRUNCATE", grow_uring_ftruncate, EVERYWHERE, ANY_SIZE },
	{ "io_uring SPLICE", grow_uring_splice, EVERYWHERE, ANY_SIZE },
};

/* From one size to another, each so many pages and bytes. */
static const struct sizes {
	struct { int pages, bytes; } from, to;
	/* true: tried for each way of opening the file; false: only for one of them. */
	bool always;
} growths[] = {
	/* EOF stays in its page; EOF goes from the end of a page to the next byte. */
	{ { 1, 100 }, { 1, 300 }, false },
	{ { 3, 0 }, { 3, 1 }, false },
	/* The file grows by less than a page, by one page, by many. */
	{ { 1, 100 }, { 2, 5 }, false },
	{ { 1, 0 }, { 2, 0 }, false },
	{ { 2, 0 }, { 7, 0 }, true },
	{ { 1, 100 }, { 7, 1 }, true },
	{ { 0, 0 }, { 0, 5 }, false },
	{ { 0, 0 }, { 6, 0 }, false },
};

/* A process that looks at an opted-in mapping. */
struct observer {
	const char *name;
	/* The child process and the pipes to and from it, except for the test itself. */
	pid_t pid;
	int orders, replies;
	/* To compare the mapping with the file. */
	int fd;
	char *addr;
	enum class class;
	struct board *board;
};

/* What the observers share. */
struct board {
	/* Pages that were written to when they were past EOF, and that still show that MARK. */
	bool marked[PAGES];
	/* The file system may have dropped private copies inside EOF, without the module. */
	bool copies_may_go;
	char complaint[160];
};

enum order {
	/* Unmap all pages, including private copies. */
	DROP = 'd',
	/* Check every page. */
	LOOK = 'l',
	/* Write to every other page past EOF, if the mapping is writable. */
	WRITE = 'w',
};

static int file_pages(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : (int)((st.st_size + page - 1) / page);
}

/* 0 if the page is as expected, or 1 plus the offset of the first byte that differs. */
static size_t page_differs(const char *p, const char *expected)
{
	if (sigsetjmp(access_failed, 0))
		return 1;
	if (!memcmp(p, expected, page))
		return 0;
	for (size_t i = 0; i < page; i++)
		if (p[i] != expected[i])
			return i + 1;
	return 0;
}

static bool look(struct observer *o)
{
	int inside = file_pages(o->fd);
	char expected[page];

	for (int i = 0; i < PAGES; i++) {
		char *p = o->addr + i * page;
		bool marked = o->board->marked[i];
		size_t wrong;

		memset(expected, 0, page);
		if (marked)
			expected[MARK_AT] = MARK;
		else if (i < inside && pread(o->fd, expected, page, i * page) < 0)
			return false;
		wrong = page_differs(p, expected);
		/* truncate(2), even to a larger size, may drop private copies past the new EOF. */
		if (wrong && marked && o->class == PRIVATE &&
		    (i >= inside || o->board->copies_may_go)) {
			expected[MARK_AT] = 0;
			if (i < inside && pread(o->fd, expected, page, i * page) < 0)
				return false;
			wrong = page_differs(p, expected);
		}
		if (wrong) {
			snprintf(o->board->complaint, sizeof(o->board->complaint),
				 "%s: page %d, the file having %d: offset %zu is %d, not %d",
				 o->name, i, inside, wrong - 1, read_byte(p + wrong - 1),
				 (unsigned char)expected[wrong - 1]);
			return false;
		}
	}
	return true;
}

static bool may_be_marked(const struct observer *o, int i, int inside)
{
	return i % 2 && i >= inside && o->class != SHARED_READ;
}

static bool obey(struct observer *o, enum order order)
{
	int inside = file_pages(o->fd);

	switch (order) {
	case DROP:
		return !madvise(o->addr, PAGES * page, MADV_DONTNEED);
	case LOOK:
		return look(o);
	case WRITE:
		for (int i = 0; i < PAGES; i++)
			if (may_be_marked(o, i, inside) &&
			    write_byte(o->addr + i * page + MARK_AT, MARK))
				return false;
		return true;
	}
	return false;
}

struct scene {
	MAPPED_FILE;
	int source;
	/* A plain mapping of the file. fsnotify does not report stores to it. */
	char *pen;
	struct board *board;
	/* The test itself, a forked child, and a process that opts in a mapping of its own. */
	struct observer observers[3];
	enum backing backing;
};

FIXTURE(growth) {
	struct scene s;
};

FIXTURE_VARIANT(growth) {
	enum backing backing;
	enum class class;
};

#define VARIANT(name, fs, how)						\
	FIXTURE_VARIANT_ADD(growth, name) { .backing = fs, .class = how, }

VARIANT(memfd_private, MEMFD, PRIVATE);
VARIANT(memfd_shared_read, MEMFD, SHARED_READ);
VARIANT(memfd_shared_write, MEMFD, SHARED_WRITE);
VARIANT(tmpfs_private, TMPFS, PRIVATE);
VARIANT(tmpfs_shared_read, TMPFS, SHARED_READ);
VARIANT(tmpfs_shared_write, TMPFS, SHARED_WRITE);
VARIANT(ext4_private, EXT4, PRIVATE);
VARIANT(ext4_shared_read, EXT4, SHARED_READ);
VARIANT(ext4_shared_write, EXT4, SHARED_WRITE);
VARIANT(xfs_private, XFS, PRIVATE);
VARIANT(xfs_shared_read, XFS, SHARED_READ);
VARIANT(xfs_shared_write, XFS, SHARED_WRITE);
VARIANT(btrfs_private, BTRFS, PRIVATE);
VARIANT(btrfs_shared_read, BTRFS, SHARED_READ);
VARIANT(btrfs_shared_write, BTRFS, SHARED_WRITE);
VARIANT(overlay_private, OVERLAY, PRIVATE);
VARIANT(overlay_shared_read, OVERLAY, SHARED_READ);
VARIANT(overlay_shared_write, OVERLAY, SHARED_WRITE);

/* A mapping of the file that is opted in; MAP_FAILED if that fails. */
static char *opted_in(int device, enum class class, int fd)
{
	char *addr = map_file(class, fd, PAGES * page);

	if (addr != MAP_FAILED && enable(device, addr, PAGES * page))
		return MAP_FAILED;
	return addr;
}

/* The main loop of an observer process. device is -1 if it has inherited its mapping. */
static void observe(struct observer *o, int device, int orders, int replies)
{
	char order, reply = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (device >= 0) {
		o->fd = open(path_of(o->fd), O_RDWR | O_CLOEXEC);
		o->addr = opted_in(device, o->class, o->fd);
		reply = o->fd >= 0 && o->addr != MAP_FAILED;
	}
	/* The first reply says that the observer is ready. */
	while (write(replies, &reply, 1) == 1 && read(orders, &order, 1) == 1)
		reply = obey(o, order);
	_exit(0);
}

static bool reply_of(const struct observer *o)
{
	char reply;

	return read(o->replies, &reply, 1) == 1 && reply;
}

static bool start_observer(struct observer *o, int device)
{
	int orders[2], replies[2];

	if (pipe2(orders, O_CLOEXEC) || pipe2(replies, O_CLOEXEC))
		return false;
	o->pid = fork();
	if (o->pid < 0)
		return false;
	if (!o->pid) {
		close(orders[1]);
		close(replies[0]);
		observe(o, device, orders[0], replies[1]);
	}
	close(orders[0]);
	close(replies[1]);
	o->orders = orders[1];
	o->replies = replies[0];
	return reply_of(o);
}

/* Gives all observers an order, and waits until all of them have carried it out. */
static bool everyone(struct scene *s, enum order order)
{
	bool right;

	s->board->complaint[0] = 0;
	for (int i = 1; i < 3; i++)
		if (write(s->observers[i].orders, (char []){ order }, 1) != 1)
			return false;
	right = obey(&s->observers[0], order);
	for (int i = 1; i < 3; i++)
		right &= reply_of(&s->observers[i]);
	return right;
}

FIXTURE_SETUP(growth)
{
	struct observer o = { .class = variant->class };

	need_class(_metadata, variant->class);
	set_up_named_file(_metadata, &self->s.file, variant->backing, 0, PAGES);
	page = self->s.page;
	content = aligned_alloc(page, PAGES * page);
	ASSERT_NE(content, NULL);
	memset(content, CONTENT, PAGES * page);
	self->s.backing = variant->backing;
	self->s.board = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->s.board, MAP_FAILED);

	self->s.source = new_file(variant->backing);
	ASSERT_GE(self->s.source, 0) TH_LOG("new file: %s", strerror(errno));
	ASSERT_EQ(fill(self->s.source, CONTENT, 0, PAGES * page), 0);
	self->s.pen = map_file(SHARED_WRITE, self->s.fd, PAGES * page);
	ASSERT_NE(self->s.pen, MAP_FAILED);

	o.board = self->s.board;
	o.fd = self->s.fd;
	for (int i = 0; i < 3; i++)
		self->s.observers[i] = o;
	self->s.observers[2].name = "a process that opted in itself";
	ASSERT_TRUE(start_observer(&self->s.observers[2], self->s.device));
	o.addr = opted_in(self->s.device, variant->class, self->s.fd);
	ASSERT_NE(o.addr, MAP_FAILED) TH_LOG("%s", strerror(errno));
	self->s.observers[0].addr = o.addr;
	self->s.observers[0].name = "the test";
	self->s.observers[1].addr = o.addr;
	self->s.observers[1].name = "a forked child";
	ASSERT_TRUE(start_observer(&self->s.observers[1], -1));
}

FIXTURE_TEARDOWN(growth)
{
	for (int i = 1; i < 3; i++) {
		close(self->s.observers[i].orders);
		waitpid(self->s.observers[i].pid, NULL, 0);
	}
	tear_down(&self->s.file);
}

/*
 * Sets the size of the file and maps a stand-in at each page past EOF. All of them are read, and
 * every other one is written to, if the mapping is writable. First this grows the file over all
 * pages, so that no old stand-in is left.
 */
static bool stand_ins_at(struct scene *s, size_t size)
{
	const struct observer *o = &s->observers[0];

	memset(s->board->marked, 0, sizeof(s->board->marked));
	s->board->copies_may_go = false;
	if (ftruncate(s->fd, PAGES * page) || ftruncate(s->fd, size) ||
	    !everyone(s, DROP) || !everyone(s, LOOK) || !everyone(s, WRITE))
		return false;
	for (int i = 0; i < PAGES; i++)
		s->board->marked[i] = may_be_marked(o, i, file_pages(s->fd));
	return everyone(s, LOOK);
}

/* The file has grown. All observers see its pages, also where they wrote. Private copies stay. */
static bool all_see_the_file(struct scene *s)
{
	static unsigned char next;
	int inside = file_pages(s->fd);

	for (int i = 0; i < inside && i < PAGES; i++) {
		if (s->observers[0].class != PRIVATE)
			s->board->marked[i] = false;
		/* Not zero, because a forgotten stand-in would look like a page of zeros. */
		s->pen[i * page] = ++next | 1;
	}
	return everyone(s, LOOK);
}

/* Runs grower->grow() in a child process. */
static long grow_in_child(const struct grower *grower, const struct growth *g)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(-grower->grow(g));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

/*
 * Whether all sizes, and all ways of opening the file, are tried on a file system. The results
 * should not depend on it: sizes are up to the module, open files up to the VFS. Therefore only
 * two file systems are tried, or all of them if GROWTH_SIZES is set.
 */
static bool is_tried_on(enum backing backing)
{
	return backing == MEMFD || backing == EXT4 || getenv("GROWTH_SIZES");
}

/* Each grower grows the file through fd, by each of the steps in growths. */
static void grow_through(struct __test_metadata *_metadata, struct scene *s, int fd,
			 const char *through, bool all_sizes, bool in_child)
{
	bool no_uring = why_no("io_uring");
	int grown = 0;

	for (size_t i = 0; i < ARRAY_SIZE(growers) * ARRAY_SIZE(growths); i++) {
		const struct grower *grower = &growers[i / ARRAY_SIZE(growths)];
		const struct sizes *sizes = &growths[i % ARRAY_SIZE(growths)];
		struct growth g = {
			.fd = fd, .source = s->source,
			.from = sizes->from.pages * page + sizes->from.bytes,
			.to = sizes->to.pages * page + sizes->to.bytes,
		};
		struct stat st;
		long ret;

		if (!(grower->on & ON(s->backing)) || !(sizes->always || all_sizes) ||
		    (grower->sizes != ANY_SIZE && (sizes->from.bytes || sizes->to.bytes)) ||
		    (grower->sizes == WHOLE_PAGES_NOT_0 && !g.from) ||
		    (no_uring && !strncmp(grower->name, "io_uring", 8)))
			continue;
		EXPECT_TRUE(stand_ins_at(s, g.from))
			TH_LOG("before %s: %s", grower->name, s->board->complaint);
		/* To insert a range, ext4 truncates the page cache after it. */
		s->board->copies_may_go = grower->grow == grow_insert_range;
		ret = in_child ? grow_in_child(grower, &g) : grower->grow(&g);
		EXPECT_EQ(ret, 0)
			TH_LOG("%s, through %s, from %zu to %zu: %s", grower->name, through,
			       g.from, g.to, strerror(-ret));
		EXPECT_TRUE(all_see_the_file(s))
			TH_LOG("%s, through %s, from %zu to %zu: %s", grower->name, through,
			       g.from, g.to, s->board->complaint);
		ASSERT_EQ(fstat(s->fd, &st), 0);
		EXPECT_EQ((size_t)st.st_size, g.to);
		grown++;
	}
	/* At least two steps for each grower, or one if it needs aligned sizes. */
	EXPECT_GE(grown, no_uring ? 28 : 40);
}

#define GROW_THROUGH(fd, through, all_sizes, in_child)	\
	grow_through(_metadata, &self->s, fd, through, all_sizes, in_child)

TEST_F_TIMEOUT(growth, through_the_mapped_file, 300)
{
	GROW_THROUGH(self->s.fd, "the mapped file", is_tried_on(variant->backing), false);
}

TEST_F_TIMEOUT(growth, through_another_open, 300)
{
	int fd = open(path_of(self->s.fd), O_RDWR | O_CLOEXEC);

	if (!is_tried_on(variant->backing))
		SKIP(return, "tried on memfd and ext4; elsewhere with GROWTH_SIZES=1");
	ASSERT_GE(fd, 0);
	GROW_THROUGH(fd, "another open", false, false);
	close(fd);
}

TEST_F_TIMEOUT(growth, by_another_process, 300)
{
	int fd = open(path_of(self->s.fd), O_RDWR | O_CLOEXEC);

	if (!is_tried_on(variant->backing))
		SKIP(return, "tried on memfd and ext4; elsewhere with GROWTH_SIZES=1");
	ASSERT_GE(fd, 0);
	GROW_THROUGH(fd, "another process", false, true);
	close(fd);
}

/* Opens the file by a hard link, through another mount, and in the upper layer of an overlay. */
TEST_F_TIMEOUT(growth, through_another_path, 300)
{
	char path[PATH_MAX], *name;
	int dir_fd, fd;

	if (!is_tried_on(variant->backing) && variant->backing != OVERLAY)
		SKIP(return, "tried on memfd and ext4; elsewhere with GROWTH_SIZES=1");
	if (variant->backing == MEMFD) {
		/* A memfd has no path but that of an open file in /proc. */
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", self->s.observers[1].pid, self->s.fd);
		fd = open(path, O_RDWR | O_CLOEXEC);
		ASSERT_GE(fd, 0) TH_LOG("%s: %s", path, strerror(errno));
		GROW_THROUGH(fd, path, false, false);
		return;
	}

	snprintf(path, sizeof(path), "%s.link", self->s.path);
	ASSERT_EQ(link(self->s.path, path), 0) TH_LOG("%s", strerror(errno));
	fd = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	ASSERT_GE(fd, 0);
	GROW_THROUGH(fd, "a hard link", false, false);
	close(fd);

	name = strrchr(self->s.path, '/') + 1;
	if (!geteuid()) {
		snprintf(path, sizeof(path), "%.*s", (int)(name - self->s.path), self->s.path);
		dir_fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		ASSERT_GE(dir_fd, 0) TH_LOG("open_tree: %s", strerror(errno));
		fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		GROW_THROUGH(fd, "a bind mount", false, false);
		close(fd);
		close(dir_fd);
	}
	if (variant->backing == OVERLAY) {
		dir_fd = open(fs_path("ext4/overlay/upper"), O_PATH | O_CLOEXEC);
		fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		/* copy_file_range(2) needs both files on the same file system. */
		self->s.source = new_file(EXT4);
		ASSERT_EQ(fill(self->s.source, CONTENT, 0, PAGES * page), 0);
		GROW_THROUGH(fd, "the upper layer", false, false);
		close(fd);
		close(dir_fd);
	}
}

TEST_F(growth, repeated_growth_and_shrinking)
{
	unsigned int seed = 1;
	struct stat st;
	off_t size;

	/* Stores past EOF stay until the file grows over them. Private copies stay even then. */
	ASSERT_TRUE(stand_ins_at(&self->s, 0));
	if (variant->class == PRIVATE) {
		ASSERT_TRUE(everyone(&self->s, DROP));
		memset(self->s.board->marked, 0, sizeof(self->s.board->marked));
	}
	for (int round = 0; round < 200; round++) {
		size = rand_r(&seed) % (PAGES * page + 1);
		ASSERT_EQ(fstat(self->s.fd, &st), 0);
		ASSERT_EQ(size > st.st_size && round % 2 ?
			  fill(self->s.fd, CONTENT, st.st_size, size - st.st_size) :
			  ftruncate(self->s.fd, size), 0);
		EXPECT_TRUE(all_see_the_file(&self->s))
			TH_LOG("round %d, from %zd to %zd: %s", round, (ssize_t)st.st_size,
			       (ssize_t)size, self->s.board->complaint);
	}
}

TEST_F(growth, sparse_to_1_tib)
{
	off_t end = 1LL << 40, start = end - PAGES / 2 * page;
	int flags = class_flags(variant->class);
	char *addr, *pen;

	ASSERT_TRUE(stand_ins_at(&self->s, 0));
	addr = mmap(NULL, PAGES * page, class_prot(variant->class), flags, self->s.fd, start);
	ASSERT_NE(addr, MAP_FAILED);
	pen = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, self->s.fd, start);
	ASSERT_NE(pen, MAP_FAILED);
	ASSERT_EQ(enable(self->s.device, addr, PAGES * page), 0);
	EXPECT_EQ(pages_of(0, addr, 0, PAGES), PAGES);

	ASSERT_EQ(ftruncate(self->s.fd, end), 0) TH_LOG("%s", strerror(errno));
	EXPECT_TRUE(all_see_the_file(&self->s)) TH_LOG("%s", self->s.board->complaint);
	for (int i = 0; i < PAGES / 2; i++) {
		ASSERT_EQ(write_byte(pen + i * page, CONTENT + i), 0);
		EXPECT_EQ(read_byte(addr + i * page), CONTENT + i);
	}
	EXPECT_EQ(pages_of(0, addr, PAGES / 2, PAGES), PAGES / 2);
	ASSERT_EQ(ftruncate(self->s.fd, page), 0);
	EXPECT_EQ(pages_of(0, addr, 0, PAGES), PAGES);
	EXPECT_TRUE(all_see_the_file(&self->s)) TH_LOG("%s", self->s.board->complaint);
}

/*
 * A client truncates the file, restores its size, and draws a frame. No process calls madvise() to
 * unmap pages. It is up to the module that all observers see each frame.
 */
TEST_F(growth, frames_are_seen_without_madvise)
{
	static const int lost[] = { PAGES, PAGES / 2, 1, 0 };

	for (int frame = 1; frame <= 40; frame++) {
		ASSERT_EQ(ftruncate(self->s.fd, (PAGES - lost[frame % 4]) * page), 0);
		EXPECT_TRUE(everyone(&self->s, LOOK)) TH_LOG("cut: %s", self->s.board->complaint);
		ASSERT_EQ(ftruncate(self->s.fd, PAGES * page), 0);
		memset(self->s.pen, frame, PAGES * page);
		EXPECT_EQ(pages_of(frame, self->s.observers[0].addr, 0, PAGES), PAGES);
		EXPECT_TRUE(everyone(&self->s, LOOK)) TH_LOG("drawn: %s", self->s.board->complaint);
	}
}

/* The file grows while the stand-ins are mapped with PROT_NONE or read-only. */
TEST_F(growth, while_protected)
{
	char *addr = self->s.observers[0].addr;
	int prot = class_prot(variant->class);

	ASSERT_TRUE(stand_ins_at(&self->s, 0));
	ASSERT_EQ(mprotect(addr, PAGES / 2 * page, PROT_NONE), 0);
	ASSERT_EQ(mprotect(addr + PAGES / 2 * page, PAGES / 2 * page, PROT_READ), 0);
	ASSERT_EQ(ftruncate(self->s.fd, PAGES * page), 0);
	EXPECT_EQ(read_byte(addr), -SIGSEGV);
	EXPECT_EQ(write_byte(addr + PAGES / 2 * page, 1), -SIGSEGV);
	ASSERT_EQ(mprotect(addr, PAGES * page, prot), 0);
	EXPECT_TRUE(all_see_the_file(&self->s)) TH_LOG("%s", self->s.board->complaint);

	if (variant->class == SHARED_WRITE) {
		char byte;

		EXPECT_EQ(write_byte(addr + 3 * page + 1, CONTENT), 0);
		EXPECT_EQ(pread(self->s.fd, &byte, 1, 3 * page + 1), 1);
		EXPECT_EQ(byte, CONTENT);
	}
}

/* Adds a watch by the path of the open file: inotify_add_watch(2) takes only a path. */
static int watch(int inotify, int fd)
{
	return inotify_add_watch(inotify, path_of(fd), IN_ALL_EVENTS);
}

/* Appends to text: what was done (after), and the masks of all events that followed. */
static void note_events(int inotify, const char *after, char *text, size_t size)
{
	long buffer[512];
	struct pollfd ready = { .fd = inotify, .events = POLLIN };
	size_t len = strlen(text);

	len += snprintf(text + len, size - len, " %s:", after);
	while (poll(&ready, 1, 0) == 1) {
		ssize_t got = read(inotify, buffer, sizeof(buffer));

		for (char *p = (char *)buffer; p < (char *)buffer + got && len < size;) {
			struct inotify_event *event = (struct inotify_event *)p;

			len += snprintf(text + len, size - len, " %x", event->mask);
			p += sizeof(*event) + event->len;
		}
	}
}

/*
 * Changes the file and touches the mapping, and returns the events of the watch. They are read
 * after each change, because the kernel merges equal events.
 */
static char *events_of(int inotify, int fd, char *addr)
{
	char *text = calloc(1, 1024);

	for (int pages = 0; text && pages < PAGES - 2; pages++) {
		ftruncate(fd, pages * page);
		note_events(inotify, "ftruncate", text, 1024);
		for (int i = 0; i < PAGES; i++)
			read_byte(addr + i * page);
		note_events(inotify, "touch", text, 1024);
		pwrite(fd, content, page, (pages + 1) * page);
		note_events(inotify, "pwrite", text, 1024);
	}
	if (text && !fallocate(fd, 0, 0, PAGES * page))
		note_events(inotify, "fallocate", text, 1024);
	return text;
}

/*
 * An inotify watch of the file reports the same events as without the module. A watch of another
 * file reports nothing. The one difference: a memfd reports writes through the open file that is
 * mapped, which it does not without the module.
 */
TEST_F(growth, inotify_sees_no_difference)
{
	char *path, *without, *with, none[64] = "";
	int fds[3] = { new_named_file(variant->backing, &path), self->s.fd, self->s.source };
	char *plain = map_file(variant->class, fds[0], PAGES * page);
	int inotify[3];

	if (path)
		unlink(path);
	ASSERT_NE(plain, MAP_FAILED);
	ASSERT_EQ(ftruncate(fds[0], page), 0);
	ASSERT_EQ(ftruncate(fds[1], page), 0);
	for (int i = 0; i < 3; i++) {
		inotify[i] = inotify_init1(IN_CLOEXEC);
		ASSERT_GE(inotify[i], 0);
		ASSERT_GE(watch(inotify[i], fds[i]), 0) TH_LOG("%s", strerror(errno));
	}
	without = events_of(inotify[0], fds[0], plain);
	with = events_of(inotify[1], fds[1], self->s.observers[0].addr);
	ASSERT_NE(without, NULL);
	ASSERT_NE(with, NULL);
	EXPECT_NE(strstr(without, "ftruncate: 2 touch: pwrite:"), NULL) TH_LOG("%s", without);
	if (variant->backing == MEMFD && !SEES_ALL_GROWTH) {
		EXPECT_NE(strstr(without, "pwrite: ftruncate"), NULL) TH_LOG("%s", without);
		EXPECT_NE(strstr(with, "ftruncate: 2 touch: pwrite: 2 ftruncate"), NULL)
			TH_LOG("%s", with);
	} else {
		EXPECT_STREQ(with, without);
	}
	note_events(inotify[2], "other", none, sizeof(none));
	EXPECT_STREQ(none, " other:");
	free(without);
	free(with);
}

/*
 * A memfd reports nothing to fsnotify until an opted-in mapping of it needs a stand-in. From then
 * on it reports modifications, if the implementation learns of growth from fsnotify.
 */
TEST(reports_from_the_first_stand_in_on)
{
	int device = open_device();

	page = page_size();
	catch_signals();
	ASSERT_GE(device, 0);
	for (enum class class = PRIVATE; class <= LAST_CLASS; class++) {
		int fd = new_file(MEMFD), inotify = inotify_init1(IN_CLOEXEC);
		char text[64] = "", *addr;

		ASSERT_GE(fd, 0);
		ASSERT_GE(watch(inotify, fd), 0) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(pwrite(fd, "a", 1, 0), 1);
		addr = opted_in(device, class, fd);
		ASSERT_NE(addr, MAP_FAILED);
		EXPECT_EQ(read_byte(addr), 'a');
		ASSERT_EQ(pwrite(fd, "b", 1, 0), 1);
		note_events(inotify, "inside", text, sizeof(text));
		EXPECT_EQ(read_byte(addr + page), 0);
		ASSERT_EQ(pwrite(fd, "c", 1, 0), 1);
		note_events(inotify, "past EOF", text, sizeof(text));
		EXPECT_STREQ(text, SEES_ALL_GROWTH ? " inside: past EOF:" : " inside: past EOF: 2");
		munmap(addr, PAGES * page);
		close(inotify);
		close(fd);
	}
	close(device);
}

/* The kernel does not report writes by Linux AIO (io_submit(2)) to fsnotify. */
TEST_F(growth, known_limit_linux_aio)
{
	/* Only on overlayfs this is reported: overlayfs passes the write on to its layer. */
	int at_once = SEES_ALL_GROWTH || variant->backing == OVERLAY ? CONTENT : 0;
	char *addr = self->s.observers[0].addr;
	struct iocb iocb = {
		.aio_fildes = self->s.fd, .aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_buf = (unsigned long)content, .aio_nbytes = 3 * page,
	};
	struct iocb *list = &iocb;
	aio_context_t context = 0;
	struct io_event event;

	need(_metadata, "aio");
	ASSERT_EQ(ftruncate(self->s.fd, 0), 0);
	/* Downwards, so that the module does not map the zero page ahead at the third page. */
	EXPECT_EQ(read_byte(addr + page), 0);
	EXPECT_EQ(read_byte(addr), 0);
	ASSERT_EQ(syscall(SYS_io_setup, 1, &context), 0);
	ASSERT_EQ(syscall(SYS_io_submit, context, 1, &list), 1);
	ASSERT_EQ(syscall(SYS_io_getevents, context, 1, 1, &event, NULL), 1);
	ASSERT_EQ(event.res, (long)(3 * page));
	ASSERT_EQ(syscall(SYS_io_destroy, context), 0);

	/* Mapped stand-ins stay. The third page has none and shows the file. */
	EXPECT_EQ(read_byte(addr), at_once);
	EXPECT_EQ(read_byte(addr + page), at_once);
	EXPECT_EQ(read_byte(addr + 2 * page), CONTENT);
	/* They stay until a modification of the file is reported. */
	ASSERT_EQ(ftruncate(self->s.fd, 3 * page), 0);
	EXPECT_EQ(pages_of(CONTENT, addr, 0, 3), 3);
}

/*
 * The open file of memfd_create(2) does not report to fsnotify. The module changes that only for
 * the open file that is mapped. Here another open file of the memfd is mapped.
 */
TEST(known_limit_memfd_mapped_through_another_open)
{
	int device = open_device(), fd = new_file(MEMFD), again;
	char *addr, bytes[4] = { 1, 2, 3, 4 };

	page = page_size();
	catch_signals();
	ASSERT_GE(device, 0);
	ASSERT_GE(fd, 0);
	again = open(path_of(fd), O_RDWR | O_CLOEXEC);
	ASSERT_GE(again, 0);
	addr = opted_in(device, SHARED_READ, again);
	ASSERT_NE(addr, MAP_FAILED);

	EXPECT_EQ(read_byte(addr), 0);
	ASSERT_EQ(pwrite(fd, bytes, 4, 0), 4);
	EXPECT_EQ(read_byte(addr), SEES_ALL_GROWTH);
	/* Truncation is reported, whichever open file it goes through. */
	ASSERT_EQ(ftruncate(fd, 4), 0);
	EXPECT_EQ(read_byte(addr), 1);

	/* Writes through the mapped open file, or through a third one, are reported, too. */
	ASSERT_EQ(ftruncate(fd, 0), 0);
	EXPECT_EQ(read_byte(addr), 0);
	ASSERT_EQ(pwrite(again, bytes, 4, 0), 4);
	EXPECT_EQ(read_byte(addr), 1);
	EXPECT_EQ(read_byte(addr + page), 0);
	ASSERT_EQ(pwrite(open(path_of(fd), O_RDWR | O_CLOEXEC), bytes, 4, page), 4);
	EXPECT_EQ(read_byte(addr + page), 1);
}

/* Unlinking the last name of an inode does not remove the mark while the file is mapped. */
TEST(last_name_goes)
{
	const enum backing backings[] = { TMPFS, EXT4 };
	int device = open_device();

	need_backing(_metadata, EXT4);
	page = page_size();
	catch_signals();
	ASSERT_GE(device, 0);
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		char *path, *other, *addr;
		int fd = new_named_file(backings[i], &path);

		ASSERT_GE(fd, 0);
		ASSERT_GT(asprintf(&other, "%s-other", path), 0);
		addr = opted_in(device, SHARED_READ, fd);
		ASSERT_NE(addr, MAP_FAILED);
		EXPECT_EQ(read_byte(addr), 0);
		EXPECT_EQ(read_byte(addr + page), 0);

		ASSERT_EQ(link(path, other), 0);
		ASSERT_EQ(unlink(path), 0);
		ASSERT_EQ(unlink(other), 0);
		ASSERT_EQ(pwrite(fd, "a", 1, 0), 1);
		EXPECT_EQ(read_byte(addr), 'a');
		ASSERT_EQ(pwrite(fd, "b", 1, page), 1);
		EXPECT_EQ(read_byte(addr + page), 'b');
		free(path);
		free(other);
		close(fd);
	}
	close(device);
}

/*
 * fsnotify does not report a system call that grows the file and then fails: here fallocate() of
 * more space than there is. The next fault inside EOF that calls the module notices the growth. A
 * fault that the page cache can answer does not.
 */
TEST(known_limit_growth_that_fails)
{
	int device = open_device(), fd;
	const size_t pages = 400;
	char *addr, *plain;
	struct stat st;

	need_backing(_metadata, SMALL_EXT4);
	page = page_size();
	catch_signals();
	ASSERT_GE(device, 0);
	fd = new_file(SMALL_EXT4);
	ASSERT_GE(fd, 0);
	addr = map_file(SHARED_READ, fd, pages * page);
	plain = map_file(SHARED_WRITE, fd, pages * page);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_NE(plain, MAP_FAILED);
	ASSERT_EQ(enable(device, addr, pages * page), 0);
	EXPECT_EQ(read_byte(addr), 0);

	ASSERT_EQ(fallocate(fd, 0, 0, 1 << 30), -1);
	EXPECT_EQ(errno, ENOSPC);
	ASSERT_EQ(fstat(fd, &st), 0);
	ASSERT_GE(st.st_size, (off_t)(pages * page));
	ASSERT_EQ(write_byte(plain, 1), 0);
	EXPECT_EQ(read_byte(addr), SEES_ALL_GROWTH);
	/* A page that was not read ahead. Otherwise fault-around would map it. */
	EXPECT_EQ(read_byte(addr + (pages - 1) * page), 0);
	EXPECT_EQ(read_byte(addr), 1);
	munmap(addr, pages * page);
	munmap(plain, pages * page);
	close(fd);
	close(device);
}

/*
 * A FUSE server has grown the file. The kernel learns of it when it asks the server for attributes.
 * Then it calls i_size_write(), but reports nothing to fsnotify. The file starts empty: when the
 * size changes, FUSE drops the file's pages, and if one of them is mapped, it unmaps the whole
 * file, including stand-ins.
 */
TEST(known_limit_growth_by_a_server)
{
	int device = open_device(), fd;
	char directory[] = "/tmp/growth.XXXXXX", path[PATH_MAX], *addr;
	struct fuse_server *server;
	struct stat st;
	pid_t pid;

	if (geteuid())
		SKIP(return, "mounting takes root");
	page = page_size();
	catch_signals();
	ASSERT_GE(device, 0);
	server = set_up_fuse(_metadata, (struct fuse_server){ .content = CONTENT }, directory, path,
			     &pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	EXPECT_GE(fd, 0) TH_LOG("%s", strerror(errno));
	addr = map_file(SHARED_READ, fd, PAGES * page);
	EXPECT_NE(addr, MAP_FAILED);
	EXPECT_EQ(enable(device, addr, PAGES * page), 0);
	EXPECT_EQ(read_byte(addr + 2 * page), 0);

	server->size = 3 * page;
	EXPECT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_size, (off_t)(3 * page));
	EXPECT_EQ(read_byte(addr + 2 * page), SEES_ALL_GROWTH ? CONTENT : 0);
	EXPECT_EQ(read_byte(addr + 3 * page), 0);
	munmap(addr, PAGES * page);
	close(fd);
	EXPECT_EQ(umount2(directory, MNT_DETACH), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	rmdir(directory);
	close(device);
}

/* The number in a file of the test's cgroup, or -1. */
static long number_of_cgroup(const char *file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/nosigbus-growth/%s", file);
	return number_in(path, "");
}

#define MANY		2048

/* When the file grows over shadow pages, they are freed, while the mapping stays. */
TEST(shadow_pages_are_freed_by_growth)
{
	int device = open_device(), fd = new_file(MEMFD);
	long before, with, without;
	char *addr;

	if (geteuid())
		SKIP(return, "takes root, for a cgroup");
	need(_metadata, "memcg");
	need_class(_metadata, SHARED_WRITE);
	page = page_size();
	catch_signals();
	write_to("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	ASSERT_TRUE(!mkdir("/sys/fs/cgroup/nosigbus-growth", 0755) || errno == EEXIST);
	ASSERT_TRUE(write_to("/sys/fs/cgroup/nosigbus-growth/cgroup.procs", "0"));

	addr = map_file(SHARED_WRITE, fd, MANY * page);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(device, addr, MANY * page), 0);
	before = number_of_cgroup("memory.current");
	ASSERT_GE(before, 0);
	for (int i = 0; i < MANY; i++)
		ASSERT_EQ(write_byte(addr + i * page, MARK), 0);
	with = number_of_cgroup("memory.current");
	/* The memcg charges in batches, so the number is not exact. */
	EXPECT_GE(with - before, (long)(MANY * page / 8 * 7));

	/* A file of holes takes no memory. */
	ASSERT_EQ(ftruncate(fd, MANY * page), 0);
	without = number_of_cgroup("memory.current");
	EXPECT_LE(without - before, (long)(MANY * page / 8));
	TH_LOG("%d shadow pages: memory.current %ld, then %ld, then %ld", MANY, before, with,
	       without);
	ASSERT_EQ(ftruncate(fd, 0), 0);
	EXPECT_EQ(pages_of(0, addr, 0, MANY), MANY);

	ASSERT_TRUE(write_to("/sys/fs/cgroup/cgroup.procs", "0"));
	munmap(addr, MANY * page);
	/* This fails while memory is charged to the cgroup. The next run then uses it again. */
	rmdir("/sys/fs/cgroup/nosigbus-growth");
}

TEST_HARNESS_MAIN
