// SPDX-License-Identifier: GPL-2.0-only

#include <linux/pagemap.h>

void nosigbus_lock_page(struct page *page)
{
	lock_page(page);
}

bool nosigbus_trylock_page(struct page *page)
{
	return trylock_page(page);
}

bool nosigbus_folio_trylock(struct folio *folio)
{
	return folio_trylock(folio);
}

int nosigbus_folio_lock_killable(struct folio *folio)
{
	return folio_lock_killable(folio);
}

struct page *nosigbus_folio_file_page(struct folio *folio, pgoff_t index)
{
	return folio_file_page(folio, index);
}

/* A locked folio, or an ERR_PTR() if there is none, or if its lock is taken. */
struct folio *nosigbus_filemap_trylock_folio(struct address_space *mapping, pgoff_t index)
{
	return __filemap_get_folio(mapping, index, FGP_LOCK | FGP_NOWAIT, 0);
}

struct folio *nosigbus_filemap_get_folio(struct address_space *mapping, pgoff_t index)
{
	return filemap_get_folio(mapping, index);
}
