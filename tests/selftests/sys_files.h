/* SPDX-License-Identifier: GPL-2.0-only */
/* Files of procfs, sysfs and the like, which have numbers and take words. */
#ifndef _NOSIGBUS_SYS_FILES_H
#define _NOSIGBUS_SYS_FILES_H

#include "nosigbus_test.h"

/* False, and errno, if that fails. */
static inline bool write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), error;
	bool written;

	if (fd < 0)
		return false;
	written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	error = errno;
	close(fd);
	errno = error;
	return written;
}

/* The number behind a word at the start of a line, "" for the first line; -1 if there is none. */
static inline long number_in(const char *path, const char *word)
{
	FILE *file = fopen(path, "re");
	char line[256];
	long number = -1;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, word, strlen(word))) {
			number = atol(line + strlen(word));
			break;
		}
	if (file)
		fclose(file);
	return number;
}

#endif /* _NOSIGBUS_SYS_FILES_H */
