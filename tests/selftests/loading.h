/* SPDX-License-Identifier: GPL-2.0-only */
/* The module, unloaded and loaded again: all of these are 0, or minus errno. */
#ifndef _NOSIGBUS_LOADING_H
#define _NOSIGBUS_LOADING_H

#include "nosigbus_test.h"

#include <sys/syscall.h>

static inline int unload(void)
{
	return syscall(SYS_delete_module, "nosigbus", O_NONBLOCK) ? -errno : 0;
}

/* ko: the open nosigbus.ko. */
static inline int load_from(int ko)
{
	return syscall(SYS_finit_module, ko, "", 0) ? -errno : 0;
}

static inline int load(void)
{
	const char *path = getenv("NOSIGBUS_KO");
	int ko = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	int ret;

	if (ko < 0)
		return -errno;
	ret = load_from(ko);
	close(ko);
	return ret;
}

#endif /* _NOSIGBUS_LOADING_H */
