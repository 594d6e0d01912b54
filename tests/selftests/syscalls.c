// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel, other processes and other threads see of an opted-in mapping. The tests do the
 * same to a plain mapping, and check both results. Documentation/operations.rst has the table of
 * operations.
 */

#include "core_dump.h"
#include "pair.h"

#include <link.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define ALL_BYTES	((long)(PAGES * page))
#define FILE_BYTES	((long)(FILE_PAGES * page))
#define PAST_BYTES	(ALL_BYTES - FILE_BYTES)

/* A buffer as large as the mapping. */
static char *buffer(void)
{
	static char *bytes;

	if (!bytes)
		bytes = aligned_alloc(page, ALL_BYTES);
	return bytes;
}

/* A buffer of pages for which shows() returns "wwwwww". */
static char *marked_buffer(void)
{
	memset(buffer(), 0, ALL_BYTES);
	for (int i = 0; i < PAGES; i++)
		buffer()[i * page + PUT_AT] = WRITTEN;
	return buffer();
}

/* A buffer of pages that are not in the mapping: shows() returns "??????". */
static char *foreign_buffer(void)
{
	return memset(buffer(), 0xff, ALL_BYTES);
}

static long write_to_pipe(const struct side *m)
{
	int fds[2];
	long ret;

	if (pipe2(fds, O_NONBLOCK))
		return -errno;
	ret = result(write(fds[1], m->addr, ALL_BYTES));
	read(fds[0], foreign_buffer(), ALL_BYTES);
	close(fds[0]);
	close(fds[1]);
	return ret;
}

TEST_F(pair, write_from)
{
	DIFFER(write_to_pipe(m), FILE_BYTES, ALL_BYTES);
	EXPECT_INTACT();
	EXPECT_EQ(write_to_pipe(&self->plain), FILE_BYTES);
	EXPECT_STREQ(IF_WRITABLE("ABC???", "abc???"), shows(&self->plain, buffer(), PAGES));
	EXPECT_EQ(write_to_pipe(&self->opted), ALL_BYTES);
	EXPECT_STREQ(IF_WRITABLE("ABCwww", "abc000"), shows(&self->opted, buffer(), PAGES));
}

static long read_from_pipe(const struct side *m)
{
	int fds[2];
	long ret;

	if (pipe2(fds, O_NONBLOCK))
		return -errno;
	ret = result(write(fds[1], marked_buffer(), ALL_BYTES));
	if (ret == ALL_BYTES)
		ret = result(read(fds[0], m->addr, ALL_BYTES));
	close(fds[0]);
	close(fds[1]);
	return ret;
}

TEST_F(pair, read_into)
{
	DIFFER(read_from_pipe(m), IF_WRITABLE(FILE_BYTES, -EFAULT),
	       IF_WRITABLE(ALL_BYTES, -EFAULT));
	SHOWS(IF_WRITABLE("www!!!", "abc!!!"), IF_WRITABLE("wwwwww", "abc000"));
}

/* Sends the pages of one mapping, or receives into them. */
static long over_socket(const struct side *m, bool send)
{
	struct iovec theirs = { .iov_base = m->addr, .iov_len = ALL_BYTES };
	struct iovec ours = { .iov_base = send ? foreign_buffer() : marked_buffer(),
			      .iov_len = ALL_BYTES };
	struct msghdr from = { .msg_iov = send ? &theirs : &ours, .msg_iovlen = 1 };
	struct msghdr to = { .msg_iov = send ? &ours : &theirs, .msg_iovlen = 1 };
	long sent, received;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
		return -errno;
	sent = result(sendmsg(fds[0], &from, 0));
	received = result(recvmsg(fds[1], &to, 0));
	close(fds[0]);
	close(fds[1]);
	return send ? sent : received;
}

/* If a stream socket cannot read the whole message, it sends nothing of it. */
TEST_F(pair, sendmsg_from)
{
	EXPECT_INTACT();
	EXPECT_EQ(over_socket(&self->plain, true), -EFAULT);
	EXPECT_STREQ("??????", shows(&self->plain, buffer(), PAGES));
	EXPECT_EQ(over_socket(&self->opted, true), ALL_BYTES);
	EXPECT_STREQ(IF_WRITABLE("ABCwww", "abc000"), shows(&self->opted, buffer(), PAGES));
}

TEST_F(pair, recvmsg_into)
{
	DIFFER(over_socket(m, false), -EFAULT, IF_WRITABLE(ALL_BYTES, -EFAULT));
	DIFFER_STR(shows(m, at(m, FILE_PAGES), 3), "!!!", IF_WRITABLE("www", "000"));
}

/* The pages go to a pipe, and from there to a file. */
static long vmsplice_to_file(const struct side *m)
{
	struct iovec iov = { .iov_base = m->addr, .iov_len = ALL_BYTES };
	int out = memfd_create("out", MFD_CLOEXEC), fds[2];
	long ret;

	if (pipe2(fds, O_NONBLOCK))
		return -errno;
	ret = result(vmsplice(fds[1], &iov, 1, 0));
	splice(fds[0], NULL, out, NULL, ALL_BYTES, 0);
	pread(out, foreign_buffer(), ALL_BYTES, 0);
	close(fds[0]);
	close(fds[1]);
	close(out);
	return ret;
}

TEST_F(pair, vmsplice_from)
{
	EXPECT_INTACT();
	EXPECT_EQ(vmsplice_to_file(&self->plain), FILE_BYTES);
	EXPECT_STREQ(IF_WRITABLE("ABC???", "abc???"), shows(&self->plain, buffer(), PAGES));
	EXPECT_EQ(vmsplice_to_file(&self->opted), ALL_BYTES);
	EXPECT_STREQ(IF_WRITABLE("ABCwww", "abc000"), shows(&self->opted, buffer(), PAGES));
}

/* A file for O_DIRECT, with content that shows as "wwwwww". -1 if that fails. */
static int direct_file(void)
{
	int fd = new_file(EXT4), direct;
	char path[64];

	if (fd < 0 || pwrite(fd, marked_buffer(), ALL_BYTES, 0) != ALL_BYTES || fsync(fd))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	close(fd);
	return direct;
}

TEST_F(pair, o_direct_write_from)
{
	int fd = direct_file();

	ASSERT_GE(fd, 0) TH_LOG("%s", strerror(errno));
	EXPECT_INTACT();
	DIFFER(pwrite(fd, m->addr, FILE_BYTES, 0), FILE_BYTES, FILE_BYTES);
	DIFFER(pwrite(fd, at(m, FILE_PAGES), PAST_BYTES, FILE_BYTES), -EFAULT, PAST_BYTES);
	EXPECT_EQ(pwrite(fd, self->opted.addr, ALL_BYTES, 0), ALL_BYTES);
	ASSERT_EQ(pread(fd, foreign_buffer(), ALL_BYTES, 0), ALL_BYTES);
	EXPECT_STREQ(IF_WRITABLE("ABCwww", "abc000"), shows(&self->opted, buffer(), PAGES));
}

TEST_F(pair, o_direct_read_into)
{
	int fd = direct_file();

	ASSERT_GE(fd, 0) TH_LOG("%s", strerror(errno));
	SAME(pread(fd, m->addr, FILE_BYTES, 0), IF_WRITABLE(FILE_BYTES, -EFAULT));
	DIFFER(pread(fd, at(m, FILE_PAGES), PAST_BYTES, FILE_BYTES), -EFAULT,
	       IF_WRITABLE(PAST_BYTES, -EFAULT));
	SHOWS(IF_WRITABLE("www!!!", "abc!!!"), IF_WRITABLE("wwwwww", "abc000"));
}

/* Does one io_uring operation with a fixed buffer, in a new ring. Its result, or minus errno. */
static long with_fixed_buffer(int op, int fd, void *addr, size_t len)
{
	struct io_uring_params params = {};
	struct iovec iov = { .iov_base = addr, .iov_len = len };
	int ring = syscall(SYS_io_uring_setup, 1, &params);
	size_t size = params.sq_off.array + params.sq_entries * sizeof(__u32);
	size_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	long ret = -errno;
	char *rings;

	if (ring < 0)
		return ret;
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1)) {
		ret = -errno;
		close(ring);
		return ret;
	}
	size = cq_size > size ? cq_size : size;
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		     IORING_OFF_SQ_RING);
	sqes = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		    IORING_OFF_SQES);
	if (rings == MAP_FAILED || sqes == MAP_FAILED)
		return -errno;
	*sqes = (struct io_uring_sqe){
		.opcode = op, .fd = fd, .addr = (unsigned long)addr, .len = len,
	};
	((__u32 *)(rings + params.sq_off.array))[0] = 0;
	atomic_store((_Atomic(__u32) *)(rings + params.sq_off.tail), 1);
	ret = result(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	cqes = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
	if (ret == 1)
		ret = atomic_load((_Atomic(__u32) *)(rings + params.cq_off.tail)) == 1 ?
			cqes[0].res : -ETIME;
	munmap(sqes, page);
	munmap(rings, size);
	close(ring);
	return ret;
}

/*
 * io_uring pins the pages for writing and for an unlimited time (FOLL_LONGTERM). The kernel allows
 * that for private pages and for shmem. The same is true of their stand-ins.
 */
TEST_F(pair, io_uring_fixed_buffers)
{
	bool pinned = variant->class == PRIVATE || (IS_WRITABLE() && variant->backing == MEMFD);
	int out = memfd_create("out", MFD_CLOEXEC), in = memfd_create("in", MFD_CLOEXEC);

	need(_metadata, "io_uring");
	EXPECT_INTACT();
	SAME(with_fixed_buffer(IORING_OP_WRITE_FIXED, out, m->addr, FILE_BYTES),
	     pinned ? FILE_BYTES : -EFAULT);
	DIFFER(with_fixed_buffer(IORING_OP_WRITE_FIXED, out, m->addr, ALL_BYTES), -EFAULT,
	       pinned ? ALL_BYTES : -EFAULT);
	pread(out, foreign_buffer(), ALL_BYTES, 0);
	EXPECT_STREQ(pinned ? "ABCwww" : "??????", shows(&self->opted, buffer(), PAGES));

	ASSERT_EQ(pwrite(in, foreign_buffer(), ALL_BYTES, 0), ALL_BYTES);
	DIFFER(with_fixed_buffer(IORING_OP_READ_FIXED, in, at(m, FILE_PAGES), PAST_BYTES),
	       -EFAULT, pinned ? PAST_BYTES : -EFAULT);
	DIFFER_STR(shows(m, at(m, FILE_PAGES), 3), "!!!",
		   pinned ? "???" : IF_WRITABLE("www", "000"));
}

/* A child that does nothing until it is killed. */
static pid_t idle_child(bool traced)
{
	pid_t pid = fork();

	if (!pid) {
		if (traced)
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(pid, NULL, WUNTRACED);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST_F(pair, process_vm_readv_writev)
{
	pid_t pid = idle_child(false);
	struct iovec ours = { .iov_base = foreign_buffer(), .iov_len = ALL_BYTES };
	struct iovec theirs[2] = {
		{ .iov_base = self->plain.addr, .iov_len = ALL_BYTES },
		{ .iov_base = self->opted.addr, .iov_len = ALL_BYTES },
	};

	ASSERT_GT(pid, 0);
	EXPECT_EQ(process_vm_readv(pid, &ours, 1, &theirs[0], 1, 0), FILE_BYTES);
	EXPECT_STREQ("abc???", shows(&self->plain, buffer(), PAGES));
	EXPECT_EQ(process_vm_readv(pid, &ours, 1, &theirs[1], 1, 0), ALL_BYTES);
	EXPECT_STREQ("abc000", shows(&self->opted, buffer(), PAGES));

	marked_buffer();
	DIFFER(process_vm_writev(pid, &ours, 1, &theirs[m == &self->opted], 1, 0),
	       IF_WRITABLE(FILE_BYTES, -EFAULT), IF_WRITABLE(ALL_BYTES, -EFAULT));
	/* The write went to the child's memory. A shared mapping shows it here, too. */
	SHOWS(BY_CLASS("abc!!!", "abc!!!", "www!!!"), BY_CLASS("abc000", "abc000", "wwwwww"));
	ours.iov_base = foreign_buffer();
	EXPECT_EQ(process_vm_readv(pid, &ours, 1, &theirs[1], 1, 0), ALL_BYTES);
	EXPECT_STREQ(IF_WRITABLE("wwwwww", "abc000"), shows(&self->opted, buffer(), PAGES));
	end_child(pid);
}

/* The byte at PUT_AT of a page of a traced child; minus errno. */
static int peek(pid_t pid, char *addr)
{
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, addr + PUT_AT, NULL);
	return errno ? -errno : word & 0xff;
}

static int poke(pid_t pid, char *addr)
{
	return ptrace(PTRACE_POKEDATA, pid, addr + PUT_AT, (void *)WRITTEN) ? -errno : 0;
}

TEST_F(pair, ptrace_peek_poke)
{
	pid_t pid = idle_child(true);

	ASSERT_GT(pid, 0);
	SAME(peek(pid, at(m, 1)), 'b');
	DIFFER(peek(pid, at(m, 4)), -EIO, 0);
	DIFFER(poke(pid, at(m, 4)), -EIO, IF_WRITABLE(0, -EIO));
	DIFFER(poke(pid, at(m, 5)), -EIO, IF_WRITABLE(0, -EIO));
	DIFFER(peek(pid, at(m, 4)), -EIO, IF_WRITABLE(WRITTEN, 0));
	SHOWS("abc!!!", BY_CLASS("abc000", "abc000", "abc0ww"));
	end_child(pid);
}

TEST_F(pair, proc_pid_mem)
{
	pid_t pid = idle_child(true);
	char path[64];
	int fd;

	ASSERT_GT(pid, 0);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0) TH_LOG("%s: %s", path, strerror(errno));
	EXPECT_EQ(pread(fd, foreign_buffer(), ALL_BYTES, (unsigned long)self->plain.addr), FILE_BYTES);
	EXPECT_STREQ("abc???", shows(&self->plain, buffer(), PAGES));
	EXPECT_EQ(pread(fd, foreign_buffer(), ALL_BYTES, (unsigned long)self->opted.addr), ALL_BYTES);
	EXPECT_STREQ("abc000", shows(&self->opted, buffer(), PAGES));
	marked_buffer();
	DIFFER(pwrite(fd, buffer(), ALL_BYTES, (unsigned long)m->addr),
	       IF_WRITABLE(FILE_BYTES, -EIO), IF_WRITABLE(ALL_BYTES, -EIO));
	SHOWS(BY_CLASS("abc!!!", "abc!!!", "www!!!"), BY_CLASS("abc000", "abc000", "wwwwww"));
	close(fd);
	end_child(pid);
}

/* The system call that takes the struct timespec of this program, also in 32-bit ones. */
#ifdef SYS_futex_time64
#define SYS_FUTEX	SYS_futex_time64
#else
#define SYS_FUTEX	SYS_futex
#endif

static long futex(char *addr, int op, unsigned int value, long nanoseconds)
{
	struct timespec timeout = { .tv_nsec = nanoseconds };

	return result(syscall(SYS_FUTEX, addr, op, value, &timeout));
}

#define NOT_THE_VALUE	12345

/*
 * The key of a futex that only one process uses is its address. For a futex between processes
 * get_futex_key() needs the page's address_space. Neither the zero page nor a shadow page has one.
 */
TEST_F(pair, futex)
{
	char *page3[2] = { at(&self->plain, 3), at(&self->opted, 3) };

#define PAGE3	page3[m == &self->opted]
	SAME(futex(m->addr, FUTEX_WAIT_PRIVATE, NOT_THE_VALUE, 0), -EAGAIN);
	SAME(futex(m->addr, FUTEX_WAIT, NOT_THE_VALUE, 0), -EAGAIN);
	DIFFER(futex(PAGE3, FUTEX_WAIT_PRIVATE, NOT_THE_VALUE, 0), -EFAULT, -EAGAIN);
	DIFFER(futex(PAGE3, FUTEX_WAIT_PRIVATE, 0, 1000), -EFAULT, -ETIMEDOUT);
	SAME(futex(PAGE3, FUTEX_WAKE_PRIVATE, 1, 0), 0);
	DIFFER(futex(PAGE3, FUTEX_WAIT, NOT_THE_VALUE, 0), -EFAULT,
	       BY_CLASS(-EAGAIN, -EFAULT, -EFAULT));
	DIFFER(futex(PAGE3, FUTEX_WAKE, 1, 0), -EFAULT, BY_CLASS(0, -EFAULT, -EFAULT));
#undef PAGE3
	EXPECT_INTACT();
}

struct waiter {
	char *addr;
	unsigned int value;
	int op;
	long ret;
	atomic_bool done;
};

static void *wait_on_futex(void *arg)
{
	struct waiter *w = arg;

	w->ret = futex(w->addr, w->op, w->value, 999999999);
	atomic_store(&w->done, true);
	return NULL;
}

/* Another thread waits, this one wakes it. Returns the result of the wait; 0 is success. */
static long wait_and_wake(char *addr, unsigned int value, int flag)
{
	struct waiter w = { .addr = addr, .value = value, .op = FUTEX_WAIT | flag };
	pthread_t thread;

	if (pthread_create(&thread, NULL, wait_on_futex, &w))
		return -ENOMEM;
	while (!atomic_load(&w.done) && futex(addr, FUTEX_WAKE | flag, 1, 0) != 1)
		sched_yield();
	pthread_join(thread, NULL);
	return w.ret;
}

TEST_F(pair, futex_between_threads)
{
	SAME(wait_and_wake(at(m, 1), 0x62626262, FUTEX_PRIVATE_FLAG), 0);
	SAME(wait_and_wake(at(m, 1), 0x62626262, 0), 0);
	DIFFER(wait_and_wake(at(m, 3), 0, FUTEX_PRIVATE_FLAG), -EFAULT, 0);
	DIFFER(wait_and_wake(at(m, 3), 0, 0), -EFAULT, BY_CLASS(0, -EFAULT, -EFAULT));
}

/* A child waits. This process can wake it only if both share the page. */
static long child_waits(char *addr, unsigned int value, long nanoseconds)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(-futex(addr, FUTEX_WAIT, value, nanoseconds));
	while (!waitpid(pid, &status, WNOHANG)) {
		futex(addr, FUTEX_WAKE, 1, 0);
		sched_yield();
	}
	return -WEXITSTATUS(status);
}

TEST_F(pair, futex_between_processes)
{
	/* In a private mapping each process has its own page, so the wait times out. */
	long timeout = BY_CLASS(100000000, 999999999, 999999999);

	SAME(child_waits(at(m, 1), 0x62626262, timeout), BY_CLASS(-ETIMEDOUT, 0, 0));
	DIFFER(child_waits(at(m, 3), 0, timeout), -EFAULT,
	       BY_CLASS(-ETIMEDOUT, -EFAULT, -EFAULT));
}

/* The copy in a child is opted in, and so is the copy in a grandchild. */
static const char *grandchild_shows(const struct side *m, char *board, int pages)
{
	pid_t pid = fork();

	if (!pid) {
		child_shows(m, board, pages);
		_exit(0);
	}
	return waitpid(pid, NULL, 0) == pid ? board : "no child";
}

TEST_F(pair, fork)
{
	const char *now[2] = { IF_WRITABLE("ABC!!!", "abc!!!"),
			       IF_WRITABLE("ABCwww", "abc000") };

	/* First with empty page tables, then with mapped pages. */
	for (int i = 0; i < 2; i++) {
		DIFFER_STR(child_shows(m, self->board, PAGES), "abc!!!", "abc000");
		DIFFER_STR(grandchild_shows(m, self->board, PAGES), "abc!!!", "abc000");
		SHOWS("abc!!!", "abc000");
	}
	/* Stores of a child, then stores of the parent before the fork. */
	DIFFER_STR(child_puts(m, self->board, PAGES), IF_WRITABLE("www!!!", "------"),
		   IF_WRITABLE("wwwwww", "------"));
	SHOWS(BY_CLASS("abc!!!", "abc!!!", now[0]), BY_CLASS("abc000", "abc000", now[1]));
	if (IS_WRITABLE())
		PUTS("www!!!", "wwwwww");
	DIFFER_STR(child_shows(m, self->board, PAGES), now[0], now[1]);
	DIFFER_STR(grandchild_shows(m, self->board, PAGES), now[0], now[1]);
}

/* After the fork the parent writes to the mapping, and unmaps it. */
static const char *child_after_munmap(const struct side *m, char *board)
{
	int go[2];
	pid_t pid;
	char byte;

	if (pipe(go))
		return "no pipe";
	pid = fork();
	if (!pid) {
		close(go[1]);
		read(go[0], &byte, 1);
		snprintf(board, page, "%s", shows(m, m->addr, PAGES));
		_exit(0);
	}
	put(m->addr, PAGES);
	munmap(m->addr, PAGES * page);
	close(go[1]);
	close(go[0]);
	return waitpid(pid, NULL, 0) == pid ? board : "no child";
}

TEST_F(pair, fork_then_munmap)
{
	DIFFER_STR(child_after_munmap(m, self->board), BY_CLASS("abc!!!", "abc!!!", "ABC!!!"),
		   BY_CLASS("abc000", "abc000", "ABCwww"));
	SHOWS("------", "------");
}

static int exec_true(void *name)
{
	execl("/bin/true", name, NULL);
	return 127;
}

extern char **environ;

TEST_F(pair, exec)
{
	static char * const args[] = { "true", NULL };
	int status = -1;
	pid_t pid;

	EXPECT_INTACT();
	EXPECT_EQ(in_child(exec_true, "true"), 0);
	ASSERT_EQ(posix_spawn(&pid, "/bin/true", NULL, NULL, args, environ), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
}

struct sharer {
	const struct side *m;
	char *board;
};

static int show_and_put(void *arg)
{
	struct sharer *s = arg;

	snprintf(s->board, page, "%s", shows(s->m, s->m->addr, PAGES));
	put(s->m->addr, PAGES);
	return 0;
}

static void *thread_show_and_put(void *arg)
{
	show_and_put(arg);
	return NULL;
}

/* What a thread sees, or a process that shares this one's memory, as after vfork(2). */
static const char *sharer_shows(const struct side *m, char *board, bool thread)
{
	struct sharer s = { .m = m, .board = board };
	size_t size = 64 * 1024;
	char *stack = malloc(size);
	pthread_t id;
	pid_t pid;

	if (thread)
		return pthread_create(&id, NULL, thread_show_and_put, &s) ||
			pthread_join(id, NULL) ? "no thread" : board;
	pid = clone(show_and_put, stack + size, CLONE_VM | CLONE_VFORK | SIGCHLD, &s);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		return "no child";
	free(stack);
	return board;
}

TEST_F(pair, vfork)
{
	DIFFER_STR(sharer_shows(m, self->board, false), "abc!!!", "abc000");
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
}

TEST_F(pair, threads)
{
	DIFFER_STR(sharer_shows(m, self->board, true), "abc!!!", "abc000");
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
}

/* Exits with all pages mapped: returns, or kills itself with SIGKILL. */
static int touch_and_end(void *arg)
{
	const struct sharer *s = arg;

	put(s->m->addr, PAGES);
	shows(s->m, s->m->addr, PAGES);
	if (s->board[0])
		kill(getpid(), SIGKILL);
	return 0;
}

TEST_F(pair, exit_with_everything_mapped)
{
	struct sharer sides[2] = {
		{ .m = &self->plain, .board = self->board },
		{ .m = &self->opted, .board = self->board },
	};

	SAME(in_child(touch_and_end, &sides[m == &self->opted]), 0);
	self->board[0] = 1;
	SAME(in_child(touch_and_end, &sides[m == &self->opted]), 128 + SIGKILL);
	SHOWS(BY_CLASS("abc!!!", "abc!!!", "ABC!!!"), BY_CLASS("abc000", "abc000", "ABCwww"));
}

/* The core file has the same ELF class (32 or 64 bits) as the program. */
#define Elf_Off		ElfW(Off)
#define Elf_Ehdr	ElfW(Ehdr)
#define Elf_Phdr	ElfW(Phdr)

/*
 * What the core file has for the mapping: as shows(), or "absent"; NULL if it is malformed. Sets
 * stored to the number of its pages there. The others are holes.
 */
static const char *core_shows(int fd, const struct side *m, int *stored)
{
	const char *found = NULL;
	Elf_Off end = 0;
	Elf_Ehdr head;
	Elf_Phdr seg;
	struct stat st;
	bool notes = false;

	if (fstat(fd, &st) || pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) || head.e_type != ET_CORE ||
	    head.e_phentsize != sizeof(seg) || head.e_phnum == PN_XNUM)
		return NULL;
	for (int i = 0; i < head.e_phnum; i++) {
		if (pread(fd, &seg, sizeof(seg), head.e_phoff + i * sizeof(seg)) != sizeof(seg))
			return NULL;
		notes |= seg.p_type == PT_NOTE;
		/* Segments must not overlap, and must be inside the file. */
		if (seg.p_offset < end || seg.p_offset + seg.p_filesz > (Elf_Off)st.st_size)
			return NULL;
		end = seg.p_offset + seg.p_filesz;
		if (seg.p_type != PT_LOAD || seg.p_vaddr != (unsigned long)m->addr)
			continue;
		if (found || seg.p_memsz != PAGES * page)
			return NULL;
		if (!seg.p_filesz)
			found = "absent";
		else if (pread(fd, foreign_buffer(), PAGES * page, seg.p_offset) == ALL_BYTES)
			found = shows(m, buffer(), seg.p_filesz / page);
		*stored = 0;
		for (Elf_Off pos = seg.p_offset; pos < end; pos += page)
			*stored += lseek(fd, pos, SEEK_DATA) == (off_t)pos;
	}
	return notes ? found : NULL;
}

static int core_pages(int fd, const struct side *m)
{
	int stored = -1;

	core_shows(fd, m, &stored);
	return stored;
}

#define CORE_SHOWS(filter, plain_picture, opted_picture) do {			\
	int fd = core_file(filter), stored;					\
										\
	ASSERT_GE(fd, 0) TH_LOG("no core");					\
	ASSERT_NE(core_shows(fd, &self->plain, &stored), NULL);			\
	ASSERT_NE(core_shows(fd, &self->opted, &stored), NULL);			\
	DIFFER_STR(core_shows(fd, m, &stored), plain_picture, opted_picture);	\
	close(fd);								\
} while (0)

/* In a core, pages that are not mapped, and cannot be, are holes. */
TEST_F(pair, core_dump)
{
	int fd = core_file("0xf");

	ASSERT_GE(fd, 0) TH_LOG("no core");
	SAME(core_pages(fd, m), 3);
	close(fd);
	/* Dump all kinds of memory; all kinds but that of the mapping; nothing. */
	CORE_SHOWS("0xf", "abc000", "abc000");
	CORE_SHOWS(variant->class == PRIVATE ? "0xa" : "0xd", "absent", "absent");
	CORE_SHOWS("0", "absent", "absent");
	EXPECT_INTACT();
	CORE_SHOWS("0xf", IF_WRITABLE("ABC000", "abc000"), IF_WRITABLE("ABCwww", "abc000"));
	/* Without mapped files. These are dumped: deleted files, and written private pages. */
	CORE_SHOWS("0x3", IF_WRITABLE("ABC000", "abc000"), IF_WRITABLE("ABCwww", "abc000"));
	CORE_SHOWS("0", "absent", "absent");
	if (variant->class == SHARED_WRITE) {
		/* What was stored past EOF is dumped even if it is not mapped. */
		SAME(madvise(m->addr, PAGES * page, MADV_DONTNEED), 0);
		CORE_SHOWS("0xf", "ABC000", "ABCwww");
	}
	SAME(madvise(m->addr, PAGES * page, MADV_DONTDUMP), 0);
	CORE_SHOWS("0xf", "absent", "absent");
}

#define PM_PRESENT	(1ULL << 63)
#define PM_FILE		(1ULL << 61)
#define PM_SOFT_DIRTY	(1ULL << 55)

static unsigned long long pte_of(const char *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned long long entry = 0;

	pread(fd, &entry, sizeof(entry), (unsigned long)addr / page * sizeof(entry));
	close(fd);
	return entry;
}

/* For each page: '.' if it is not mapped, 'f' if pagemap calls it file or shared, else 'p'. */
static const char *page_tables(const struct side *m)
{
	static char picture[PAGES + 1];

	for (int i = 0; i < PAGES; i++) {
		unsigned long long entry = pte_of(at(m, i));

		picture[i] = !(entry & PM_PRESENT) ? '.' : entry & PM_FILE ? 'f' : 'p';
	}
	return picture;
}

/* The zero page counts as 'p'. A shadow page counts as 'f', because it is shared. */
TEST_F(pair, pagemap)
{
	SHOWS("abc!!!", "abc000");
	DIFFER_STR(page_tables(m), "fff...", BY_CLASS("fffppp", "fffppp", "ffffff"));
	EXPECT_INTACT();
	DIFFER_STR(page_tables(m), BY_CLASS("ppp...", "fff...", "fff..."),
		   BY_CLASS("pppppp", "fffppp", "ffffff"));
	SAME(madvise(m->addr, PAGES * page, MADV_DONTNEED), 0);
	DIFFER_STR(page_tables(m), "......", "......");
}

/* Shadow pages count in the Rss of each process that maps them. The zero page does not. */
TEST_F(pair, smaps)
{
	long kb = page / 1024;

	SAME(smaps_of(m->addr, "Size", NULL), PAGES * kb);
	SAME(smaps_of(m->addr, "Rss", NULL), 0);
	SHOWS("abc!!!", "abc000");
	DIFFER(smaps_of(m->addr, "Rss", NULL), 3 * kb, BY_CLASS(3, 3, 6) * kb);
	EXPECT_INTACT();
	DIFFER(smaps_of(m->addr, "Rss", NULL), 3 * kb, BY_CLASS(6, 3, 6) * kb);
	DIFFER(smaps_of(m->addr, "Anonymous", NULL), BY_CLASS(3, 0, 0) * kb,
	       BY_CLASS(6, 0, 0) * kb);
	/* How to tell an opted-in mapping in smaps. */
	DIFFER(HAS_FLAG(m->addr, "mm"), 0, !IS_ORDINARY_VMA);
	DIFFER(HAS_FLAG(m->addr, "gu"), 0, !IS_ORDINARY_VMA);
	DIFFER(HAS_FLAG(m->addr, "nh"), 0, !IS_ORDINARY_VMA);
	DIFFER(HAS_FLAG(m->addr, "ns"), 0, IS_ORDINARY_VMA);
	/* VM_MAYWRITE: the mapping can be made writable. */
	DIFFER(HAS_FLAG(m->addr, "mw"), 1, BY_CLASS(1, 0, 1));
}

static int clear(const char *what)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	int ret = write(fd, what, strlen(what)) < 0 ? -errno : 0;

	close(fd);
	return ret;
}

static bool soft_dirty(const char *addr)
{
	return pte_of(addr) & PM_SOFT_DIRTY;
}

TEST_F(pair, clear_refs)
{
	bool tracked, seen;

	SHOWS("abc!!!", "abc000");
	self->board[0] = 1;
	tracked = soft_dirty(self->board);
	ASSERT_EQ(clear("1"), 0);
	ASSERT_EQ(clear("4"), 0);
	for (int i = 0; i < PAGES; i++)
		SAME(soft_dirty(at(m, i)), false);
	EXPECT_INTACT();
	seen = tracked && IS_WRITABLE();
	for (int i = 0; i < FILE_PAGES; i++)
		SAME(soft_dirty(at(m, i)), seen);
	for (int i = FILE_PAGES; i < PAGES; i++)
		DIFFER(soft_dirty(at(m, i)), false, seen);
}

TEST_HARNESS_MAIN
