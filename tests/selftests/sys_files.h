/* SPDX-License-Identifier: GPL-2.0-only */
/* Reading numbers from files of procfs, sysfs and the like, and writing text to them. */
#ifndef _NOSIGBUS_SYS_FILES_H
#define _NOSIGBUS_SYS_FILES_H

#include "nosigbus_test.h"

/* Writes text to the file. If that fails, returns false and sets errno. */
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
