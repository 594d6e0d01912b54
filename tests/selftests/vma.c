// SPDX-License-Identifier: GPL-2.0-only
/*
 * Operations on the address range of an opted-in mapping. The tests do each of them to a plain
 * mapping, too, and check both results. Documentation/operations.rst has the table of operations.
 */

#include "pair.h"

#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

/* The C library of the toolchain is older than these. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

/* An address in the area to which the mapping can move without an overlap. */
static char *elsewhere(const struct side *m)
{
	return m->area + (BEFORE + PAGES + 4) * page;
}

/* Makes a hole of the area behind the mapping. */
static int make_room(const struct side *m)
{
	return munmap(at(m, PAGES), (AREA_PAGES - BEFORE - PAGES) * page);
}

/* mremap(2) from the start of the mapping. Updates m to the new address. 0, or minus errno. */
static int remap(struct side *m, int old_pages, int new_pages, int flags, char *to)
{
	char *ret = mremap(m->addr, old_pages * page, new_pages * page, flags, to);

	if (ret == MAP_FAILED)
		return -errno;
	m->addr = ret;
	return 0;
}

TEST_F(pair, untouched)
{
	EXPECT_INTACT();
}

TEST_F(pair, munmap_head)
{
	SAME(munmap(at(m, 0), page), 0);
	SHOWS("-bc!!!", "-bc000");
}

TEST_F(pair, munmap_middle)
{
	SAME(munmap(at(m, 2), 2 * page), 0);
	SHOWS("ab--!!", "ab--00");
	SAME(munmap(at(m, 1), 4 * page), 0);
	SHOWS("a----!", "a----0");
}

TEST_F(pair, munmap_tail)
{
	SAME(munmap(at(m, 5), page), 0);
	SHOWS("abc!!-", "abc00-");
	SAME(munmap(at(m, 2), 3 * page), 0);
	SHOWS("ab----", "ab----");
}

/* What was written stays in the parts that are left. */
TEST_F(pair, munmap_keeps_the_rest)
{
	EXPECT_INTACT();
	SAME(munmap(at(m, 1), page), 0);
	SAME(munmap(at(m, 4), page), 0);
	SHOWS(IF_WRITABLE("A-C!-!", "a-c!-!"), IF_WRITABLE("A-Cw-w", "a-c0-0"));
}

TEST_F(pair, mprotect_parts_and_back)
{
	SHOWS("abc!!!", "abc000");
	SAME(mprotect(at(m, 1), 4 * page, PROT_NONE), 0);
	SHOWS("a----!", "a----0");
	SAME(mprotect(at(m, 2), 2 * page, class_prot(variant->class)), 0);
	SHOWS("a-c!-!", "a-c0-0");
	SAME(mprotect(at(m, 1), 4 * page, class_prot(variant->class)), 0);
	EXPECT_INTACT();
}

TEST_F(pair, mprotect_read_only_and_back)
{
	SAME(mprotect(m->addr, PAGES * page, PROT_READ), 0);
	PUTS("------", "------");
	SHOWS("abc!!!", "abc000");
	SAME(mprotect(m->addr, PAGES * page, class_prot(variant->class)), 0);
	EXPECT_INTACT();
	SAME(mprotect(m->addr, PAGES * page, PROT_READ), 0);
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
}

/* A shared mapping that was not writable when it opted in cannot be made writable. */
TEST_F(pair, mprotect_writable)
{
	DIFFER(mprotect(m->addr, PAGES * page, PROT_READ | PROT_WRITE), 0,
	       BY_CLASS(0, -EACCES, 0));
	PUTS("www!!!", BY_CLASS("wwwwww", "------", "wwwwww"));
	self->files_differ = variant->class == SHARED_READ;
}

TEST_F(pair, mprotect_exec)
{
	SAME(mprotect(m->addr, PAGES * page, class_prot(variant->class) | PROT_EXEC), 0);
	EXPECT_INTACT();
}

/* No VMA with VM_MIXEDMAP is merged, not even with what it was split from. */
TEST_F(pair, split_parts_merge_if_ordinary)
{
	SAME(vmas(m->addr, PAGES), 1);
	SAME(mprotect(at(m, 1), 2 * page, PROT_NONE), 0);
	SAME(mprotect(at(m, 1), 2 * page, class_prot(variant->class)), 0);
	DIFFER(vmas(m->addr, PAGES), 1, IS_ORDINARY_VMA ? 1 : 3);

	/* mremap(2) resizes one VMA only. It moves several, but not of shmem with VM_MIXEDMAP. */
	DIFFER(remap(m, PAGES, PAGES + 1, MREMAP_MAYMOVE, NULL), 0, IS_ORDINARY_VMA ? 0 : -EFAULT);
	DIFFER(remap(m, PAGES, PAGES, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere(m)), 0,
	       variant->backing == MEMFD && !IS_ORDINARY_VMA ? -EFAULT : 0);
	EXPECT_INTACT();
}

TEST_F(pair, mremap_shrink)
{
	SAME(remap(m, PAGES, 5, 0, NULL), 0);
	SHOWS("abc!!-", "abc00-");
	SAME(remap(m, 5, 2, MREMAP_MAYMOVE, NULL), 0);
	SHOWS("ab----", "ab----");
}

TEST_F(pair, mremap_shrink_and_move)
{
	SAME(remap(m, PAGES, 4, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere(m)), 0);
	SHOWS("abc!", "abc0");
}

TEST_F(pair, mremap_move)
{
	SHOWS("abc!!!", "abc000");
	SAME(remap(m, PAGES, PAGES, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere(m)), 0);
	EXPECT_INTACT();
	/* And with what was written. */
	SAME(remap(m, PAGES, PAGES, MREMAP_MAYMOVE | MREMAP_FIXED, m->area), 0);
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
	DIFFER_STR(shows(m, elsewhere(m), PAGES), "------", "------");
}

TEST_F(pair, mremap_move_part)
{
	SAME(mremap(at(m, 2), 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere(m)) ==
	     elsewhere(m), true);
	SHOWS("ab--!!", "ab--00");
	DIFFER_STR(shows(m, elsewhere(m), 2), "c!", "c0");
}

/* expand_vma_in_place() grows by a merge, which VM_MIXEDMAP forbids. */
TEST_F(pair, mremap_grow_in_place)
{
	SAME(make_room(m), 0);
	DIFFER(remap(m, PAGES, PAGES + 2, 0, NULL), 0, IS_ORDINARY_VMA ? 0 : -ENOMEM);
	SHOWS("abc!!!", "abc000");
	DIFFER_STR(shows(m, at(m, PAGES), 2), "!!", IS_ORDINARY_VMA ? "00" : "--");
}

/* If the addresses after it are free, MREMAP_MAYMOVE does not help, but MREMAP_FIXED does. */
TEST_F(pair, mremap_grow_may_move)
{
	SAME(make_room(m), 0);
	DIFFER(remap(m, PAGES, PAGES + 2, MREMAP_MAYMOVE, NULL), 0, IS_ORDINARY_VMA ? 0 : -ENOMEM);
	SHOWS("abc!!!", "abc000");
	if (IS_ORDINARY_VMA) {
		SHOWS("abc!!!!!", "abc00000");
		return;
	}
	EXPECT_EQ(remap(&self->opted, PAGES, PAGES + 2, MREMAP_MAYMOVE | MREMAP_FIXED,
			self->opted.area + (BEFORE + PAGES + 4) * page), 0);
	SHOWS("abc!!!!!", "abc00000");
}

TEST_F(pair, mremap_grow_without_room)
{
	SAME(remap(m, PAGES, PAGES + 3, 0, NULL), -ENOMEM);
	SAME(remap(m, PAGES, PAGES + 3, MREMAP_MAYMOVE, NULL), 0);
	SHOWS("abc!!!!", "abc0000");
	/* The new part shows the file, too. */
	for (int i = 0; i < 2; i++) {
		struct side *m = i ? &self->opted : &self->plain;

		ASSERT_EQ(ftruncate(m->fd, (PAGES + 2) * page), 0);
		ASSERT_EQ(pwrite(m->fd, "z", 1, (PAGES + 1) * page), 1);
		EXPECT_EQ(read_byte(at(m, PAGES + 1)), 'z');
	}
}

TEST_F(pair, mremap_grow_fixed)
{
	SAME(remap(m, PAGES, PAGES + 3, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere(m)), 0);
	SHOWS("abc!!!!!!", "abc000000");
	DIFFER_STR(put(at(m, PAGES), 3), IF_WRITABLE("!!!", "---"),
		   IF_WRITABLE("www", "---"));
}

TEST_F(pair, mremap_dontunmap)
{
	if (IS_WRITABLE())
		PUTS("www!!!", "wwwwww");
	SAME(mremap(m->addr, PAGES * page, PAGES * page,
		    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, elsewhere(m)) ==
	     elsewhere(m), true);
	/* Private pages have moved. All other pages show at both addresses. */
	SHOWS(BY_CLASS("abc!!!", "abc!!!", "ABC!!!"), BY_CLASS("abc000", "abc000", "ABCwww"));
	DIFFER_STR(shows(m, elsewhere(m), PAGES), BY_CLASS("ABC!!!", "abc!!!", "ABC!!!"),
		   BY_CLASS("ABCwww", "abc000", "ABCwww"));
	DIFFER(enable(self->device, m->addr, PAGES * page), 0, OPTED_IN_TWICE);
	DIFFER(enable(self->device, elsewhere(m), PAGES * page), 0, OPTED_IN_TWICE);
}

/* libwayland duplicates the mapping of a pool in this way. The copy is opted in, too. */
TEST_F(pair, mremap_old_size_0)
{
	char *original[2] = { self->plain.addr, self->opted.addr };

	SAME(remap(m, 0, PAGES, MREMAP_MAYMOVE, NULL), BY_CLASS(-EINVAL, 0, 0));
	if (variant->class == PRIVATE)
		return;
	EXPECT_NE(self->opted.addr, original[1]);
	EXPECT_INTACT();
	/* Both copies show the same stores. */
	DIFFER_STR(shows(m, original[m == &self->opted], PAGES),
		   IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
	SAME(munmap(original[m == &self->opted], PAGES * page), 0);
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
	DIFFER(enable(self->device, m->addr, PAGES * page), 0, OPTED_IN_TWICE);
}

/* A copy that starts in the middle of the mapping, and is longer than the rest of it. */
TEST_F(pair, mremap_old_size_0_of_a_part)
{
	if (variant->class == PRIVATE) {
		SAME(mremap(at(m, 2), 0, PAGES * page, MREMAP_MAYMOVE), -EINVAL);
		return;
	}
	SAME(mremap(at(m, 2), 0, PAGES * page, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere(m)) ==
	     elsewhere(m), true);
	DIFFER_STR(shows(m, elsewhere(m), PAGES), "c!!!!!", "c00000");
	EXPECT_INTACT();
	DIFFER_STR(shows(m, elsewhere(m), PAGES), IF_WRITABLE("C!!!!!", "c!!!!!"),
		   IF_WRITABLE("Cwww00", "c00000"));
}

TEST_F(pair, map_fixed_over_part)
{
	int prot = class_prot(variant->class), fixed = class_flags(variant->class) | MAP_FIXED;

	SHOWS("abc!!!", "abc000");
	SAME(mmap(at(m, 1), page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	     at(m, 1), true);
	SHOWS("a0c!!!", "a0c000");
	/* A new mapping of the same file at the same offset is not opted in. */
	SAME(mmap(at(m, 2), 2 * page, prot, fixed, m->fd, 2 * page) == at(m, 2), true);
	SHOWS("a0c!!!", "a0c!00");
	SAME(mmap(at(m, 5), page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		  -1, 0), -EEXIST);
	SHOWS("a0c!!!", "a0c!00");
}

/* New neighbours of an opted-in mapping are plain. A plain mapping would merge with them. */
TEST_F(pair, new_neighbours_are_plain)
{
	int prot = class_prot(variant->class), fixed = class_flags(variant->class) | MAP_FIXED;

	SAME(munmap(at(m, 0), page), 0);
	SAME(mmap(at(m, 0), page, prot, fixed, m->fd, 0) == at(m, 0), true);
	SAME(mmap(at(m, PAGES), page, prot, fixed, m->fd, PAGES * page) == at(m, PAGES), true);
	DIFFER(vmas(m->addr, PAGES + 1), 1, 3);
	SHOWS("abc!!!!", "abc000!");
	SAME(ftruncate(m->fd, 0), 0);
	SHOWS("!!!!!!!", "!00000!");

	/* Opted in, they are mappings of their own, if VM_MIXEDMAP prevents the merge. */
	EXPECT_EQ(enable(self->device, self->opted.addr, page), 0);
	EXPECT_EQ(enable(self->device, at(&self->opted, PAGES), page), 0);
	DIFFER(vmas(m->addr, PAGES + 1), 1, IS_ORDINARY_VMA ? 1 : 3);
	SHOWS("!!!!!!!", "0000000");
}

#define ALL	0, PAGES
#define INSIDE	0, FILE_PAGES
#define PAST	FILE_PAGES, (PAGES - FILE_PAGES)

/* The result of madvise(2) for a private, a shared read-only and a shared writable mapping. */
struct advice {
	int advice;
	const char *name;
	int first, pages;
	int plain[3], opted[3];
};

#define ADVICE(advice)		MADV_##advice, #advice
#define ANSWERS(...)		{ __VA_ARGS__ }
#define OK			ANSWERS(0, 0, 0)
#define FAIL(error)		ANSWERS(-(error), -(error), -(error))
#define IF_ORDINARY(error)	(IS_ORDINARY_VMA ? 0 : -(error))
#define OK_IF_ORDINARY		ANSWERS(IF_ORDINARY(EINVAL), IF_ORDINARY(EINVAL), IF_ORDINARY(EINVAL))

static const struct advice advices[] = {
	/* The same answer in both. */
	{ ADVICE(NORMAL), ALL, OK, OK },
	{ ADVICE(RANDOM), ALL, OK, OK },
	{ ADVICE(SEQUENTIAL), ALL, OK, OK },
	{ ADVICE(WILLNEED), ALL, OK, OK },
	{ ADVICE(DONTNEED), ALL, OK, OK },
	{ ADVICE(DONTNEED_LOCKED), ALL, OK, OK },
	{ ADVICE(COLD), ALL, OK, OK },
	{ ADVICE(PAGEOUT), ALL, OK, OK },
	{ ADVICE(DONTDUMP), ALL, OK, OK },
	{ ADVICE(KEEPONFORK), ALL, OK, OK },
	{ ADVICE(MERGEABLE), ALL, OK, OK },
	{ ADVICE(UNMERGEABLE), ALL, OK, OK },
	{ ADVICE(HUGEPAGE), ALL, OK, OK },
	{ ADVICE(NOHUGEPAGE), ALL, OK, OK },
	{ ADVICE(POPULATE_READ), INSIDE, OK, OK },
	{ ADVICE(POPULATE_WRITE), INSIDE, ANSWERS(0, -EINVAL, 0), ANSWERS(0, -EINVAL, 0) },
	{ ADVICE(FREE), ALL, FAIL(EINVAL), FAIL(EINVAL) },
	{ ADVICE(WIPEONFORK), ALL, FAIL(EINVAL), FAIL(EINVAL) },
	/* Too small for a huge page. */
	{ ADVICE(COLLAPSE), ALL, FAIL(EINVAL), FAIL(EINVAL) },
	/* Opted in, pages past EOF can be populated. */
	{ ADVICE(POPULATE_READ), PAST, FAIL(EFAULT), OK },
	{ ADVICE(POPULATE_WRITE), PAST, ANSWERS(-EFAULT, -EINVAL, -EFAULT),
	  ANSWERS(0, -EINVAL, 0) },
	/* Refused where VM_SPECIAL is set. */
	{ ADVICE(DODUMP), ALL, OK, OK_IF_ORDINARY },
	{ ADVICE(DOFORK), ALL, OK, OK_IF_ORDINARY },
	{ ADVICE(GUARD_REMOVE), ALL, OK, OK_IF_ORDINARY },
};

/* A kernel without a feature (such as KSM) does not know its advice. */
static bool is_known(int advice)
{
	switch (advice) {
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
		return !why_no("thp");
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
		return !why_no("ksm");
	}
	return true;
}

TEST_F(pair, madvise_answers)
{
	int class = BY_CLASS(0, 1, 2);

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		const struct advice *a = &advices[i];
		bool known = is_known(a->advice);

		DIFFER_IN(a->name, madvise(at(m, a->first), a->pages * page, a->advice),
			  known ? a->plain[class] : -EINVAL, known ? a->opted[class] : -EINVAL);
	}
	EXPECT_INTACT();
}

TEST_F(pair, madvise_dontneed)
{
	const char *left[2] = { BY_CLASS("abc!!!", "abc!!!", "ABC!!!"),
				BY_CLASS("abc000", "abc000", "ABCwww") };

	EXPECT_INTACT();
	SAME(madvise(m->addr, PAGES * page, MADV_DONTNEED), 0);
	SHOWS(left[0], left[1]);
	if (IS_WRITABLE())
		PUTS("www!!!", "wwwwww");
	SAME(madvise(m->addr, PAGES * page, MADV_DONTNEED_LOCKED), 0);
	SHOWS(left[0], left[1]);
}

TEST_F(pair, madvise_cold_pageout)
{
	EXPECT_INTACT();
	SAME(madvise(m->addr, PAGES * page, MADV_COLD), 0);
	SAME(madvise(m->addr, PAGES * page, MADV_PAGEOUT), 0);
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
}

/* MADV_POPULATE_READ and _WRITE map all pages: readable, and for _WRITE also writable. */
TEST_F(pair, madvise_populate)
{
	DIFFER(madvise(m->addr, PAGES * page, MADV_POPULATE_READ), -EFAULT, 0);
	if (IS_WRITABLE())
		DIFFER(madvise(m->addr, PAGES * page, MADV_POPULATE_WRITE), -EFAULT, 0);
	DIFFER(smaps_of(m->addr, "Rss", NULL), BY_CLASS(3, 3, 3) * page / 1024,
	       BY_CLASS(6, 3, 6) * page / 1024);
	EXPECT_INTACT();
}

/*
 * A truncation drops private copies past the new EOF, as in a plain mapping, and also those past the
 * old one. Shadow pages past the old EOF stay.
 */
TEST_F(pair, truncation)
{
	if (IS_WRITABLE())
		PUTS("www!!!", "wwwwww");
	SAME(ftruncate(m->fd, page), 0);
	SHOWS(BY_CLASS("A!!!!!", "a!!!!!", "A!!!!!"), BY_CLASS("A00000", "a00000", "A00www"));
	SAME(ftruncate(m->fd, 3 * page), 0);
	SHOWS(BY_CLASS("A00!!!", "a00!!!", "A00!!!"), BY_CLASS("A00000", "a00000", "A00www"));
}

/* Opting in clears VM_MAYWRITE of a shared read-only VMA. madvise_remove() requires it. */
TEST_F(pair, madvise_remove)
{
	SHOWS("abc!!!", "abc000");
	if (IS_WRITABLE())
		PUTS("www!!!", "wwwwww");
	DIFFER(madvise(m->addr, PAGES * page, MADV_REMOVE), BY_CLASS(-EACCES, 0, 0),
	       BY_CLASS(-EACCES, -EACCES, 0));
	SHOWS(BY_CLASS("ABC!!!", "000!!!", "000!!!"), BY_CLASS("ABCwww", "abc000", "000www"));
	self->files_differ = variant->class == SHARED_READ;
}

/* MADV_DONTFORK is accepted, and cannot be taken back where VM_MIXEDMAP is set. */
TEST_F(pair, madvise_dontfork)
{
	SAME(madvise(m->addr, PAGES * page, MADV_DONTFORK), 0);
	DIFFER_STR(child_shows(m, self->board, PAGES), "------", "------");
	DIFFER(madvise(m->addr, PAGES * page, MADV_DOFORK), 0, IF_ORDINARY(EINVAL));
	DIFFER_STR(child_shows(m, self->board, PAGES), "abc!!!", IS_ORDINARY_VMA ? "abc000" : "------");
	EXPECT_INTACT();
}

TEST_F(pair, madvise_dontdump)
{
	SAME(madvise(m->addr, PAGES * page, MADV_DONTDUMP), 0);
	SAME(HAS_FLAG(m->addr, "dd"), 1);
	DIFFER(madvise(m->addr, PAGES * page, MADV_DODUMP), 0, IF_ORDINARY(EINVAL));
	DIFFER(HAS_FLAG(m->addr, "dd"), 0, !IS_ORDINARY_VMA);
	EXPECT_INTACT();
}

/* For an opted-in mapping MADV_MERGEABLE succeeds, but has no effect. */
TEST_F(pair, madvise_mergeable)
{
	need(_metadata, "ksm");
	SAME(madvise(m->addr, PAGES * page, MADV_MERGEABLE), 0);
	DIFFER(HAS_FLAG(m->addr, "mg"), BY_CLASS(1, 0, 0), 0);
	EXPECT_INTACT();
}

TEST_F(pair, madvise_guard)
{
	DIFFER(madvise(at(m, 1), page, MADV_GUARD_INSTALL), 0, IF_ORDINARY(EINVAL));
	DIFFER(madvise(at(m, 4), page, MADV_GUARD_INSTALL), 0, IF_ORDINARY(EINVAL));
	SHOWS("a-c!-!", IS_ORDINARY_VMA ? "a-c0-0" : "abc000");
	DIFFER(madvise(m->addr, PAGES * page, MADV_GUARD_REMOVE), 0, IF_ORDINARY(EINVAL));
	EXPECT_INTACT();
}

/* MADV_COLLAPSE of a mapping of one huge page's size, in a file of that size. */
static long collapse(enum backing on, enum class class, int device)
{
	char *area = mmap(NULL, 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *addr = (char *)(((unsigned long)area + HUGE_PAGE - 1) & -HUGE_PAGE);
	int fd = new_file(on);
	long ret;

	memset(mmap(addr, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		    0), 'x', HUGE_PAGE);
	if (pwrite(fd, addr, HUGE_PAGE, 0) != HUGE_PAGE ||
	    mmap(addr, HUGE_PAGE, class_prot(class), class_flags(class) | MAP_FIXED, fd, 0) != addr ||
	    (device >= 0 && enable(device, addr, HUGE_PAGE)))
		return -1;
	ret = result(madvise(addr, HUGE_PAGE, MADV_COLLAPSE));
	if (differs(addr, 'x', HUGE_PAGE))
		ret = -1;
	munmap(area, 2 * HUGE_PAGE);
	close(fd);
	return ret;
}

/* VM_NO_KHUGEPAGED forbids it. Other mappings may still collapse pages in the page cache. */
TEST_F(pair, madvise_collapse)
{
	need(_metadata, "thp");
	EXPECT_EQ(collapse(variant->backing, variant->class, -1), 0);
	EXPECT_EQ(collapse(variant->backing, variant->class, self->device), IF_ORDINARY(EINVAL));
}

TEST_F(pair, mlock)
{
	SAME(mlock(m->addr, FILE_PAGES * page), 0);
	DIFFER(HAS_FLAG(m->addr, "lo"), 1, IS_ORDINARY_VMA);
	SAME(munlock(m->addr, FILE_PAGES * page), 0);
	SAME(HAS_FLAG(m->addr, "lo"), 0);
	EXPECT_INTACT();
}

/* With VM_MIXEDMAP mlock() locks nothing, but __mm_populate() faults in all pages and stand-ins. */
TEST_F(pair, mlock_past_eof)
{
	DIFFER(mlock(m->addr, PAGES * page), -ENOMEM, 0);
	DIFFER(HAS_FLAG(m->addr, "lo"), 1, IS_ORDINARY_VMA);
	/* msync(2) cannot invalidate a locked mapping. */
	DIFFER(msync(m->addr, PAGES * page, MS_INVALIDATE), -EBUSY, IS_ORDINARY_VMA ? -EBUSY : 0);
	SAME(munlock(m->addr, PAGES * page), 0);
	SAME(msync(m->addr, PAGES * page, MS_INVALIDATE), 0);
	EXPECT_INTACT();
}

TEST_F(pair, mlock_onfault)
{
	SAME(mlock2(m->addr, PAGES * page, MLOCK_ONFAULT), 0);
	DIFFER(HAS_FLAG(m->addr, "lo"), 1, IS_ORDINARY_VMA);
	DIFFER(smaps_of(m->addr, "Locked", NULL), 0, 0);
	EXPECT_INTACT();
	DIFFER(smaps_of(m->addr, "Locked", NULL) > 0, 1, IS_ORDINARY_VMA);
	SAME(munlock(m->addr, PAGES * page), 0);
}

TEST_F(pair, mlockall)
{
	ASSERT_EQ(mlockall(MCL_CURRENT), 0) TH_LOG("%s", strerror(errno));
	DIFFER(HAS_FLAG(m->addr, "lo"), 1, IS_ORDINARY_VMA);
	EXPECT_INTACT();
	ASSERT_EQ(munlockall(), 0);
	SAME(HAS_FLAG(m->addr, "lo"), 0);
}

/* MCL_FUTURE locks new mappings. ENABLE refuses them until munlock(), if it sets VM_MIXEDMAP. */
TEST_F(pair, mlockall_future)
{
	int prot = class_prot(variant->class), fixed = class_flags(variant->class) | MAP_FIXED;

	ASSERT_EQ(mlockall(MCL_FUTURE), 0) TH_LOG("%s", strerror(errno));
	SAME(mmap(elsewhere(m), PAGES * page, prot, fixed, m->fd, 0) == elsewhere(m), true);
	SAME(HAS_FLAG(elsewhere(m), "lo"), 1);
	SAME(enable(self->device, elsewhere(m), PAGES * page), IF_ORDINARY(EOPNOTSUPP));
	SAME(munlock(elsewhere(m), PAGES * page), 0);
	SAME(enable(self->device, elsewhere(m), PAGES * page), 0);
	DIFFER_STR(shows(m, elsewhere(m), PAGES), "abc000", "abc000");
	EXPECT_INTACT();
}

TEST_F(pair, msync)
{
	const int flags[] = { MS_ASYNC, MS_SYNC, MS_INVALIDATE, MS_SYNC | MS_INVALIDATE };

	EXPECT_INTACT();
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		SAME(msync(m->addr, PAGES * page, flags[i]), 0);
	SAME(msync(at(m, FILE_PAGES), page, MS_SYNC), 0);
	SAME(msync(m->addr, PAGES * page, MS_SYNC | MS_ASYNC), -EINVAL);
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
	SAME(fsync(m->fd), 0);
}

/* One digit for each page, 1 if it is in memory. */
static const char *in_memory(const struct side *m)
{
	static char picture[PAGES + 1];
	unsigned char vec[PAGES];

	if (mincore(m->addr, PAGES * page, vec))
		return strerror(errno);
	for (int i = 0; i < PAGES; i++)
		picture[i] = '0' + (vec[i] & 1);
	return picture;
}

TEST_F(pair, mincore)
{
	DIFFER_STR(shows(m, m->addr, FILE_PAGES), "abc", "abc");
	DIFFER_STR(in_memory(m), "111000", "111000");
	SHOWS("abc!!!", "abc000");
	DIFFER_STR(in_memory(m), "111000", "111111");
	SAME(madvise(m->addr, PAGES * page, MADV_DONTNEED), 0);
	DIFFER_STR(in_memory(m), "111000", "111000");
}

/* 0, or minus errno. */
static int register_userfaultfd(const struct side *m, int mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (unsigned long)m->addr, .len = PAGES * page },
		.mode = mode,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	int ret = 0;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		ret = -errno;
	/* close() also undoes the registration. */
	close(fd);
	return ret;
}

/*
 * vma_can_userfault() refuses VM_SPECIAL. It accepts plain shmem, but no ordinary file system. A
 * mapping that cannot become writable is not registered, either.
 */
TEST_F(pair, userfaultfd)
{
	int ordinary = variant->backing == MEMFD ? BY_CLASS(0, -EPERM, 0) : -EINVAL;

	need(_metadata, "userfaultfd");
	DIFFER(register_userfaultfd(m, UFFDIO_REGISTER_MODE_MISSING),
	       variant->backing == MEMFD ? 0 : -EINVAL, IS_ORDINARY_VMA ? ordinary : -EINVAL);
	DIFFER(register_userfaultfd(m, UFFDIO_REGISTER_MODE_WP),
	       variant->backing == MEMFD ? 0 : -EINVAL, IS_ORDINARY_VMA ? ordinary : -EINVAL);
	EXPECT_INTACT();
}

/* remap_file_pages(2) makes a new mapping (do_mmap()), which is plain. */
TEST_F(pair, remap_file_pages)
{
	SHOWS("abc!!!", "abc000");
	SAME(syscall(SYS_remap_file_pages, m->addr, page, 0, 1, 0), BY_CLASS(-EINVAL, 0, 0));
	SAME(syscall(SYS_remap_file_pages, at(m, 4), page, 0, 5, 0), BY_CLASS(-EINVAL, 0, 0));
	SHOWS(BY_CLASS("abc!!!", "bbc!!!", "bbc!!!"), BY_CLASS("abc000", "bbc0!0", "bbc0!0"));
}

TEST_F(pair, mseal)
{
	SAME(syscall(SYS_mseal, m->addr, PAGES * page, 0), 0);
	SAME(munmap(m->addr, page), -EPERM);
	SAME(mprotect(at(m, 1), page, PROT_NONE), -EPERM);
	SAME(remap(m, PAGES, 5, 0, NULL), -EPERM);
	SAME(mmap(at(m, 4), page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
	     -EPERM);
	EXPECT_INTACT();
	DIFFER_STR(child_shows(m, self->board, PAGES), IF_WRITABLE("ABC!!!", "abc!!!"),
		   IF_WRITABLE("ABCwww", "abc000"));
	DIFFER(enable(self->device, m->addr, PAGES * page), OPTED_IN_SEALED,
	       OPTED_IN_SEALED ?: OPTED_IN_TWICE);
}

/* The memory policy of an address, MPOL_*; minus errno. */
static int policy(const char *addr)
{
	int mode;

	if (syscall(SYS_get_mempolicy, &mode, NULL, 0, addr, MPOL_F_ADDR))
		return -errno;
	return mode;
}

TEST_F(pair, mbind)
{
	/* In a kernel without NUMA all of these calls return the same error. */
	long answer = result(syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0));
	unsigned long node0 = 1;
	int flags[] = { 0, MPOL_MF_MOVE, MPOL_MF_MOVE | MPOL_MF_STRICT };

	ASSERT_EQ(answer == 0, access("/sys/devices/system/node", F_OK) == 0);
	EXPECT_INTACT();
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		SAME(syscall(SYS_mbind, m->addr, PAGES * page, MPOL_BIND, &node0, 64, flags[i]),
		     answer);
	SAME(policy(m->addr), answer ? answer : MPOL_BIND);
	/* Part of it, which splits it. */
	SAME(syscall(SYS_mbind, at(m, 2), 2 * page, MPOL_INTERLEAVE, &node0, 64, 0),
	     answer);
	SHOWS(IF_WRITABLE("ABC!!!", "abc!!!"), IF_WRITABLE("ABCwww", "abc000"));
}

/* Which node the page is on; minus errno. */
static int node_of(char *addr)
{
	int node = 0;

	if (syscall(SYS_move_pages, 0, 1UL, &addr, NULL, &node, 0))
		return -errno;
	return node;
}

/* do_pages_stat_array() reports the zero page as it does in any program. */
TEST_F(pair, move_pages)
{
	int on_stack = 0, answer = node_of((char *)&on_stack);

	ASSERT_EQ(answer == 0, access("/sys/devices/system/node", F_OK) == 0);
	if (answer) {
		SAME(node_of(m->addr), answer);
		return;
	}
	SAME(node_of(at(m, 3)), -ENOENT);
	EXPECT_INTACT();
	SAME(node_of(m->addr), 0);
	DIFFER(node_of(at(m, 3)), -ENOENT, BY_CLASS(0, -EFAULT, 0));
}

/* Opts out for operations that an opted-in mapping does not support, then in again. */
TEST_F(pair, opt_out_and_in_again)
{
	struct side *m = &self->opted;

	EXPECT_INTACT();
	SAME(madvise(m->addr, PAGES * page, MADV_DONTFORK), 0);
	SAME(madvise(m->addr, PAGES * page, MADV_DONTDUMP), 0);
	ASSERT_EQ(disable(self->device, m->addr, PAGES * page), 0);
	SAME(madvise(m->addr, PAGES * page, MADV_DOFORK), 0);
	SAME(madvise(m->addr, PAGES * page, MADV_DODUMP), 0);
	SAME(make_room(m), 0);
	SAME(remap(m, PAGES, PAGES + 2, 0, NULL), 0);
	ASSERT_EQ(enable(self->device, m->addr, (PAGES + 2) * page), 0);
	SHOWS(IF_WRITABLE("ABC!!!!!", "abc!!!!!"), BY_CLASS("ABCwww00", "abc00000", "ABC00000"));
	DIFFER_STR(child_shows(m, self->board, PAGES), IF_WRITABLE("ABC!!!", "abc!!!"),
		   BY_CLASS("ABCwww", "abc000", "ABC000"));
}

TEST_HARNESS_MAIN
