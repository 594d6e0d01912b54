/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file, a mapping of it, and what that shows.
 *
 * What a mapping shows is written as a string, one character for each page:
 *	a b c	the content of the file's page 0, 1, 2
 *	A B C	the same, with what put() wrote over it
 *	0	zeros
 *	w	zeros, with what put() wrote over them
 *	!	SIGBUS
 *	-	SIGSEGV
 *	?	anything else
 */
#ifndef _NOSIGBUS_SIDE_H
#define _NOSIGBUS_SIDE_H

#include "nosigbus_test.h"

/* The file has two full pages and TAIL bytes of a third; three more pages are mapped. */
#define FILE_PAGES	3
#define PAGES		6
#define TAIL		100

/* The area of address space that a test reserves, and where in it the mapping is, in pages. */
#define AREA_PAGES	40
#define BEFORE		8

/* put() writes WRITTEN at this offset into a page. */
#define PUT_AT		8
#define WRITTEN		0x77

static size_t page;

struct side {
	int fd;
	size_t size;
	char *area, *addr;
};

/* The address of a page of the mapping. */
static inline char *at(const struct side *m, int index)
{
	return m->addr + index * page;
}

/* Whether all bytes at p from offset from to offset to (exclusive) equal byte. */
static inline bool all_are(char byte, const char *p, size_t from, size_t to)
{
	return from >= to || (p[from] == byte && !memcmp(p + from, p + from + 1, to - from - 1));
}

/* The character for the page at p, which may be a copy of one in the mapping. */
static inline char page_shows(const struct side *m, const char *p)
{
	size_t index, end = 0;
	int first = read_byte(p);
	bool written;

	if (first < 0)
		return first == -SIGBUS ? '!' : '-';
	written = p[PUT_AT] == WRITTEN;
	/* end: how many bytes of this page are content of the file. */
	if (first) {
		index = first - 'a';
		if (index >= m->size / page + 1)
			return '?';
		end = m->size - index * page < page ? m->size - index * page : page;
	}
	if (!all_are(first, p, 0, PUT_AT) ||
	    !(written || all_are(first, p, PUT_AT, PUT_AT + 1)) ||
	    !all_are(first, p, PUT_AT + 1, end) ||
	    !all_are(0, p, end > PUT_AT ? end : PUT_AT + 1, page))
		return '?';
	if (!first)
		return written ? 'w' : '0';
	return written ? first - 'a' + 'A' : first;
}

/* What the pages at p show. The next call overwrites the string. */
static inline const char *shows(const struct side *m, const char *p, int pages)
{
	static char picture[AREA_PAGES + 1];

	for (int i = 0; i < pages; i++)
		picture[i] = page_shows(m, p + i * page);
	picture[pages] = 0;
	return picture;
}

/* Writes to each page at p. 'w' for each write that worked, '!' for SIGBUS, '-' for SIGSEGV. */
static inline const char *put(char *p, int pages)
{
	static char picture[AREA_PAGES + 1];

	for (int i = 0; i < pages; i++) {
		int ret = write_byte(p + i * page + PUT_AT, WRITTEN);

		picture[i] = !ret ? 'w' : ret == -SIGBUS ? '!' : '-';
	}
	picture[pages] = 0;
	return picture;
}

/* A new file; false if that fails. */
static inline bool make_file(struct side *m, enum backing on)
{
	char *bytes;
	bool made;

	m->size = (FILE_PAGES - 1) * page + TAIL;
	m->fd = new_file(on);
	bytes = malloc(m->size);
	if (m->fd < 0 || !bytes)
		return false;
	for (size_t i = 0; i < m->size; i += page)
		memset(bytes + i, 'a' + i / page, m->size - i < page ? m->size - i : page);
	made = pwrite(m->fd, bytes, m->size, 0) == (ssize_t)m->size;
	free(bytes);
	return made;
}

/* The same, and a mapping of it in the middle of an area. */
static inline bool make_side(struct side *m, enum backing on, enum class class)
{
	if (!make_file(m, on))
		return false;
	m->area = mmap(NULL, AREA_PAGES * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->area == MAP_FAILED)
		return false;
	m->addr = mmap(m->area + BEFORE * page, PAGES * page, class_prot(class),
		       class_flags(class) | MAP_FIXED, m->fd, 0);
	return m->addr != MAP_FAILED;
}

/* How many VMAs the pages of an address range are in; holes do not count. */
static inline int vmas(const char *addr, int pages)
{
	unsigned long from = (unsigned long)addr, to = from + pages * page, start, end;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[PATH_MAX];
	int n = 0;

	if (!maps)
		return -1;
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start < to && end > from)
			n++;
	fclose(maps);
	return n;
}

/*
 * The entry of /proc/self/smaps for the VMA that starts at addr: the number (kB)
 * of a field, or for "VmFlags" whether flag is among them. -1 without a VMA.
 */
static inline long smaps_of(const char *addr, const char *field, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	char line[PATH_MAX], padded[16];
	bool here = false;
	long value = -1;

	if (!file)
		return -1;
	if (flag)
		snprintf(padded, sizeof(padded), " %s ", flag);
	while (value < 0 && fgets(line, sizeof(line), file)) {
		char *colon = strchr(line, ':');

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (unsigned long)addr;
		else if (here && colon && colon - line == (long)strlen(field) &&
			 !strncmp(line, field, strlen(field)))
			value = flag ? !!strstr(colon, padded) : atol(colon + 1);
	}
	fclose(file);
	return value;
}

#define HAS_FLAG(addr, flag)	smaps_of(addr, "VmFlags", flag)

#endif /* _NOSIGBUS_SIDE_H */
