// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Maps a file, opts the mapping in, cuts the file off, and reads all of the
 * mapping. Without the opt-in, SIGBUS would kill the program.
 *
 * usage: protect FILE BYTES
 *
 * FILE is cut off after BYTES bytes.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <linux/nosigbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "protect: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static int open_device(void)
{
	int dev = open("/dev/nosigbus", O_RDWR | O_CLOEXEC);

	if (dev < 0 && errno == ENOENT) {
		fprintf(stderr, "protect: the nosigbus module is not loaded: insmod nosigbus.ko\n");
		exit(EXIT_FAILURE);
	}
	if (dev < 0)
		die("/dev/nosigbus");
	return dev;
}

static void opt_in(int dev, const volatile char *map, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct nosigbus_enable enable = {
		.addr = (uintptr_t)map,
		/* mmap has mapped whole pages. */
		.len = (len + page - 1) / page * page,
	};

	if (ioctl(dev, NOSIGBUS_ENABLE, &enable))
		die("NOSIGBUS_ENABLE");
}

static void print_status(int dev, const volatile char *map)
{
	struct nosigbus_status status = { .addr = (uintptr_t)map };

	if (ioctl(dev, NOSIGBUS_STATUS, &status))
		die("NOSIGBUS_STATUS");
	printf("the zero page has stood in %llu times\n", (unsigned long long)status.zero_pages);
}

int main(int argc, char *argv[])
{
	const volatile char *map;
	size_t len, i, set = 0;
	char *end = NULL;
	struct stat st;
	int fd, dev;
	off_t left;

	if (argc == 3)
		left = strtol(argv[2], &end, 10);
	if (!end || end == argv[2] || *end) {
		fprintf(stderr, "usage: protect FILE BYTES\n");
		return EXIT_FAILURE;
	}

	dev = open_device();
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		die(argv[1]);
	len = (size_t)st.st_size;
	map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	opt_in(dev, map, len);

	/* Any other process that may write to the file could do this at any time. */
	if (ftruncate(fd, left))
		die("ftruncate");
	for (i = 0; i < len; i++)
		set += map[i] != 0;
	printf("%zu bytes read, %zu of them not zero\n", len, set);
	print_status(dev, map);
	return EXIT_SUCCESS;
}
