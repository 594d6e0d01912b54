// SPDX-License-Identifier: GPL-2.0-only

#include <linux/xarray.h>

int nosigbus_xa_insert(struct xarray *xa, unsigned long index, void *entry)
{
	return xa_insert(xa, index, entry, GFP_KERNEL_ACCOUNT);
}

bool nosigbus_xa_marked(const struct xarray *xa, xa_mark_t mark)
{
	return xa_marked(xa, mark);
}
