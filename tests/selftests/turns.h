/* SPDX-License-Identifier: GPL-2.0-only */
/* Two processes, one step each in turn: wait_for() the other, and have it go_on(). */
#ifndef _NOSIGBUS_TURNS_H
#define _NOSIGBUS_TURNS_H

#include <stdlib.h>
#include <unistd.h>

struct turns {
	int to_child[2], to_parent[2];
};

static inline void wait_for(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		abort();
}

static inline void go_on(int fd)
{
	if (write(fd, "", 1) != 1)
		abort();
}

#endif /* _NOSIGBUS_TURNS_H */
