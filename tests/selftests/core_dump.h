/* SPDX-License-Identifier: GPL-2.0-only */
/* Has a child dump core, to a file on a tmpfs. */
#ifndef _NOSIGBUS_CORE_DUMP_H
#define _NOSIGBUS_CORE_DUMP_H

#include "nosigbus_test.h"

#include <sys/prctl.h>
#include <sys/resource.h>

static char core_dir[PATH_MAX + 16];

static inline int dump_core(void *filter)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	int fd;

	/* A process that has changed its user dumps no core, and root owns its files in /proc. */
	prctl(PR_SET_DUMPABLE, 1);
	fd = open("/proc/self/coredump_filter", O_WRONLY);
	getrlimit(RLIMIT_CORE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (chdir(core_dir) || setrlimit(RLIMIT_CORE, &limit) ||
	    write(fd, filter, strlen(filter)) < 0)
		return 1;
	raise(SIGQUIT);
	return 2;
}

/*
 * Makes a child dump core. The filter is that of /proc/PID/coredump_filter. Returns the open core
 * file, unlinked; -1 if there is none.
 */
static inline int core_file(const char *filter)
{
	const char *dir = fs_path("tmpfs");
	char path[PATH_MAX + 32];
	int fd;

	if (!dir)
		return -1;
	snprintf(core_dir, sizeof(core_dir), "%s/core-XXXXXX", dir);
	if (!mkdtemp(core_dir) || in_child(dump_core, (void *)filter) != 128 + SIGQUIT)
		return -1;
	/* The default of /proc/sys/kernel/core_pattern. */
	snprintf(path, sizeof(path), "%s/core", core_dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	unlink(path);
	rmdir(core_dir);
	return fd;
}

#endif /* _NOSIGBUS_CORE_DUMP_H */
