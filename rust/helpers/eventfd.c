// SPDX-License-Identifier: GPL-2.0-only

#include <linux/eventfd.h>

struct eventfd_ctx *nosigbus_eventfd_ctx_fdget(int fd)
{
	return eventfd_ctx_fdget(fd);
}

void nosigbus_eventfd_ctx_put(struct eventfd_ctx *ctx)
{
	eventfd_ctx_put(ctx);
}

void nosigbus_eventfd_signal(struct eventfd_ctx *ctx)
{
	eventfd_signal(ctx);
}
