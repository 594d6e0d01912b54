// SPDX-License-Identifier: GPL-2.0-only

#include <linux/page-flags.h>

bool nosigbus_page_is_reserved(const struct page *page)
{
	return PageReserved(page);
}

bool nosigbus_folio_test_uptodate(const struct folio *folio)
{
	return folio_test_uptodate(folio);
}

bool nosigbus_is_page_hwpoison(struct page *page)
{
	return is_page_hwpoison(page);
}

bool nosigbus_page_folio_test_pmd_mappable(struct page *page)
{
	return folio_test_pmd_mappable(page_folio(page));
}

bool nosigbus_page_folio_test_large(struct page *page)
{
	return folio_test_large(page_folio(page));
}
