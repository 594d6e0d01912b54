// SPDX-License-Identifier: GPL-2.0-only

#include <linux/shmem_fs.h>

bool nosigbus_shmem_mapping(struct address_space *mapping)
{
	return shmem_mapping(mapping);
}

struct folio *nosigbus_shmem_read_folio(struct address_space *mapping, pgoff_t index)
{
	return shmem_read_folio(mapping, index);
}
