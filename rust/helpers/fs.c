// SPDX-License-Identifier: GPL-2.0-only

#include <linux/fs.h>
#include <linux/pagemap.h>

void nosigbus_mapping_unmap_writable(struct address_space *mapping)
{
	mapping_unmap_writable(mapping);
}

int nosigbus_mapping_map_writable(struct address_space *mapping)
{
	return mapping_map_writable(mapping);
}

loff_t nosigbus_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

bool nosigbus_is_dax(const struct inode *inode)
{
	return IS_DAX(inode);
}

bool nosigbus_is_private(const struct inode *inode)
{
	return IS_PRIVATE(inode);
}

bool nosigbus_is_anon_file(const struct inode *inode)
{
	return IS_ANON_FILE(inode);
}

const struct inode *nosigbus_file_user_inode(const struct file *file)
{
	return file_user_inode(file);
}

const struct dentry *nosigbus_file_user_dentry(const struct file *file)
{
	return file_user_path(file)->dentry;
}

bool nosigbus_fmode_fsnotify_none(const struct file *file)
{
	return FMODE_FSNOTIFY_NONE(file->f_mode);
}

/*
 * Enables ordinary fsnotify events, but no permission and no pre-content events. A single store,
 * unlike file_set_fsnotify_mode(): readers do not take f_lock, and an intermediate value
 * without a bit set would enable all events.
 */
void nosigbus_file_enable_notification(struct file *file)
{
	WRITE_ONCE(file->f_mode, (file->f_mode & ~FMODE_FSNOTIFY_MASK) | FMODE_NONOTIFY_PERM);
}

void nosigbus_filemap_invalidate_lock_shared(struct address_space *mapping)
{
	filemap_invalidate_lock_shared(mapping);
}

void nosigbus_filemap_invalidate_unlock_shared(struct address_space *mapping)
{
	filemap_invalidate_unlock_shared(mapping);
}
