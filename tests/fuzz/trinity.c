// SPDX-License-Identifier: GPL-2.0-only
/*
 * What trinity is to know of /dev/nosigbus, as a library for LD_PRELOAD, because
 * the ioctls that it knows are compiled in. It makes each of its calls through
 * syscall(3), which is this library's here:
 *
 * - most of its ioctls go to the device instead, and before two of five other
 *   calls there is one more;
 * - some that act on memory or on a file get a mapping or a file of this library's;
 * - now and then there is a new mapping of such a file, the size of one changes,
 *   and the kernel is made to touch a mapping: that has to work where it is opted in.
 *
 * What is done depends on trinity's arguments alone, and so on its seed and on
 * what the kernel has answered.
 *
 * NOSIGBUS_FUZZ_FILES has the paths of files, with colons between them, the first
 * on a file system that may be full, and NOSIGBUS_FUZZ_COUNTS that of the file that
 * struct counts is in.
 */
#define _GNU_SOURCE
#include <linux/nosigbus.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_FILES	8
#define PLACES		16
#define MAX_PAGES	64
#define PAGE		4096UL
#define ERRNOS		134
#define SYSCALLS	512
#define SEEDS		64
#define ERRNO(e)	(1ULL << (e))

enum command { QUERY, ENABLE, DISABLE, STATUS, COMMANDS };

static const struct {
	unsigned long number;
	uint64_t documented;
} commands[COMMANDS] = {
	[QUERY] = { NOSIGBUS_QUERY, ERRNO(EFAULT) },
	/* And EOPNOTSUPP. */
	[ENABLE] = { NOSIGBUS_ENABLE, ERRNO(EINVAL) | ERRNO(EBADF) | ERRNO(ENOMEM) |
		     ERRNO(EFAULT) | ERRNO(EBUSY) | ERRNO(EINTR) },
	[DISABLE] = { NOSIGBUS_DISABLE, ERRNO(EINVAL) | ERRNO(ENOMEM) | ERRNO(EFAULT) |
		      ERRNO(ENOENT) | ERRNO(EINTR) },
	[STATUS] = { NOSIGBUS_STATUS, ERRNO(EINVAL) | ERRNO(EFAULT) | ERRNO(ENOMEM) |
		     ERRNO(ENOENT) | ERRNO(EINTR) },
};

union request {
	struct nosigbus_query query;
	struct nosigbus_enable enable;
	struct nosigbus_disable disable;
	struct nosigbus_status status;
	unsigned char bytes[128];
};

/*
 * Of all processes. tests/guest/fuzz.sh reads all but the last as numbers of eight
 * bytes and knows the order.
 */
struct counts {
	uint64_t calls, steered, mapped, resized;
	/*
	 * Accesses to mappings, to those that are opted in, the stand-ins that these
	 * got, and those that failed for no reason.
	 */
	uint64_t touched, touched_opted_in, zero_pages, private_pages, shadow_pages, lost;
	/* Answers of NOSIGBUS_STATUS that tell of these. */
	uint64_t told_given_back, told_errors;
	/* No command of the device, and answers that the header does not have. */
	uint64_t unknown, undocumented, last_undocumented;
	/* By errno, of which 0 is success. */
	uint64_t answers[COMMANDS][ERRNOS];
	/* Of trinity's own calls, by number. */
	uint64_t made[SYSCALLS], succeeded[SYSCALLS];
	/* How many processes have begun with a seed. */
	uint32_t begun[SEEDS];
};

/* Mappings of those files, if trinity has left them there. */
struct place {
	unsigned long addr, pages;
	bool opted_in;
};

static long (*real_syscall)(long number, ...);
static void (*real_srand)(unsigned int seed);
static struct counts *counts;
static int device = -1, event = -1, scratch = -1;
static int files[MAX_FILES];
static unsigned int nr_files;
static struct place places[PLACES];

static void add(uint64_t *counter, uint64_t number)
{
	__atomic_fetch_add(counter, number, __ATOMIC_RELAXED);
}

static void count(uint64_t *counter)
{
	add(counter, 1);
}

static uint64_t any(uint64_t *seed, uint64_t below)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (*seed >> 11) % below;
}

static bool chance(uint64_t *seed, unsigned int percent)
{
	return any(seed, 100) < percent;
}

__attribute__((constructor)) static void prepare(void)
{
	const char *paths = getenv("NOSIGBUS_FUZZ_FILES"), *path = getenv("NOSIGBUS_FUZZ_COUNTS");
	char *copy, *next;
	int fd;

	real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	real_srand = (void (*)(unsigned int))dlsym(RTLD_NEXT, "srand");
	fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	device = open("/dev/nosigbus", O_RDWR | O_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	scratch = memfd_create("scratch", MFD_CLOEXEC);
	copy = paths ? strdup(paths) : NULL;
	for (path = strtok_r(copy, ":", &next); path && nr_files < MAX_FILES - 2;
	     path = strtok_r(NULL, ":", &next))
		files[nr_files++] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; i < 2; i++)
		files[nr_files++] = memfd_create("fuzz", MFD_CLOEXEC);
	for (unsigned int i = 0; i < nr_files; i++)
		if (files[i] < 0)
			counts = MAP_FAILED;
	if (!real_syscall || !real_srand || counts == MAP_FAILED || device < 0 || event < 0 ||
	    scratch < 0 || ftruncate(scratch, PAGE)) {
		perror("trinity.so");
		_exit(2);
	}
	memset(counts->begun, 0, sizeof(counts->begun));
}

/*
 * The one that trinity calls in each new process. If it is told the seed, it gives
 * it to the one that follows a process that has ended as well, which would do the
 * same all over again.
 */
void srand(unsigned int seed)
{
	uint32_t begun = __atomic_fetch_add(&counts->begun[seed % SEEDS], 1, __ATOMIC_RELAXED);

	real_srand(seed + begun * 0x9e3779b1);
}

static unsigned long some_address(uint64_t *seed)
{
	const struct place *place = &places[any(seed, PLACES)];

	return place->addr + (place->pages ? any(seed, place->pages) * PAGE : 0);
}

/* In place of another, which mostly goes: a process may have so many mappings only. */
static void remember(uint64_t *seed, long addr, unsigned long len)
{
	struct place *place = &places[any(seed, PLACES)];

	if (addr == -1)
		return;
	if (place->pages && chance(seed, 90))
		real_syscall(SYS_munmap, place->addr, place->pages * PAGE);
	*place = (struct place){ .addr = addr, .pages = (len + PAGE - 1) / PAGE };
}

static void map(uint64_t *seed)
{
	unsigned long len = (1 + any(seed, MAX_PAGES)) * PAGE;

	count(&counts->mapped);
	remember(seed, real_syscall(SYS_mmap, 0, len,
				    chance(seed, 60) ? PROT_READ | PROT_WRITE : PROT_READ,
				    chance(seed, 70) ? MAP_SHARED : MAP_PRIVATE,
				    files[any(seed, nr_files)], any(seed, 8) * PAGE), len);
}

/* Mostly one that the command is for. */
static struct place *choose(uint64_t *seed, enum command cmd)
{
	unsigned int first = any(seed, PLACES);

	if (chance(seed, 15))
		return &places[first];
	for (unsigned int i = 0; i < PLACES; i++) {
		struct place *place = &places[(first + i) % PLACES];

		if (place->pages && place->opted_in == (cmd != ENABLE))
			return place;
	}
	return &places[first];
}

static union request some_request(uint64_t *seed, enum command cmd, const struct place *place)
{
	unsigned long addr = place->addr, len = place->pages * PAGE;
	union request request = {};

	if (chance(seed, 10))
		addr = some_address(seed);
	if (chance(seed, 10))
		len = (1 + any(seed, MAX_PAGES)) * PAGE;
	if (cmd == ENABLE) {
		request.enable.addr = addr;
		request.enable.len = len;
		if (chance(seed, 30))
			request.enable.flags |= NOSIGBUS_RECORD_ERRORS;
		if (chance(seed, 30)) {
			request.enable.flags |= NOSIGBUS_EVENTFD;
			request.enable.eventfd = event;
		}
	} else if (cmd == DISABLE) {
		request.disable.addr = addr;
		request.disable.len = len;
	} else if (cmd == STATUS) {
		request.status.addr = addr + (len ? any(seed, len) : 0);
		request.status.request = chance(seed, 50) ? NOSIGBUS_CLEAR_ERROR : 0;
	}
	if (chance(seed, 10))
		request.bytes[any(seed, sizeof(request))] ^= 1 << any(seed, 8);
	return request;
}

static bool documented(enum command cmd, int error)
{
	if (error == EOPNOTSUPP)
		return cmd == ENABLE;
	return error < 64 && commands[cmd].documented & ERRNO(error);
}

static void hear(const struct nosigbus_status *status)
{
	if (status->given_back)
		count(&counts->told_given_back);
	if (status->errors)
		count(&counts->told_errors);
}

/* trinity's pointer, which may be anything, in place of one in fifteen requests. */
static long ask(uint64_t *seed, long pointer)
{
	enum command cmd = any(seed, 20);
	union request request;
	struct place *place;
	unsigned long number;
	long result;

	cmd = cmd < 1 ? QUERY : cmd < 10 ? ENABLE : cmd < 14 ? DISABLE : STATUS;
	number = commands[cmd].number;
	if (cmd == ENABLE && chance(seed, 30))
		map(seed);
	place = choose(seed, cmd);
	request = some_request(seed, cmd, place);
	if (chance(seed, 3))
		number ^= 1UL << any(seed, 32);
	result = real_syscall(SYS_ioctl, device, number,
			      any(seed, 15) ? (long)&request : pointer);

	if (number != commands[cmd].number) {
		count(&counts->unknown);
		if (result != -1 || errno != ENOTTY)
			goto undocumented;
		return result;
	}
	if (!result) {
		count(&counts->answers[cmd][0]);
		if (cmd == ENABLE || cmd == DISABLE)
			place->opted_in = cmd == ENABLE;
		if (cmd == STATUS)
			hear(&request.status);
		return result;
	}
	count(&counts->answers[cmd][errno % ERRNOS]);
	if (documented(cmd, errno))
		return result;

undocumented:
	count(&counts->undocumented);
	counts->last_undocumented = (uint64_t)number << 32 | errno;
	return result;
}

static void resize(uint64_t *seed)
{
	unsigned int which = any(seed, nr_files);
	/* Mostly smaller than a mapping of it, but where larger ones have no room. */
	off_t size = any(seed, (which && chance(seed, 70) ? 4 : MAX_PAGES) * PAGE);

	count(&counts->resized);
	real_syscall(SYS_ftruncate, files[which],
		     chance(seed, 30) ? size : size - size % (long)PAGE);
}

static bool status_of(unsigned long addr, struct nosigbus_status *status)
{
	*status = (struct nosigbus_status){ .addr = addr };
	return !real_syscall(SYS_ioctl, device, NOSIGBUS_STATUS, status);
}

/* Whether there is no reason for an access to fail that may be with these flags. */
static bool has_to_work(unsigned long addr, unsigned int flags, unsigned int permission)
{
	struct procmap_query vma = {
		.size = sizeof(vma), .query_addr = addr, .query_flags = permission,
	};
	int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	bool permitted = !ioctl(maps, PROCMAP_QUERY, &vma);
	struct stat may_be_full;

	close(maps);
	if (!permitted || fstat(files[0], &may_be_full))
		return false;
	return flags & NOSIGBUS_RECORD_ERRORS || vma.inode != may_be_full.st_ino ||
	       vma.dev_minor != minor(may_be_full.st_dev);
}

/* Has the kernel do it, as trinity is not prepared for a signal here. */
static void touch(uint64_t *seed)
{
	bool writing = chance(seed, 50);
	const struct place *place = choose(seed, STATUS);
	unsigned long addr = place->addr + (place->pages ? any(seed, place->pages) * PAGE : 0);
	struct nosigbus_status before, after;
	bool opted_in = status_of(addr, &before);
	bool failed = real_syscall(writing ? SYS_pread64 : SYS_pwrite64, scratch, addr, 8, 0) < 0;

	count(&counts->touched);
	if (!opted_in || !status_of(addr, &after))
		return;
	count(&counts->touched_opted_in);
	add(&counts->zero_pages, after.zero_pages - before.zero_pages);
	add(&counts->private_pages, after.private_pages - before.private_pages);
	add(&counts->shadow_pages, after.shadow_pages - before.shadow_pages);
	hear(&after);
	if (failed && has_to_work(addr, after.flags, writing ? PROCMAP_QUERY_VMA_WRITABLE :
							       PROCMAP_QUERY_VMA_READABLE))
		count(&counts->lost);
}

/* What trinity's call is to act on: one of the mappings, or one of the files. */
static void steer(uint64_t *seed, long number, long *args)
{
	const struct place *place = &places[any(seed, PLACES)];
	unsigned long skipped = any(seed, place->pages + 1) * chance(seed, 30);

	count(&counts->steered);
	switch (number) {
	case SYS_mremap:
		args[4] = some_address(seed);
		args[2] %= MAX_PAGES * PAGE;
		/* fallthrough */
	case SYS_munmap:
	case SYS_mprotect:
	case SYS_pkey_mprotect:
	case SYS_madvise:
	case SYS_msync:
	case SYS_mincore:
	case SYS_mlock:
	case SYS_mlock2:
	case SYS_munlock:
	case SYS_mbind:
	case SYS_remap_file_pages:
		args[0] = place->addr + skipped * PAGE;
		args[1] = (place->pages - skipped) * PAGE;
		break;
	case SYS_read:
	case SYS_write:
	case SYS_pread64:
	case SYS_pwrite64:
		args[1] = some_address(seed);
		args[2] = any(seed, 3 * PAGE);
		break;
	case SYS_mmap:
		args[3] &= ~(MAP_ANONYMOUS | MAP_HUGETLB | MAP_GROWSDOWN);
		args[4] = files[any(seed, nr_files)];
		args[5] = any(seed, 8) * PAGE;
		break;
	case SYS_fallocate:
		args[3] = any(seed, MAX_PAGES) * PAGE;
		args[2] = any(seed, MAX_PAGES) * PAGE;
		/* fallthrough */
	case SYS_ftruncate:
		args[0] = files[any(seed, nr_files)];
		if (number == SYS_ftruncate)
			args[1] = any(seed, MAX_PAGES * PAGE);
	}
}

/* The one that trinity calls. */
long syscall(long number, ...)
{
	uint64_t seed = 0x9e3779b97f4a7c15 ^ number;
	long args[6], result;
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++) {
		args[i] = va_arg(list, long);
		seed = (seed ^ args[i]) * 0xff51afd7ed558ccd;
		seed ^= seed >> 32;
	}
	va_end(list);
	seed |= 1;

	count(&counts->calls);
	if (chance(&seed, 5) || !places[any(&seed, PLACES)].pages)
		map(&seed);
	if (chance(&seed, 10))
		resize(&seed);
	if (chance(&seed, 40))
		touch(&seed);
	if (number == SYS_ioctl && chance(&seed, 90))
		return ask(&seed, args[2]);
	if (chance(&seed, 40))
		ask(&seed, args[2]);
	if (chance(&seed, 60))
		steer(&seed, number, args);
	result = real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
	count(&counts->made[number % SYSCALLS]);
	if (result != -1)
		count(&counts->succeeded[number % SYSCALLS]);
	if (number == SYS_mremap && args[0] != result)
		remember(&seed, result, args[2]);
	return result;
}
