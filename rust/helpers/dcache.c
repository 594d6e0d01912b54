// SPDX-License-Identifier: GPL-2.0-only

#include <linux/dcache.h>

struct inode *nosigbus_d_real_inode(const struct dentry *dentry)
{
	return d_real_inode(dentry);
}
