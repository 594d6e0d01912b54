/* SPDX-License-Identifier: GPL-2.0-only */
/* What most tests start from: the device, a new file, and a mapping of it from its start. */
#ifndef _NOSIGBUS_MAPPED_FILE_H
#define _NOSIGBUS_MAPPED_FILE_H

#include "nosigbus_test.h"

/* The value of every byte of the file. */
#define CONTENT		0x5a

struct mapped_file {
	/* In bytes: a page, the file, and the mapping. */
	size_t page, size, len;
	int device, fd;
	/* The mapping, and the first page of it past EOF. */
	char *addr, *past;
	/* The file's name, if it has one. */
	char *path;
};

/* For a fixture: it gets these members directly, and as "file" for the functions below. */
#define MAPPED_FILE	union { struct mapped_file file; struct mapped_file; }

/* For FIXTURE_SETUP. These functions skip the test if this kernel lacks the file system. */

/* Opens the device, no more. */
static inline void set_up_device(struct __test_metadata *_metadata, struct mapped_file *m)
{
	catch_signals();
	m->page = page_size();
	m->fd = -1;
	m->addr = MAP_FAILED;
	m->device = open_device();
	ASSERT_GE(m->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
}

/* Also creates a file of size bytes of CONTENT. pages: how many of its pages will be mapped. */
static inline void set_up_named_file(struct __test_metadata *_metadata, struct mapped_file *m,
				     enum backing on, size_t size, int pages)
{
	need_backing(_metadata, on);
	set_up_device(_metadata, m);
	m->size = size;
	m->len = pages * m->page;
	m->fd = new_named_file(on, &m->path);
	ASSERT_GE(m->fd, 0) TH_LOG("new file: %s", strerror(errno));
	if (size)
		ASSERT_EQ(fill(m->fd, CONTENT, 0, size), 0);
}

/* The same. Also unlinks the file, where new_file() would. */
static inline void set_up_file(struct __test_metadata *_metadata, struct mapped_file *m,
			       enum backing on, size_t size, int pages)
{
	set_up_named_file(_metadata, m, on, size, pages);
	if (m->path && may_be_unnamed(on))
		unlink(m->path);
	free(m->path);
	m->path = NULL;
}

/* Records that the file has been mapped at addr. */
static inline void mapping_is_at(struct mapped_file *m, char *addr)
{
	m->addr = addr;
	m->past = addr + (m->size + m->page - 1) / m->page * m->page;
}

/* Maps the file. */
static inline void set_up_mapping(struct __test_metadata *_metadata, struct mapped_file *m,
				  enum class class)
{
	mapping_is_at(m, map_file(class, m->fd, m->len));
	ASSERT_NE(m->addr, MAP_FAILED) TH_LOG("mmap: %s", strerror(errno));
}

/* Maps the file and opts the mapping in. */
static inline void set_up_opted_in(struct __test_metadata *_metadata, struct mapped_file *m,
				   enum class class)
{
	need_class(_metadata, class);
	set_up_mapping(_metadata, m, class);
	ASSERT_EQ(enable(m->device, m->addr, m->len), 0);
}

/* Undoes as much of the setup as was done. */
static inline void tear_down(struct mapped_file *m)
{
	if (m->addr != MAP_FAILED)
		munmap(m->addr, m->len);
	if (m->path)
		unlink(m->path);
	free(m->path);
	close(m->fd);
	close(m->device);
}

#endif /* _NOSIGBUS_MAPPED_FILE_H */
