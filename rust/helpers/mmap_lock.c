// SPDX-License-Identifier: GPL-2.0-only

#include <linux/mmap_lock.h>

int nosigbus_mmap_write_lock_killable(struct mm_struct *mm)
{
	return mmap_write_lock_killable(mm);
}

void nosigbus_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

void nosigbus_vma_start_write(struct vm_area_struct *vma)
{
	vma_start_write(vma);
}
