// SPDX-License-Identifier: GPL-2.0-only
/*
 * Maps a file, cuts it off, and reads what was in it: SIGBUS kills this program,
 * unless nosigbus run protects it. With --hold it then waits to be killed.
 *
 * usage: reader [--hold] FILE
 *
 * It is built with the header of the package libnosigbus-dev.
 */
#include <fcntl.h>
#include <linux/nosigbus.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *file = argv[argc - 1];
	volatile char *map;
	int fd;

	fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1) {
		perror(file);
		return 1;
	}
	map = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || ftruncate(fd, 0)) {
		perror(file);
		return 1;
	}
	printf("read %d, version %d\n", *map, NOSIGBUS_VERSION);
	fflush(stdout);
	while (argc > 2 && !strcmp(argv[1], "--hold"))
		pause();
	return 0;
}
