// SPDX-License-Identifier: GPL-2.0-only

#include <linux/fsnotify.h>

int nosigbus_fsnotify_add_inode_mark(struct fsnotify_mark *mark, struct inode *inode)
{
	return fsnotify_add_inode_mark(mark, inode, 0);
}

struct fsnotify_mark *nosigbus_fsnotify_find_inode_mark(struct inode *inode,
							struct fsnotify_group *group)
{
	return fsnotify_find_inode_mark(inode, group);
}

struct fsnotify_mark *nosigbus_fsnotify_iter_inode_mark(struct fsnotify_iter_info *iter)
{
	return fsnotify_iter_inode_mark(iter);
}

struct dentry *nosigbus_fsnotify_data_dentry(const void *data, int data_type)
{
	return fsnotify_data_dentry(data, data_type);
}
