// SPDX-License-Identifier: GPL-2.0-only

#include <linux/highmem.h>

int nosigbus_copy_mc_highpage(struct page *to, struct page *from)
{
	return copy_mc_highpage(to, from);
}
