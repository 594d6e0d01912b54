/* SPDX-License-Identifier: GPL-2.0-only */
/* Files that have zeros mapped past EOF (MADV_NOSIGBUS). */
#ifndef _LINUX_NOSIGBUS_H
#define _LINUX_NOSIGBUS_H

#include <linux/jump_label.h>

struct inode;

#ifdef CONFIG_NOSIGBUS
DECLARE_STATIC_KEY_FALSE(nosigbus_key);
void __nosigbus_size_written(struct inode *inode);
void __nosigbus_grown(struct inode *inode);
void __nosigbus_evict(struct inode *inode);

/* For i_size_write(): starts the unmapping of zeros that the file has grown over. */
static inline void nosigbus_size_written(struct inode *inode)
{
	if (static_branch_unlikely(&nosigbus_key))
		__nosigbus_size_written(inode);
}

/*
 * For code that has made a file grow and may sleep: returns when no zeros are mapped in the
 * file any more.
 */
static inline void nosigbus_grown(struct inode *inode)
{
	if (static_branch_unlikely(&nosigbus_key))
		__nosigbus_grown(inode);
}

/* For evict(). */
static inline void nosigbus_evict(struct inode *inode)
{
	if (static_branch_unlikely(&nosigbus_key))
		__nosigbus_evict(inode);
}
#else
static inline void nosigbus_size_written(struct inode *inode)
{
}

static inline void nosigbus_grown(struct inode *inode)
{
}

static inline void nosigbus_evict(struct inode *inode)
{
}
#endif

#endif /* _LINUX_NOSIGBUS_H */
