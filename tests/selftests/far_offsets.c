// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page so far past EOF that its offset in bytes does not fit in 64 bits. mmap(2) cannot map it.
 * The test maps the highest possible page and moves on with mremap(2), by a quarter of the address
 * space each time.
 */

#include "mapped_file.h"

#define FAR_PAGE	(1ULL << 52)

FIXTURE(far) {
	MAPPED_FILE;
};

FIXTURE_SETUP(far)
{
	set_up_file(_metadata, &self->file, MEMFD, page_size(), 1);
}

FIXTURE_TEARDOWN(far)
{
	tear_down(&self->file);
}

TEST_F_TIMEOUT(far, beyond_all_offsets, 300)
{
	const size_t step = sizeof(long) == 8 ? 1ULL << 45 : 0, pages = step / self->page;
	unsigned long long pgoff;
	char *addr;

	if (!step)
		SKIP(return, "takes the address space of 64 bits");
	pgoff = (1ULL << 63) / self->page - 2;
	addr = mmap(NULL, self->page, PROT_READ, MAP_SHARED, self->fd, pgoff * self->page);
	ASSERT_NE(addr, MAP_FAILED);
	while (pgoff < FAR_PAGE) {
		addr = mremap(addr, self->page, step, MREMAP_MAYMOVE);
		ASSERT_NE(addr, MAP_FAILED) TH_LOG("at %llu: %s", pgoff, strerror(errno));
		ASSERT_EQ(munmap(addr, step - self->page), 0);
		addr += step - self->page;
		pgoff += pages - 1;
	}
	EXPECT_EQ(read_byte(addr), -SIGBUS);
	ASSERT_EQ(enable(self->device, addr, self->page), 0);
	EXPECT_EQ(read_byte(addr), 0);
	ASSERT_EQ(disable(self->device, addr, self->page), 0);
	/* The zero page is not mapped any more: a write does not reach it. */
	ASSERT_EQ(mprotect(addr, self->page, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(write_byte(addr, 1), -SIGBUS);
	EXPECT_EQ(read_byte(addr), -SIGBUS);
	munmap(addr, self->page);
}

TEST_HARNESS_MAIN
