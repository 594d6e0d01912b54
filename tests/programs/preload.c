// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that does what the preload library of "nosigbus run" has to cope with,
 * one thing at a time, in the directory that it is started in.
 *
 * usage: preload CASE [ARGUMENT]
 *
 * Exits with 1 and says why if the outcome is not that of a plain program; SIGBUS
 * kills it, as it does plain programs that access mappings past end-of-file.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/nosigbus.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof(*(a)))
#define SENTINEL	12345

static size_t page;
static const char *argument;

#define must(condition) do {							\
	if (!(condition)) {							\
		fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__,		\
			#condition, errno);					\
		exit(1);							\
	}									\
} while (0)

/* A new file of so many pages, each full of its number, from 1 on. */
static int file_of(int pages)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	char content[page];

	must(fd >= 0);
	for (int i = 0; i < pages; i++) {
		memset(content, i + 1, page);
		must(pwrite(fd, content, page, i * page) == (ssize_t)page);
	}
	return fd;
}

static char *map_at(void *addr, int fd, int pages, int prot, int flags)
{
	char *map = mmap(addr, pages * page, prot, flags, fd, 0);

	must(map != MAP_FAILED);
	return map;
}

static char *map_file(int fd, int pages, int prot)
{
	return map_at(NULL, fd, pages, prot, MAP_SHARED);
}

static char load(const char *addr)
{
	return *(const volatile char *)addr;
}

static void store(char *addr, char value)
{
	*(volatile char *)addr = value;
}

/* Asks the module. Its device is not the library's. */
static int opted_in(const void *addr)
{
	struct nosigbus_status status = { .addr = (uintptr_t)addr };
	int dev = open("/dev/nosigbus", O_RDWR | O_CLOEXEC);
	int failed;

	must(dev >= 0);
	failed = ioctl(dev, NOSIGBUS_STATUS, &status);
	close(dev);
	return !failed;
}

/* The number that the library's device has; -1 if there is none. */
static int device_fd(void)
{
	struct stat st, device;

	must(!stat("/dev/nosigbus", &device));
	for (int fd = 0; fd < 1024; fd++)
		if (!fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == device.st_rdev)
			return fd;
	return -1;
}

static void reads_past_eof(void)
{
	int fd = file_of(2);
	char *map = map_file(fd, 2, PROT_READ);

	must(load(map + page) == 2);
	must(!ftruncate(fd, 0));
	must(load(map + page) == 0);
}

/* All functions and classes. */
static void maps_in_all_ways(void)
{
	__typeof__(mmap) *next = dlsym(RTLD_DEFAULT, "mmap");
	const int flags[] = { MAP_PRIVATE, MAP_SHARED, MAP_SHARED };
	const int prot[] = { PROT_READ | PROT_WRITE, PROT_READ, PROT_READ | PROT_WRITE };

	must(next);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		int fd = file_of(2);
		void *maps[] = {
			mmap(NULL, 2 * page, prot[i], flags[i], fd, 0),
			mmap64(NULL, 2 * page, prot[i], flags[i], fd, 0),
			next(NULL, 2 * page, prot[i], flags[i], fd, 0),
			/* A length that does not end with a page. */
			mmap(NULL, page + 1, prot[i], flags[i], fd, 0),
			/* All of it past EOF from the start. */
			mmap(NULL, 4 * page, prot[i], flags[i], fd, 2 * page),
		};

		must(!ftruncate(fd, 0));
		for (size_t k = 0; k < ARRAY_SIZE(maps); k++) {
			must(maps[k] != MAP_FAILED);
			must(load((char *)maps[k] + page) == 0);
			if (prot[i] & PROT_WRITE) {
				store((char *)maps[k] + page, 7);
				must(load((char *)maps[k] + page) == 7);
			}
		}
	}
}

static void *map_in_library(int fd, size_t len)
{
	void *library = dlopen(argument, RTLD_NOW | RTLD_LOCAL);
	void *(*map)(int fd, size_t len);

	must(library);
	map = dlsym(library, "map_a_file");
	must(map);
	return map(fd, len);
}

static void library_maps(void)
{
	int fd = file_of(2);
	char *map = map_in_library(fd, 2 * page);

	must(map != MAP_FAILED);
	must(!ftruncate(fd, 0));
	must(load(map) == 0);
}

static void keeps_errno(void)
{
	int fd = file_of(2), zero = open("/dev/zero", O_RDWR);
	int none = open("/dev/null", O_WRONLY);
	char *map, *device;

	errno = SENTINEL;
	map = map_file(fd, 2, PROT_READ);
	must(errno == SENTINEL && opted_in(map));
	errno = SENTINEL;
	/* Cannot be opted in. */
	device = map_file(zero, 1, PROT_READ);
	must(errno == SENTINEL);
	must(!opted_in(device));
	errno = SENTINEL;
	must(map_at(device, zero, 1, PROT_READ, MAP_SHARED | MAP_FIXED) == device);
	must(errno == SENTINEL);
	must(map_at(device, fd, 1, PROT_READ, MAP_SHARED | MAP_FIXED) == device);
	must(errno == SENTINEL && load(device) == 1);
	must(opted_in(device));
	errno = SENTINEL;
	must(!mprotect(map, page, PROT_NONE) && errno == SENTINEL);
	must(mremap(map, 2 * page, page, 0) == map && errno == SENTINEL);
	must(!munmap(map, page) && errno == SENTINEL);
	map_at(NULL, -1, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	/* Of a file that is given all the same. */
	map = map_at(NULL, fd, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	must(errno == SENTINEL && load(map) == 0);

	must(mmap(NULL, page, PROT_READ, MAP_SHARED, 1023, 0) == MAP_FAILED && errno == EBADF);
	must(mmap(NULL, page, PROT_READ, MAP_SHARED, -1, 0) == MAP_FAILED && errno == EBADF);
	must(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
	must(mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED && errno == EINVAL);
	must(mmap(NULL, page, PROT_READ, MAP_SHARED, none, 0) == MAP_FAILED && errno == EACCES);
	must(munmap(map + 1, page) == -1 && errno == EINVAL);
	must(mprotect(map + 1, page, PROT_READ) == -1 && errno == EINVAL);
	must(mremap(map, page, page, 1 << 20) == MAP_FAILED && errno == EINVAL);
	must(mremap(NULL, page, 2 * page, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
}

/* Where the device cannot be opened, all is plain. */
static void plain_without_device(void)
{
	int fd = file_of(1);
	char *map;

	must(open("/dev/nosigbus", O_RDWR) == -1);
	errno = SENTINEL;
	map = map_file(fd, 1, PROT_READ);
	must(errno == SENTINEL);
	must(load(map) == 1);
	must(!munmap(map, page));
	must(errno == SENTINEL);
}

static int shared_fd;

static void *map_one_page(void *offset)
{
	for (int i = 0; i < 300; i++) {
		char *map = mmap(NULL, page, PROT_READ, MAP_SHARED, shared_fd, (uintptr_t)offset);

		must(map != MAP_FAILED && opted_in(map));
		/* In its own place. */
		must(mmap(map, page, PROT_READ, MAP_SHARED | MAP_FIXED, shared_fd,
			  (uintptr_t)offset) == map);
		must(opted_in(map));
		must(!munmap(map, page));
	}
	return NULL;
}

/* Parts of a file that continue each other, which the kernel makes one mapping of. */
static void threads_map_neighbours(void)
{
	pthread_t threads[2];

	shared_fd = file_of(2);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_create(&threads[i], NULL, map_one_page, (void *)(i * page)));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_join(threads[i], NULL));
}

/* How many mappings have this in their line of the list of all. */
static int count_mappings(const char *what)
{
	FILE *maps = fopen("/proc/thread-self/maps", "re");
	char line[4500];
	int count = 0;

	must(maps);
	while (fgets(line, sizeof(line), maps))
		count += !!strstr(line, what);
	fclose(maps);
	return count;
}

/* Huge pages cannot be opted in, and are mapped where they are wanted alone. */
static void maps_huge_pages(void)
{
	const int flags = MAP_SHARED | MAP_NORESERVE;
	int fd = memfd_create("of-huge-pages", MFD_HUGETLB | MFD_CLOEXEC);
	char *map;

	must(fd >= 0);
	map = map_at(NULL, fd, 1, PROT_READ, flags);
	must(count_mappings("of-huge-pages") == 1);
	must(map_at(map, fd, 1, PROT_READ, flags | MAP_FIXED) == map);
	must(count_mappings("of-huge-pages") == 1);
}

static pthread_t main_thread;

static void *outlive_main(void *unused)
{
	int fd = file_of(1);
	char *map = map_file(fd, 1, PROT_READ);

	must(!pthread_join(main_thread, NULL));
	/* Until the kernel has it exit as well. */
	for (char state = 0; state != 'Z';) {
		FILE *stat = fopen("/proc/self/stat", "re");

		must(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1);
		fclose(stat);
	}
	must(!mprotect(map, page, PROT_READ | PROT_WRITE));
	store(map, 3);
	must(opted_in(map));
	exit(0);
	return unused;
}

static void thread_outlives_main(void)
{
	pthread_t thread;

	main_thread = pthread_self();
	must(!pthread_create(&thread, NULL, outlive_main, NULL));
	pthread_exit(NULL);
}

static void forks(void)
{
	int fd = file_of(2), status;
	char *inherited = map_file(fd, 2, PROT_READ | PROT_WRITE);

	must(!ftruncate(fd, page));
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();

		must(pid >= 0);
		if (!pid) {
			int own = file_of(1);
			char *map = map_file(own, 1, PROT_READ);

			must(!ftruncate(own, 0));
			must(load(map) == 0);
			store(inherited + page, load(inherited + page) + 1);
			_exit(0);
		}
		must(waitpid(pid, &status, 0) == pid && status == 0);
	}
	must(load(inherited + page) == 3);
}

static atomic_int stop;

/*
 * The next signal comes 2 ms after the last handler has returned. With a timer that goes on meanwhile
 * all threads would be in handlers all the time where a first stand-in takes longer than that: with
 * PREEMPT_RT it waits for a grace period that is not expedited.
 */
static void next_signal(void)
{
	const struct itimerval once = { .it_value = { 0, 2000 } };

	must(!setitimer(ITIMER_REAL, &once, NULL));
}

static void *map_and_unmap(void *unused)
{
	for (int i = 0; i < 50; i++) {
		int fd = file_of(1);
		char *map = map_file(fd, 1, PROT_READ);

		must(!ftruncate(fd, 0));
		must(load(map) == 0);
		must(!munmap(map, page));
		close(fd);
	}
	return unused;
}

static void in_handler(int signal)
{
	static int fd = -1;
	int saved = errno;
	char *map;

	if (fd < 0)
		fd = file_of(0);
	map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || load(map) || munmap(map, page))
		_exit(2);
	next_signal();
	errno = saved;
	(void)signal;
}

/* Threads that map, and a signal handler that does so, in whatever they are doing. */
static void threads_and_signals(void)
{
	pthread_t threads[4];

	must(signal(SIGALRM, in_handler) != SIG_ERR);
	next_signal();
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_create(&threads[i], NULL, map_and_unmap, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_join(threads[i], NULL));
}

static sigjmp_buf again;
static volatile sig_atomic_t handled;

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	handled++;
	siglongjmp(again, 1);
	(void)signal;
	(void)info;
	(void)context;
}

static void on_plain_sigbus(int signal)
{
	on_sigbus(signal, NULL, NULL);
}

/*
 * In a file system without space (the argument says whether its errors are
 * recorded), and past EOF of a mapping that is locked and so cannot be opted in.
 */
static void own_handler(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	int fd = file_of(1), sparse = file_of(0);
	char *map = map_file(fd, 1, PROT_READ), *locked, *full;

	must(!sigaction(SIGBUS, &action, NULL));
	must(!ftruncate(fd, 0));
	must(load(map) == 0 && !handled);

	fd = file_of(1);
	locked = map_at(NULL, fd, 1, PROT_READ, MAP_SHARED | MAP_LOCKED);
	must(!opted_in(locked));
	must(!ftruncate(fd, 0));
	if (!sigsetjmp(again, 1))
		load(locked);
	must(handled == 1);

	must(!ftruncate(sparse, 4096 * page));
	full = map_file(sparse, 4096, PROT_READ | PROT_WRITE);
	if (!sigsetjmp(again, 1))
		for (int i = 0; i < 4096; i++)
			store(full + i * page, 1);
	must(handled == (strcmp(argument, "recorded") ? 2 : 1));
}

/* Each error is told once, where the file system does not tell of any. */
static void syncs(void)
{
	int sparse = file_of(0), other = file_of(1);
	char *full;

	must(!ftruncate(sparse, 4096 * page));
	full = map_file(sparse, 4096, PROT_READ | PROT_WRITE);
	must(!msync(full, 4096 * page, MS_SYNC));
	for (int i = 0; i < 4095; i++)
		store(full + i * page, 1);
	errno = 0;
	must(fsync(other) == 0 && errno == 0);
	must(msync(full, 4096 * page, MS_SYNC) == -1 && errno == ENOSPC);
	must(!msync(full, 4096 * page, MS_SYNC));
	must(!fsync(sparse));
	store(full + 4095 * page, 1);
	must(fdatasync(sparse) == -1 && errno == ENOSPC);
	must(!fsync(sparse));
	must(fsync(-1) == -1 && errno == EBADF);
}

static void closes_all(void)
{
	int device = device_fd(), fd = file_of(1), number;
	struct stat before, after;
	char *map = map_file(fd, 1, PROT_READ);

	must(device >= 0);
	must(fcntl(device, F_GETFD) == FD_CLOEXEC);
	must(!close_range(3, ~0U, 0));
	must(device_fd() == -1);
	/* Files of ours at the number that it had, and at all that it might get. */
	fd = file_of(1);
	must(fd == 3);
	must(dup2(fd, device) == device && !fstat(device, &before));

	number = file_of(1);
	must(number == 4);
	map = map_file(number, 1, PROT_READ);
	must(opted_in(map));
	must(!fstat(device, &after) && before.st_ino == after.st_ino);
	must(device_fd() > device);
	/* The numbers go on as they would have. */
	must(file_of(1) == 5);
	must(!ftruncate(number, 0));
	must(load(map) == 0);
}

/* A limit that leaves no room for high numbers, and one that leaves none at all. */
static void few_descriptors(void)
{
	struct rlimit limit = { 20, 20 };
	int fd;
	char *map;

	must(!close_range(3, ~0U, 0));
	must(!setrlimit(RLIMIT_NOFILE, &limit));
	fd = file_of(1);
	for (int i = fd + 1; i < 20; i++)
		must(dup2(fd, i) == i);
	must(open("/dev/null", O_RDONLY) == -1 && errno == EMFILE);
	errno = SENTINEL;
	map = map_file(fd, 1, PROT_READ);
	must(errno == SENTINEL && load(map) == 1);
	/* One of them is for opted_in(). */
	close(18);
	close(19);
	map = map_file(fd, 1, PROT_READ);
	must(opted_in(map));
}

static char *lost(const char *name, int pages, int prot, int flags);

/* The library cannot look at what was lost as long as there is no descriptor left, but does then. */
static void runs_out_of_descriptors(void)
{
	struct rlimit limit = { 20, 20 };
	int fd = file_of(1);

	must(!setrlimit(RLIMIT_NOFILE, &limit));
	load(lost("lost", 1, PROT_READ, MAP_SHARED));
	while (dup(fd) >= 0)
		;
	must(errno == EMFILE);
	map_file(fd, 1, PROT_READ);
	must(!close_range(fd + 1, 19, 0));
	map_file(fd, 1, PROT_READ);
	/* What the library tells at the end is too late. */
	syscall(SYS_exit_group, 0);
}

/* A place for so many pages with nothing behind. */
static char *room_for(int pages)
{
	char *room = map_at(NULL, -1, pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);

	must(!munmap(room, pages * page));
	return room;
}

static void grows(void)
{
	for (int prot = PROT_READ; prot <= (PROT_READ | PROT_WRITE); prot += PROT_WRITE) {
		int fd = file_of(4);
		char *room = room_for(8), *map, *moved;

		map = map_at(room, fd, 2, prot, MAP_SHARED | MAP_FIXED);
		errno = SENTINEL;
		/* It may not be moved: as if there was no room. */
		must(mremap(map, 2 * page, 4 * page, 0) == MAP_FAILED && errno == ENOMEM);
		must(load(map + page) == 2);
		errno = SENTINEL;
		moved = mremap(map, 2 * page, 4 * page, MREMAP_MAYMOVE);
		must(moved != MAP_FAILED && errno == SENTINEL);
		must(load(moved) == 1 && load(moved + 3 * page) == 4);
		must(moved != map);
		/* Nothing is left where it was, nor behind. */
		must(msync(room, page, MS_ASYNC) == -1 && errno == ENOMEM);
		must(msync(room + 2 * page, page, MS_ASYNC) == -1 && errno == ENOMEM);
		must(!ftruncate(fd, 0));
		must(load(moved + 3 * page) == 0);
		/* By hand, and what cannot be had. */
		room = room_for(6);
		map = mremap(moved, 4 * page, 6 * page, MREMAP_MAYMOVE | MREMAP_FIXED, room);
		must(map == room && load(map + 5 * page) == 0);
		errno = SENTINEL;
		must(mremap(map, 6 * page, (size_t)1 << 46, MREMAP_MAYMOVE) != MAP_FAILED ||
		     errno == ENOMEM);
	}
	/* An anonymous one does as ever. */
	{
		char *room = room_for(4);
		char *map = map_at(room, -1, 1, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);

		must(mremap(map, page, 2 * page, 0) == map);
	}
}

static void *read_all_the_time(void *map)
{
	/* Five pages, of which at least the last is past EOF. */
	while (!atomic_load(&stop))
		for (int i = 0; i < 5; i++)
			load((char *)map + i * page);
	return NULL;
}

static void becomes_writable(void)
{
	int fd = file_of(5), closed = file_of(3), two = file_of(2);
	char path[64], *map, *room;
	pthread_t reader;

	/* Part of a mapping, while another thread reads it past EOF. */
	map = map_file(fd, 5, PROT_READ);
	must(opted_in(map));
	must(!ftruncate(fd, 2 * page));
	must(!pthread_create(&reader, NULL, read_all_the_time, map));
	errno = SENTINEL;
	for (int i = 0; i < 60; i++) {
		must(!mprotect(map + page, 3 * page, PROT_READ | PROT_WRITE));
		/* As it was. */
		must(map_at(map, fd, 5, PROT_READ, MAP_SHARED | MAP_FIXED) == map);
	}
	must(errno == SENTINEL);
	must(!mprotect(map + page, 3 * page, PROT_READ | PROT_WRITE));
	store(map + page, 8);
	must(pread(fd, path, 1, page) == 1 && path[0] == 8);
	store(map + 3 * page, 9);
	must(load(map + 3 * page) == 9 && load(map + 4 * page) == 0);
	for (int i = 0; i < 5; i++)
		must(opted_in(map + i * page));
	atomic_store(&stop, 1);
	must(!pthread_join(reader, NULL));

	/* Several at once, one of which has no need. */
	room = room_for(5);
	map = map_at(room, two, 2, PROT_READ, MAP_SHARED | MAP_FIXED);
	map_at(room + 2 * page, closed, 3, PROT_READ, MAP_PRIVATE | MAP_FIXED);
	must(!ftruncate(two, 0) && !ftruncate(closed, 0));
	must(!mprotect(map, 5 * page, PROT_READ | PROT_WRITE));
	store(map, 1);
	store(map + 4 * page, 2);
	must(load(map) == 1 && load(map + 4 * page) == 2);

	/* One that may not become writable, with any function. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file_of(1));
	fd = open(path, O_RDONLY);
	must(fd >= 0);
	map = map_file(fd, 1, PROT_READ);
	must(mprotect(map, page, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
	must(pkey_mprotect(map, page, PROT_READ | PROT_WRITE, -1) == -1 && errno == EACCES);
	must(opted_in(map) && load(map) == 1);

	map = map_file(file_of(1), 1, PROT_READ);
	must(!pkey_mprotect(map, page, PROT_READ | PROT_WRITE, -1));
	store(map, 3);

	/* One whose copy cannot be opted in, because it is locked. */
	map = map_file(file_of(1), 1, PROT_READ);
	must(opted_in(map) && !mlockall(MCL_FUTURE));
	must(!mprotect(map, page, PROT_READ | PROT_WRITE));
	must(!munlockall());
	store(map, 3);

	/* A hole behind it. */
	room = room_for(2);
	map = map_at(room, two, 1, PROT_READ, MAP_SHARED | MAP_FIXED);
	must(mprotect(map, 2 * page, PROT_READ | PROT_WRITE) == -1 && errno == ENOMEM);
}

static pthread_barrier_t turn;
static char *to_write;

static void *write_a_byte(void *index)
{
	for (int i = 0; i < 200; i++) {
		pthread_barrier_wait(&turn);
		must(!mprotect(to_write, page, PROT_READ | PROT_WRITE));
		store(to_write + (uintptr_t)index, 1);
		pthread_barrier_wait(&turn);
	}
	return NULL;
}

/* Threads that make the same mapping writable: what each writes past EOF stays. */
static void threads_make_writable(void)
{
	int fd = file_of(0);
	pthread_t threads[2];

	must(!pthread_barrier_init(&turn, NULL, 3));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_create(&threads[i], NULL, write_a_byte, (void *)i));
	for (int i = 0; i < 200; i++) {
		to_write = map_file(fd, 1, PROT_READ);
		pthread_barrier_wait(&turn);
		pthread_barrier_wait(&turn);
		must(load(to_write) == 1 && load(to_write + 1) == 1);
		must(!munmap(to_write, page));
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_join(threads[i], NULL));
}

static char *early;

static void before_constructors(void)
{
	int fd = memfd_create("early", 0);

	early = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, fd, 0);
}

[[gnu::section(".preinit_array"), gnu::used]]
static void (*preinit)(void) = before_constructors;

static void maps_early(void)
{
	must(early && early != MAP_FAILED);
	must(load(early) == 0);
}

/* An allocator that maps files, which everything in the program uses. */
static atomic_int own_allocator;
static _Thread_local int allocating;
__typeof__(malloc) __libc_malloc;

void *malloc(size_t size)
{
	void *map;
	int fd;

	if (!own_allocator || allocating)
		return __libc_malloc(size);
	allocating = 1;
	fd = memfd_create("heap", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size))
		_exit(3);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	allocating = 0;
	return map == MAP_FAILED ? NULL : map;
}

static void allocator_maps(void)
{
	own_allocator = 1;
	for (int i = 0; i < 100; i++) {
		char *memory = malloc(100);

		must(memory && opted_in(memory));
		memory[99] = 1;
	}
	own_allocator = 0;
}

/* What is called between two calls of sched_yield is counted. */
static void maps_anonymous(void)
{
	for (int i = 0; i < 40; i++) {
		char *map;

		if (i == 10)
			must(!sched_yield());
		map = map_at(NULL, -1, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
		must(!mprotect(map, page, PROT_NONE));
		must(!munmap(map, page));
	}
	must(!sched_yield());
}

/* What --stats is asked about. Each maps the files that it names; all are empty then. */

static char *lost(const char *name, int pages, int prot, int flags)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *map;

	must(fd >= 0);
	map = map_at(NULL, fd, pages, prot, flags);
	must(!close(fd));
	return map;
}

static void stats_of_each_kind(void)
{
	char *map = lost("read", 4, PROT_READ, MAP_SHARED);

	/* The last one first, so that none is mapped ahead. */
	for (int i = 3; i-- > 0;)
		load(map + i * page);
	/* In parts. */
	must(!munmap(map + page, page));
	map = lost("written", 2, PROT_READ | PROT_WRITE, MAP_SHARED);
	store(map, 1);
	map = lost("private", 2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	store(map, 1);
	load(map + page);
	lost("untouched", 1, PROT_READ, MAP_SHARED);
}

static void stats_of_unmapped(void)
{
	char *map = lost("unmapped", 4, PROT_READ, MAP_SHARED);

	load(map);
	must(!munmap(map, 2 * page));
	load(map + 2 * page);
	must(!munmap(map + 2 * page, 2 * page));
	must(!unlink("unmapped"));

	map = lost("replaced", 1, PROT_READ, MAP_SHARED);
	load(map);
	map_at(map, -1, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);

	map = lost("remapped", 1, PROT_READ, MAP_SHARED);
	load(map);
	must(mremap(map_at(NULL, -1, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), page, page,
		    MREMAP_MAYMOVE | MREMAP_FIXED, map) == map);

	map = lost("exchanged", 1, PROT_READ, MAP_SHARED);
	load(map);
	must(!mprotect(map, page, PROT_READ | PROT_WRITE));
}

static void stats_of_children(void)
{
	char *map = lost("parent", 1, PROT_READ, MAP_SHARED);
	pid_t pid;

	load(map);
	must(!munmap(map, page));
	map = lost("inherited", 1, PROT_READ, MAP_SHARED);
	load(map);
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		load(lost("child", 1, PROT_READ, MAP_SHARED));
		exit(0);
	}
	must(waitpid(pid, NULL, 0) == pid);
	/* It has nothing to tell. */
	pid = fork();
	must(pid >= 0);
	if (!pid)
		exit(0);
	must(waitpid(pid, NULL, 0) == pid);
}

static void *unmap_all_the_time(void *unused)
{
	for (int i = 0; i < 40; i++) {
		char name[32], *map;

		snprintf(name, sizeof(name), "thread-%d", gettid());
		map = lost(name, 1, PROT_READ, MAP_SHARED);
		load(map);
		must(!munmap(map, page));
	}
	return unused;
}

static void stats_of_threads(void)
{
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_create(&threads[i], NULL, unmap_all_the_time, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_join(threads[i], NULL));
}

static pthread_barrier_t barrier;

static void *unmap_at_once(void *maps)
{
	for (int i = 0; i < 40; i++) {
		pthread_barrier_wait(&barrier);
		must(!munmap(((char **)maps)[0], ((char **)maps)[1] - ((char **)maps)[0]));
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* Two mappings of one file that two threads unmap at once. */
static void stats_of_one_file(void)
{
	/* Where it is, and its end. */
	char *maps[2][2];
	pthread_t threads[2];

	must(!pthread_barrier_init(&barrier, NULL, 3));
	for (int k = 0; k < 2; k++)
		must(!pthread_create(&threads[k], NULL, unmap_at_once, maps[k]));
	for (int i = 0; i < 40; i++) {
		for (int k = 0; k < 2; k++) {
			maps[k][0] = lost("one", k + 1, PROT_READ, MAP_SHARED);
			maps[k][1] = maps[k][0] + (k + 1) * page;
			load(maps[k][0]);
		}
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
	}
	for (int k = 0; k < 2; k++)
		must(!pthread_join(threads[k], NULL));
}

/* Many mappings of two files by turns, which go at once. */
static void stats_of_many_at_once(void)
{
	char *room = room_for(40);

	for (int i = 0; i < 40; i++) {
		int fd = open(i % 2 ? "odd" : "even", O_RDWR | O_CREAT | O_TRUNC, 0600);

		must(fd >= 0);
		load(map_at(room + i * page, fd, 1, PROT_READ, MAP_SHARED | MAP_FIXED));
		must(!close(fd));
	}
	must(!munmap(room, 40 * page));
}

/* The number that the library's device has. */
static void prints_its_device(void)
{
	printf("%d\n", device_fd());
}

/*
 * Each of many mappings loses its page, and goes. They are there at once, or else one after the other;
 * then they are more than the library keeps. Prints the number that the library's device has.
 */
static void unmaps_many(void)
{
	static char *maps[1024];
	bool at_once = !strcmp(argument, "at_once");
	int count = ARRAY_SIZE(maps) + (at_once ? 0 : 32);

	printf("device %d\n", device_fd());
	fflush(stdout);
	for (int i = 0; at_once && i < count; i++)
		maps[i] = lost("lost", 1, PROT_READ, MAP_SHARED);
	for (int i = 0; i < count; i++) {
		if (!at_once)
			maps[i] = lost("lost", 1, PROT_READ, MAP_SHARED);
		load(maps[i]);
		must(!munmap(maps[i], page));
	}
}

/*
 * A child unmaps what its parent has opted in, after the parent has read as much of the kernel's list
 * as it may: 16384 lines, and it reads the list twice for each mapping that it unmaps. What is lost
 * there is the parent's to tell.
 */
static void child_unmaps(void)
{
	static char *maps[1024];
	int status;
	pid_t child;

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
		maps[i] = lost("lost", 1, PROT_READ, MAP_SHARED);
	for (int i = 0; i < 16; i++) {
		load(maps[i]);
		must(!munmap(maps[i], page));
	}
	load(maps[16]);
	child = fork();
	must(child >= 0);
	if (!child) {
		must(!munmap(maps[16], page));
		_exit(0);
	}
	must(waitpid(child, &status, 0) == child && !status);
}

/* An inode that has one path after the other. */
static void stats_of_renamed(void)
{
	char *map = lost("first", 1, PROT_READ, MAP_SHARED);

	load(map);
	must(!munmap(map, page));
	must(!rename("first", "second"));
	map = lost("second", 2, PROT_READ, MAP_SHARED);
	load(map);
	must(!munmap(map, 2 * page));
	must(!rename("second", "third"));
	load(lost("third", 3, PROT_READ, MAP_SHARED));
}

static void stats_at_end(void)
{
	char name[] = "true", *argv[2] = { name };

	load(lost("end", 1, PROT_READ, MAP_SHARED));
	if (!strcmp(argument, "exit"))
		exit(3);
	if (!strcmp(argument, "_exit"))
		_exit(3);
	if (!strcmp(argument, "_Exit"))
		_Exit(3);
	if (!strcmp(argument, "quick_exit"))
		quick_exit(3);
	if (!strcmp(argument, "closed")) {
		close(STDERR_FILENO);
		exit(3);
	}
	if (!strcmp(argument, "close_all")) {
		must(!close_range(3, ~0U, 0));
		/* At all numbers, which it is not to write to. */
		for (int fd = 3; fd < 500; fd++)
			must(openat(AT_FDCWD, "victim", O_RDWR | O_CREAT, 0600) == fd);
		load(lost("later", 1, PROT_READ, MAP_SHARED));
		exit(3);
	}
	if (!strcmp(argument, "thread"))
		pthread_exit(NULL);
	if (!strcmp(argument, "execv"))
		execv("/bin/true", argv);
	if (!strcmp(argument, "execve"))
		execve("/bin/true", argv, environ);
	if (!strcmp(argument, "execvp"))
		execvp("true", argv);
	if (!strcmp(argument, "execvpe"))
		execvpe("true", argv, environ);
	if (!strcmp(argument, "fexecve"))
		fexecve(open("/bin/true", O_RDONLY | O_CLOEXEC), argv, environ);
	must(!"left");
}

static void close_stderr(void)
{
	close(STDERR_FILENO);
}

/*
 * Loses what it reads or, if the argument begins with a w, what it writes, and ends well, in the way
 * that is behind the colon.
 */
static void ends_well(void)
{
	char name[] = "preload", nothing[] = "ends_nothing", *argv[] = { name, nothing, NULL };
	const char *how = strchr(argument, ':') + 1;
	bool writes = argument[0] == 'w';
	char self[4096] = { 0 };
	int status;
	pid_t child = strcmp(how, "fork") ? 0 : fork();

	must(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	if (child > 0) {
		must(waitpid(child, &status, 0) == child && WIFEXITED(status));
		must(WEXITSTATUS(status) == (writes ? 74 : 65));
		return;
	}
	if (writes)
		store(lost("lost", 1, PROT_READ | PROT_WRITE, MAP_SHARED), 1);
	else
		load(lost("lost", 1, PROT_READ, MAP_SHARED));
	if (!strcmp(how, "exit") || !strcmp(how, "fork"))
		exit(0);
	if (!strcmp(how, "_exit"))
		_exit(0);
	if (!strcmp(how, "_Exit"))
		_Exit(0);
	if (!strcmp(how, "quick_exit"))
		quick_exit(0);
	if (!strcmp(how, "thread"))
		pthread_exit(NULL);
	if (!strcmp(how, "closed"))
		atexit(close_stderr);
	if (!strcmp(how, "execv"))
		execv(self, argv);
	if (!strcmp(how, "execve"))
		execve(self, argv, environ);
	if (!strcmp(how, "execvp"))
		execvp(self, argv);
	if (!strcmp(how, "execvpe"))
		execvpe(self, argv, environ);
	if (!strcmp(how, "fexecve"))
		fexecve(open(self, O_RDONLY | O_CLOEXEC), argv, environ);
	/* What is buffered is not lost. */
	puts("ended");
}

/* Has the file of the argument mapped, and not open. */
static void holds_a_mapping(void)
{
	int fd = open(argument, O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	map_at(NULL, fd, 1, PROT_READ, MAP_SHARED);
	must(!close(fd));
	must(puts("mapped") >= 0 && !fflush(stdout));
	pause();
}

/* Has a system call fail from here on. */
static void forbid(int number, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/*
 * Locks its memory map for ever, once its input has ended: it replaces a mapping of the file of the
 * argument, and the kernel waits for the page that another process reads, which the file's server
 * does not answer.
 */
static void locks_its_map(void)
{
	int fd = open(argument, O_RDONLY | O_CLOEXEC);
	char *map, byte;
	pid_t reader;

	must(fd >= 0);
	map = map_at(NULL, fd, 1, PROT_READ, MAP_PRIVATE);
	reader = fork();
	must(reader >= 0);
	if (!reader) {
		load(map);
		_exit(1);
	}
	must(read(STDIN_FILENO, &byte, 1) == 0);
	map_at(map, fd, 1, PROT_READ, MAP_PRIVATE | MAP_FIXED);
}

/*
 * The library searches for the processes that have a lost file. That takes little time, and leaves
 * nothing behind. The argument says what keeps the library from searching.
 */
static void is_told_in_time(void)
{
	bool in_namespace = !strcmp(argument, "namespace");
	struct timespec start, end;
	int fd = file_of(1), next, status;
	pid_t child;

	load(lost("lost", 1, PROT_READ, MAP_SHARED));
	if (!strcmp(argument, "filter"))
		forbid(SYS_clone, EPERM);
	if (in_namespace)
		must(!unshare(CLONE_NEWPID));
	next = dup(fd);
	must(next >= 0 && !close(next));
	must(!clock_gettime(CLOCK_MONOTONIC, &start));
	errno = SENTINEL;
	map_file(fd, 1, PROT_READ);
	must(errno == SENTINEL);
	must(!clock_gettime(CLOCK_MONOTONIC, &end));
	must(end.tv_sec - start.tv_sec < 10);
	must(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
	must(dup(fd) == next);
	if (in_namespace) {
		child = fork();
		must(child >= 0);
		if (!child)
			_exit(getpid() != 1);
		must(waitpid(child, &status, 0) == child && !status);
	}
}

static atomic_int searches, pidfds;

/* Counts the children that are there, and the file descriptors that tell of their end. */
static void *close_pidfds(void *first)
{
	siginfo_t child;

	pthread_barrier_wait(&barrier);
	while (!atomic_load(&stop)) {
		if (!waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT | __WALL))
			searches++;
		for (int fd = (intptr_t)first; fd < (intptr_t)first + 16; fd++)
			if (!syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) && !close(fd))
				pidfds++;
	}
	return NULL;
}

/*
 * While the library searches, another thread closes the file descriptors that tell of the end of a
 * process. There are none, so the library knows when its child has ended.
 */
static void closes_while_searching(void)
{
	int fd = file_of(1), next = dup(fd);
	pthread_t closer;

	must(next >= 0 && !close(next));
	must(!pthread_barrier_init(&barrier, NULL, 2));
	must(!pthread_create(&closer, NULL, close_pidfds, (void *)(intptr_t)next));
	pthread_barrier_wait(&barrier);
	load(lost("lost", 1, PROT_READ, MAP_SHARED));
	map_file(fd, 1, PROT_READ);
	must(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
	atomic_store(&stop, true);
	must(!pthread_join(closer, NULL));
	must(searches && !pidfds);
}

/* Takes the privileges that it runs with for good, as su does, and executes a program. */
static void becomes_root(void)
{
	char name[] = "true", *argv[] = { name, NULL };

	must(!geteuid() && !setresuid(0, 0, 0));
	execv("/usr/bin/true", argv);
	must(false);
}

/* What somebody else has left to it is its own, and not its child's. */
static void ends_nothing(void)
{
	char self[4096] = { 0 }, name[] = "preload", usage[] = "ends_child", *argv[] = { name, usage, NULL };
	int status;
	pid_t child = fork();

	must(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	if (!child) {
		execve(self, argv, environ);
		_exit(2);
	}
	must(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status));
	puts("ended");
}

static void ends_child(void)
{
}

/* A file system without space. */
static void fills(void)
{
	int fd = open("full", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *map;

	must(fd >= 0 && !ftruncate(fd, 4096 * page));
	map = map_file(fd, 4096, PROT_READ | PROT_WRITE);
	for (int i = 0; i < 4096; i++)
		store(map + i * page, 1);
}

/* Files that are unmapped before anything is said of them. */
static void loses_and_unmaps(void)
{
	for (int i = 0; i < 3; i++) {
		char name[16], *map;

		snprintf(name, sizeof(name), "lost-%d", i);
		map = lost(name, 1, PROT_READ, i ? MAP_SHARED : MAP_PRIVATE);
		load(map);
		must(!munmap(map, page));
	}
}

/* Many files lose their pages at once, and many mappings are found before them. */
static void loses_many_files(void)
{
	int fd = file_of(1);
	char *maps[64], name[16];

	forbid(SYS_clone, EPERM);
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		snprintf(name, sizeof(name), "lost-%zu", i);
		maps[i] = lost(name, 1, PROT_READ, MAP_SHARED);
	}
	for (int i = 0; i < 2000; i++)
		map_file(fd, 1, PROT_READ);
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
		load(maps[i]);
	map_file(fd, 1, PROT_READ);
	syscall(SYS_exit_group, 0);
}

/* Its handler is called if it is to be, for truncated files. */
static void handler_kept(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	int fd = file_of(1), other;
	char *map = map_file(fd, 1, PROT_READ);
	bool kept = !strcmp(argument, "kept");

	must(opted_in(map));
	if (!strcmp(argument, "signal"))
		must(signal(SIGBUS, on_plain_sigbus) != SIG_ERR);
	else
		must(!sigaction(SIGBUS, &action, NULL));
	kept |= !strcmp(argument, "signal");
	must(opted_in(map) == !kept);
	other = file_of(1);
	must(opted_in(map_file(other, 1, PROT_READ)) == !kept);
	must(!ftruncate(fd, 0));
	if (!sigsetjmp(again, 1))
		load(map);
	must(handled == kept);
}

/* Installs its handler time and again. */
static void changes_its_handler(void)
{
	int fd = file_of(1);

	for (int i = 0; i < 10; i++)
		map_file(fd, 1, PROT_READ);
	for (int i = 0; i < 5; i++) {
		must(signal(SIGBUS, on_plain_sigbus) != SIG_ERR);
		must(signal(SIGBUS, SIG_DFL) != SIG_ERR);
	}
}

static void shared_read_only(void)
{
	int fd = file_of(1);
	char *map = map_file(fd, 1, PROT_READ);

	must(opted_in(map));
	must(!opted_in(map_file(fd, 1, PROT_READ | PROT_WRITE)));
	must(opted_in(map_at(NULL, fd, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE)));
	must(!mprotect(map, page, PROT_READ | PROT_WRITE));
	must(!opted_in(map));
	store(map, 1);
}

/* How many KiB of its mappings are locked in memory. */
static int locked(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	int kib = -1;

	must(status);
	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmLck: %d", &kib);
	fclose(status);
	return kib;
}

static void locks(void)
{
	const int kib = page / 1024;
	char *map = map_file(file_of(2), 2, PROT_READ), *other = map_file(file_of(1), 1, PROT_READ);

	must(opted_in(map) && opted_in(other));
	if (!strcmp(argument, "mlock")) {
		must(!mlock(map, 2 * page) && locked() == 2 * kib);
		must(!mlock2(other, page, MLOCK_ONFAULT) && locked() == 3 * kib);
	} else if (!strcmp(argument, "mlockall")) {
		must(!mlockall(MCL_CURRENT) && locked() > 3 * kib);
	} else {
		must(!madvise(map, 2 * page, MADV_DONTDUMP) && !madvise(map, 2 * page, MADV_DODUMP));
		must(!madvise(other, page, MADV_DONTFORK) && !madvise(other, page, MADV_DOFORK));
		must(load(map + page) == 2);
		return;
	}
	must(!opted_in(map) && !opted_in(other));
	must(load(map + page) == 2);
}

static void becomes_writable_without_proc(void)
{
	char *map = map_file(file_of(2), 2, PROT_READ);

	must(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(!umount2("/proc", MNT_DETACH));
	must(!mprotect(map, 2 * page, PROT_READ | PROT_WRITE));
	store(map, 1);
	must(opted_in(map));
}

/* The next four are for many mappings. The argument is vm.max_map_count. */

/* More than there may be. */
static int too_many(void)
{
	int limit = atoi(argument);

	must(limit > 0);
	return limit + limit / 8;
}

/* As some databases and runtimes do. The kernel makes one mapping of all. */
static void maps_page_by_page(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600), many = too_many();
	char *map;

	must(fd >= 0 && !ftruncate(fd, many * page));
	map = map_at(NULL, -1, many, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	for (int i = 0; i < many; i++)
		must(mmap(map + i * page, page, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
			  i * page) != MAP_FAILED);
	must(opted_in(map) && !opted_in(map + (many - 1) * page));
	load(map + (many - 1) * page);
}

/*
 * As a pool of buffers does: every other page, and then those in between. The kernel makes one
 * mapping of all. Mappings that are not part of it stay opted in, also those of the same file.
 */
static void maps_every_other_page(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600), other = file_of(1), many = too_many();
	char *map, *apart[100];

	must(fd >= 0 && !ftruncate(fd, many * page));
	for (size_t i = 0; i < ARRAY_SIZE(apart); i++)
		apart[i] = map_file(i % 2 ? fd : other, 1, PROT_READ);
	map = room_for(many);
	for (int first = 0; first < 2; first++)
		for (int i = first; i < many; i += 2)
			must(mmap(map + i * page, page, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE,
				  fd, i * page) == map + i * page);
	must(!opted_in(map) && !opted_in(map + page));
	for (size_t i = 0; i < ARRAY_SIZE(apart); i++)
		must(opted_in(apart[i]));
}

/* As a server does for its clients: almost as many as there may be, and the kernel merges none. */
static void maps_apart(void)
{
	int fd = file_of(1), limit = atoi(argument);

	for (int i = 0; i < limit - limit / 8; i++)
		must(opted_in(map_file(fd, 1, PROT_READ)));
}

/* As a just-in-time compiler does that has its code not writable. */
static void protects_page_by_page(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600), many = too_many();
	char *map;

	must(fd >= 0 && !ftruncate(fd, many * page));
	map = map_file(fd, many, PROT_READ | PROT_WRITE);
	must(opted_in(map));
	for (int i = 0; i < many; i++) {
		must(!mprotect(map + i * page, page, PROT_READ));
		must(!mprotect(map + i * page, page, PROT_READ | PROT_WRITE));
	}
	must(!opted_in(map));
}

/* A sandbox that does not let it use the device. */
static void is_filtered(void)
{
	int fd = file_of(1);

	forbid(SYS_ioctl, EPERM);
	errno = SENTINEL;
	must(load(map_file(fd, 1, PROT_READ)) == 1);
	must(load(map_file(fd, 1, PROT_READ)) == 1 && errno == SENTINEL);
}

static void *map_without_mremap(void *offset)
{
	for (int i = 0; i < 300; i++) {
		char *map = mmap(NULL, page, PROT_READ, MAP_SHARED, shared_fd, (uintptr_t)offset);

		must(map != MAP_FAILED && load(map) == 1 + (int)((uintptr_t)offset / page));
		must(!munmap(map, page));
	}
	return NULL;
}

/* What the library moves into place cannot be moved: the program has its mapping all the same. */
static void mremap_fails(void)
{
	pthread_t threads[2];

	shared_fd = file_of(2);
	forbid(SYS_mremap, ENOMEM);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_create(&threads[i], NULL, map_without_mremap, (void *)(i * page)));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		must(!pthread_join(threads[i], NULL));
}

/* Loses a file, calls the library, says so, and waits for the end of its input. */
static void waits_after_a_call(void)
{
	char byte;

	load(lost("lost", 1, PROT_READ, MAP_SHARED));
	map_file(file_of(1), 1, PROT_READ);
	puts("mapped");
	fflush(stdout);
	must(read(STDIN_FILENO, &byte, 1) == 0);
	must(!"killed by now");
}

/* Maps a lost file, says so, and waits for the end of its input. */
static void waits(void)
{
	char *map = lost("shown", 4, PROT_READ | PROT_WRITE, MAP_SHARED), byte;

	store(map, 1);
	store(map + page, 1);
	puts("mapped");
	fflush(stdout);
	must(read(STDIN_FILENO, &byte, 1) == 0);
}

static void waits_with_hostile_names(void)
{
	int fd = memfd_create("\xff\x1b[31m\npid=1 range=0-1", MFD_CLOEXEC);
	char byte;

	must(!prctl(PR_SET_NAME, "x pid=1 \"\\"));
	load(map_at(NULL, fd, 1, PROT_READ, MAP_SHARED));
	puts("mapped");
	fflush(stdout);
	must(read(STDIN_FILENO, &byte, 1) == 0);
}

static void stats_of_hostile_name(void)
{
	load(lost("new\nline\x1b[2J", 1, PROT_READ, MAP_SHARED));
}

static const struct {
	const char *name;
	void (*function)(void);
} cases[] = {
	{ "reads_past_eof", reads_past_eof },
	{ "maps_in_all_ways", maps_in_all_ways },
	{ "library_maps", library_maps },
	{ "keeps_errno", keeps_errno },
	{ "plain_without_device", plain_without_device },
	{ "threads_map_neighbours", threads_map_neighbours },
	{ "maps_huge_pages", maps_huge_pages },
	{ "thread_outlives_main", thread_outlives_main },
	{ "forks", forks },
	{ "threads_and_signals", threads_and_signals },
	{ "own_handler", own_handler },
	{ "syncs", syncs },
	{ "closes_all", closes_all },
	{ "few_descriptors", few_descriptors },
	{ "runs_out_of_descriptors", runs_out_of_descriptors },
	{ "grows", grows },
	{ "becomes_writable", becomes_writable },
	{ "threads_make_writable", threads_make_writable },
	{ "maps_early", maps_early },
	{ "allocator_maps", allocator_maps },
	{ "maps_anonymous", maps_anonymous },
	{ "stats_of_each_kind", stats_of_each_kind },
	{ "stats_of_unmapped", stats_of_unmapped },
	{ "stats_of_children", stats_of_children },
	{ "stats_of_threads", stats_of_threads },
	{ "stats_of_one_file", stats_of_one_file },
	{ "stats_of_many_at_once", stats_of_many_at_once },
	{ "stats_of_hostile_name", stats_of_hostile_name },
	{ "waits_with_hostile_names", waits_with_hostile_names },
	{ "prints_its_device", prints_its_device },
	{ "unmaps_many", unmaps_many },
	{ "child_unmaps", child_unmaps },
	{ "stats_of_renamed", stats_of_renamed },
	{ "stats_at_end", stats_at_end },
	{ "waits", waits },
	{ "ends_well", ends_well },
	{ "ends_nothing", ends_nothing },
	{ "holds_a_mapping", holds_a_mapping },
	{ "locks_its_map", locks_its_map },
	{ "is_told_in_time", is_told_in_time },
	{ "closes_while_searching", closes_while_searching },
	{ "becomes_root", becomes_root },
	{ "ends_child", ends_child },
	{ "fills", fills },
	{ "loses_and_unmaps", loses_and_unmaps },
	{ "loses_many_files", loses_many_files },
	{ "handler_kept", handler_kept },
	{ "changes_its_handler", changes_its_handler },
	{ "shared_read_only", shared_read_only },
	{ "locks", locks },
	{ "becomes_writable_without_proc", becomes_writable_without_proc },
	{ "maps_page_by_page", maps_page_by_page },
	{ "maps_every_other_page", maps_every_other_page },
	{ "maps_apart", maps_apart },
	{ "protects_page_by_page", protects_page_by_page },
	{ "is_filtered", is_filtered },
	{ "mremap_fails", mremap_fails },
	{ "waits_after_a_call", waits_after_a_call },
};

int main(int argc, char *argv[])
{
	page = sysconf(_SC_PAGESIZE);
	argument = argc > 2 ? argv[2] : "";
	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(cases); i++) {
		if (!strcmp(cases[i].name, argv[1])) {
			cases[i].function();
			return 0;
		}
	}
	fprintf(stderr, "usage: preload CASE [ARGUMENT]\n");
	return 1;
}
