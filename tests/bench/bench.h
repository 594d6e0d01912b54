/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the benchmarks share. Each prints a line "value CONTEST SUBJECT NUMBER" for each
 * measurement. tests/bench.py reads these lines.
 */
#ifndef _NOSIGBUS_BENCH_H
#define _NOSIGBUS_BENCH_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../selftests/implementation.h"
#include "profile.h"

#define PAGE	4096UL
/* A wl_shm buffer of 1920x1080 pixels: 2025 pages. */
#define BUFFER	(1920UL * 1080 * 4)

typedef unsigned long long u64;

/* For calls that must not fail, because there would be nothing to measure. */
#define MUST(call) must((long)(call), #call)

static inline long must(long result, const char *call)
{
	if (result == -1) {
		fprintf(stderr, "%s: %s\n", call, strerror(errno));
		exit(1);
	}
	return result;
}

/* Whether this contest is profiled, and whether a measurement is in progress. */
static bool profiled, measuring;

static inline void profile(unsigned long mark)
{
	if (profiled)
		((void (*)(void))mark)();
}

/* The time. To be called at the beginning and at the end of each measurement. */
static inline u64 now(void)
{
	struct timespec t;

	if (measuring)
		profile(PROFILE_STOP);
	clock_gettime(CLOCK_MONOTONIC, &t);
	measuring = !measuring;
	if (measuring)
		profile(PROFILE_START);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Makes the functions that profile() calls: instructions "ret". */
static inline void prepare_profile(void)
{
	void *page = mmap((void *)PROFILE_PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	MUST(page);
	memset(page, 0xc3, PAGE);
}

/* A subject of a contest. measure(arg) returns its cost (smaller is better), or NONE. */
#define NONE	(-1.0)
struct subject {
	const char *name;
	double (*measure)(const void *arg);
	const void *arg;
};

static inline void print_value(const char *contest, const char *subject, double value)
{
	printf("value %s %s %.3f\n", contest, subject, value);
	fflush(stdout);
}

/*
 * Measures the subjects in turn. An entry without a name ends their list. BENCH_PROFILE lists
 * contests: only these are measured, and they are profiled. With BENCH_PLAIN, only plain mappings
 * are measured, and no mapping ever opts in.
 */
static inline void contest(const char *name, int rounds, const struct subject *subjects)
{
	const char *names = getenv("BENCH_PROFILE");
	const struct subject *s;
	char word[80];

	snprintf(word, sizeof(word), " %s ", name);
	if (names && !strstr(names, word))
		return;
	if (getenv("BENCH_PLAIN") && strcmp(subjects->name, "plain"))
		return;
	if (names)
		prepare_profile();
	/* Do not count the first round: caches are cold, and lazily made objects are missing. */
	for (int round = -1; round < rounds; round++)
		for (s = subjects; s->name; s++) {
			double value;

			if (getenv("BENCH_PLAIN") && s != subjects)
				break;
			profiled = names && round >= 0;
			value = s->measure(s->arg);
			profile(PROFILE_END);
			if (round >= 0 && value != NONE)
				print_value(name, s->name, value);
		}
}

/* An opted-in mapping against a plain one. */
static inline void against_plain(const char *name, int rounds, double (*measure)(const void *arg),
				 const void *plain, const void *opted_in)
{
	contest(name, rounds, (const struct subject []){
		{ "plain", measure, plain },
		{ "opted-in", measure, opted_in },
		{},
	});
}

static inline int device(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = MUST(open_device());
	return fd;
}

static inline void opt_in(void *addr, size_t len)
{
	errno = -enable(device(), addr, len);
	MUST(errno ? -1 : 0);
}

static inline void opt_out(void *addr, size_t len)
{
	errno = -disable(device(), addr, len);
	MUST(errno ? -1 : 0);
}

enum backing { MEMFD, EXT4, ANONYMOUS };
enum class { PRIVATE, SHARED_READ, SHARED_WRITE };

static inline bool can_opt_in(enum class class)
{
	return class != SHARED_WRITE || OPTS_IN_SHARED_WRITE;
}

static inline int class_prot(enum class class)
{
	return class == SHARED_READ ? PROT_READ : PROT_READ | PROT_WRITE;
}

/*
 * Makes a new file and writes len bytes, at_a_time bytes with each call. ext4 makes its folios as
 * large as these writes. BENCH_EXT4 is a directory on ext4.
 */
static inline int new_file_of(enum backing backing, size_t len, size_t at_a_time)
{
	static const char bytes[16 * PAGE];
	const char *dir = getenv("BENCH_EXT4");
	char path[PATH_MAX];
	int fd;

	if (backing == MEMFD) {
		fd = MUST(memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	} else {
		snprintf(path, sizeof(path), "%s/bench-XXXXXX", dir ? dir : ".");
		fd = MUST(mkostemp(path, O_CLOEXEC));
		MUST(unlink(path));
	}
	for (size_t pos = 0; pos < len; pos += at_a_time) {
		size_t n = len - pos < at_a_time ? len - pos : at_a_time;

		MUST(pwrite(fd, bytes, n, pos));
	}
	if (backing == EXT4)
		MUST(fsync(fd));
	return fd;
}

static inline int new_file(enum backing backing, size_t len)
{
	return new_file_of(backing, len, PAGE);
}

/*
 * Maps a file from its start, always at the same address. A page table begins there, so page tables
 * and fault-around windows end at the same pages in all mappings.
 */
static inline char *map(enum backing backing, enum class class, int fd, size_t len)
{
	int flags = class == PRIVATE ? MAP_PRIVATE : MAP_SHARED;
	char *addr;

	if (backing == ANONYMOUS)
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	addr = mmap((void *)0x100000000000, len, class_prot(class), flags | MAP_FIXED_NOREPLACE,
		    fd, 0);
	MUST(addr);
	/* Pages are compared with pages, not with huge pages. */
	if (backing == ANONYMOUS)
		MUST(madvise(addr, len, MADV_NOHUGEPAGE));
	return addr;
}

/* Reads a word of every apart-th page. */
static inline void read_pages(const char *addr, size_t len, size_t apart)
{
	for (size_t i = 0; i < len; i += apart * PAGE)
		*(const volatile u64 *)(addr + i);
}

static inline void write_pages(char *addr, size_t len, size_t apart)
{
	for (size_t i = 0; i < len; i += apart * PAGE)
		*(volatile u64 *)(addr + i) = 1;
}

/* Reads every word, like a compositor that copies or blends a buffer. */
static inline u64 read_all(const char *addr, size_t len)
{
	u64 sum = 0;

	for (size_t i = 0; i < len; i += sizeof(u64))
		sum += *(const volatile u64 *)(addr + i);
	return sum;
}

#endif /* _NOSIGBUS_BENCH_H */
