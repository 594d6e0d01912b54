/* SPDX-License-Identifier: GPL-2.0-only */
/* Files of the stress test: what is in them, and all the ways to change their size. */

#ifndef _NOSIGBUS_STRESS_FILES_H
#define _NOSIGBUS_STRESS_FILES_H

#include "stress.h"

#include <linux/falloc.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static const struct {
	const char *name;
	/* Whether fallocate can collapse and insert. */
	bool shifts;
} backings[] = {
	[MEMFD] = { "memfd", false }, [TMPFS] = { "tmpfs", false },
	[TMPFS_HUGE] = { "huge tmpfs", false }, [EXT4] = { "ext4", true }, [XFS] = { "xfs", true },
	[BTRFS] = { "btrfs", false }, [P9] = { "9p", false }, [OVERLAY] = { "overlay", true },
	[OVERLAY_COPIED_UP] = { "overlay, copied up", true },
	[OVERLAY_LOWER] = { "overlay, lower", true },
};

static const char *name_of(enum backing backing)
{
	return backings[backing].name;
}

/* What there is; a memfd takes the place of what this kernel lacks. */
static enum backing instead[ARRAY_SIZE(backings)];

static void find_backings(void)
{
	for (enum backing i = 0; i < ARRAY_SIZE(backings); i++) {
		const char *reason = why_no(backing_name(i));

		instead[i] = reason ? MEMFD : i;
		if (reason)
			ksft_print_msg("no %s: %s\n", name_of(i), reason);
	}
}

static void close_file(struct file *file)
{
	close(file->map_fd);
	close(file->fd);
	if (file->path)
		unlink(file->path);
	free(file->path);
	free(file->bytes);
}

static bool open_file(struct file *file, enum backing backing, int id)
{
	int error;

	backing = instead[backing];
	*file = (struct file){ .backing = backing, .id = id, .map_fd = -1 };
	file->fd = new_named_file(backing, &file->path);
	if (file->fd < 0)
		goto failed;
	/* Remove the name, unless that would be in the way (as in new_file()). */
	if (file->path && may_be_unnamed(backing)) {
		unlink(file->path);
		free(file->path);
		file->path = NULL;
	}
	file->map_fd = backing == OVERLAY_LOWER ? open_again(backing, file->fd, O_RDONLY) :
			dup(file->fd);
	file->bytes = calloc(FILE_PAGES, page);
	if (file->map_fd >= 0 && file->bytes)
		return true;
failed:
	error = errno;
	close_file(file);
	errno = error;
	return false;
}

static struct changes *changes_by(const struct worker *w, const struct file *file)
{
	/* The ids of shared files come first. */
	return &w->shared->changes[w->index][file->id - 1];
}

/* To be called before a change of a file that others may look at. */
static void begin(const struct worker *w, const struct file *file)
{
	if (file->shared)
		atomic_fetch_add(&changes_by(w, file)->begun, 1);
}

/*
 * To be called after the change. The kernel may not have reported a failed change to the module
 * (Documentation/growth.rst). It does report a change of times.
 */
static void end(const struct worker *w, const struct file *file, bool failed)
{
	if (file->shared && !(failed && futimens(file->fd, NULL)))
		atomic_fetch_add(&changes_by(w, file)->done, 1);
}

/* Ends the changes that a dead process has begun. */
static void end_all(struct shared *shared, int index, const struct file *shared_files)
{
	shared->hot = 0;
	for (int i = 0; i < SHARED_FILES; i++) {
		struct changes *changes = &shared->changes[index][i];

		if (changes->done != changes->begun && !futimens(shared_files[i].fd, NULL))
			changes->done = changes->begun;
	}
}

/* The number of changes to a shared file, or -1 while one is in progress. */
static long changes_of(const struct worker *w, const struct file *file)
{
	long done = 0, begun = 0;

	/* In this order: if both sums are equal, no change was in progress in between. */
	for (int i = 0; i < WORKERS; i++)
		done += w->shared->changes[i][file->id - 1].done;
	for (int i = 0; i < WORKERS; i++)
		begun += w->shared->changes[i][file->id - 1].begun;
	return done == begun ? begun : -1;
}

/*
 * Each word names its origin. From its last byte on, it has two letters, the file, the page, the
 * process that wrote it, and the number of words that this process has written.
 */
#define PAGE_BYTE	0x40
#define CHILD		0x80

static unsigned long word_for(struct worker *w, const struct file *file, long index, bool private)
{
	unsigned long who = (w->index + 1) | (w->child ? CHILD : 0);

	return (private ? 0x5056UL : 0x4e53UL) << 48 | (unsigned long)file->id << 40 |
		(index + PAGE_BYTE) << 32 | who << 24 | (++w->written & 0xffffff);
}

static void fill_words(struct worker *w, const struct file *file, void *bytes, off_t pos, size_t len)
{
	unsigned char *p = bytes;
	unsigned long value = 0;

	for (size_t i = 0; i < len; i++) {
		if (!i || !((pos + i) % sizeof(value)))
			value = word_for(w, file, (pos + i) / page, false);
		p[i] = value >> (pos + i) % sizeof(value) * 8;
	}
}

static size_t impossible(const struct worker *w, const struct file *file, long index, bool private,
		  const unsigned char *bytes)
{
	bool shifts = backings[file->backing].shifts;

	/* Byte for byte, as words may be read while they are written. */
	for (size_t i = 0; i < page; i++) {
		unsigned char byte = bytes[i], who = byte & ~CHILD;
		bool fine = true;

		if (!byte)
			continue;
		switch (i % sizeof(long)) {
		case 7:
			fine = byte == 0x4e || (private && byte == 0x50);
			break;
		case 6:
			fine = byte == 0x53 || (private && byte == 0x56);
			break;
		case 5:
			fine = byte == file->id;
			break;
		case 4:
			fine = byte == index + PAGE_BYTE ||
				(shifts && byte >= PAGE_BYTE && byte < CHILD);
			break;
		case 3:
			fine = who && who <= PROCESSES;
			break;
		}
		if (!fine)
			return i + 1;
		/* A private word is this process's, and no child's unless this is one. */
		if (i % sizeof(long) == 7 && byte == 0x50 && bytes[i - 1] == 0x56) {
			unsigned char owner = bytes[i - 4];

			if ((owner & ~CHILD) != w->index + 1 || (owner & CHILD && !w->child))
				return i - 3;
		}
	}
	return 0;
}

/* What changes of a file do to what its mappings show. */
static void file_grown(struct worker *w, struct file *file);
static void copies_may_be_dropped(struct worker *w, struct file *file, off_t from);
static void forget_mappings(struct worker *w, struct file *file);

/* A change of a file; all lengths and positions are bytes. */
struct change {
	struct worker *w;
	struct file *file;
	/* The size that the file has as far as it is known. */
	off_t size;
	off_t pos;
	size_t len;
	/* The file to copy from. */
	struct file *source;
	/* What is written. */
	unsigned char bytes[FILE_PAGES * 4096];
	char path[32];
};

/* Each makes one change, and returns the result of the system call, or minus errno. */
static long do_ftruncate(struct change *c)
{
	return result(ftruncate(c->file->fd, c->pos));
}

static long do_truncate(struct change *c)
{
	return result(truncate(c->path, c->pos));
}

static long do_o_trunc(struct change *c)
{
	int fd = open(c->path, O_RDWR | O_TRUNC | O_CLOEXEC);

	c->pos = 0;
	return fd < 0 ? -errno : result(close(fd));
}

static long do_pwrite(struct change *c)
{
	return result(pwrite(c->file->fd, c->bytes, c->len, c->pos));
}

static long do_write(struct change *c)
{
	if (lseek(c->file->fd, c->pos, SEEK_SET) < 0)
		return -errno;
	return result(write(c->file->fd, c->bytes, c->len));
}

static long do_pwritev(struct change *c)
{
	struct iovec iov[2] = {
		{ c->bytes, c->len / 2 }, { c->bytes + c->len / 2, c->len - c->len / 2 },
	};

	return result(pwritev(c->file->fd, iov, 2, c->pos));
}

static long do_splice(struct change *c)
{
	off_t out = c->pos;
	long ret;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	ret = result(write(fds[1], c->bytes, c->len));
	if (ret > 0)
		ret = result(splice(fds[0], NULL, c->file->fd, &out, ret, 0));
	close(fds[0]);
	close(fds[1]);
	return ret;
}

static long do_copy_file_range(struct change *c)
{
	off_t in = 0, out = c->pos;

	return result(copy_file_range(c->source->fd, &in, c->file->fd, &out, c->len, 0));
}

static long do_sendfile(struct change *c)
{
	off_t in = 0;

	if (lseek(c->file->fd, c->pos, SEEK_SET) < 0)
		return -errno;
	return result(sendfile(c->file->fd, c->source->fd, &in, c->len));
}

static long do_fallocate(struct change *c)
{
	return result(fallocate(c->file->fd, 0, c->pos, c->len));
}

static long do_keep_size(struct change *c)
{
	return result(fallocate(c->file->fd, FALLOC_FL_KEEP_SIZE, c->pos, c->len));
}

static long do_punch(struct change *c)
{
	return result(fallocate(c->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, c->pos,
				   c->len));
}

static long do_zero(struct change *c)
{
	return result(fallocate(c->file->fd, FALLOC_FL_ZERO_RANGE, c->pos, c->len));
}

static long do_collapse(struct change *c)
{
	return result(fallocate(c->file->fd, FALLOC_FL_COLLAPSE_RANGE, c->pos, c->len));
}

static long do_insert(struct change *c)
{
	return result(fallocate(c->file->fd, FALLOC_FL_INSERT_RANGE, c->pos, c->len));
}

/* Each updates the known content after such a change, and returns the new size. */
static off_t set_size(struct change *c, long ret)
{
	(void)ret;
	if (c->pos < c->size)
		memset(c->file->bytes + c->pos, 0, c->size - c->pos);
	return c->pos;
}

static off_t grown_to(const struct change *c, off_t end)
{
	return end > c->size ? end : c->size;
}

static off_t has_written(struct change *c, long ret)
{
	memcpy(c->file->bytes + c->pos, c->bytes, ret);
	return grown_to(c, c->pos + ret);
}

static off_t has_copied(struct change *c, long ret)
{
	memmove(c->file->bytes + c->pos, c->source->bytes, ret);
	return grown_to(c, c->pos + ret);
}

static off_t has_allocated(struct change *c, long ret)
{
	(void)ret;
	return grown_to(c, c->pos + c->len);
}

static off_t has_kept(struct change *c, long ret)
{
	(void)ret;
	return c->size;
}

static off_t has_punched(struct change *c, long ret)
{
	(void)ret;
	memset(c->file->bytes + c->pos, 0, c->len);
	return c->size;
}

static off_t has_zeroed(struct change *c, long ret)
{
	has_punched(c, ret);
	return has_allocated(c, ret);
}

static off_t has_collapsed(struct change *c, long ret)
{
	unsigned char *from = c->file->bytes + c->pos;
	size_t behind = c->size - c->pos - c->len;

	(void)ret;
	memmove(from, from + c->len, behind);
	memset(from + behind, 0, c->len);
	return c->size - c->len;
}

static off_t has_inserted(struct change *c, long ret)
{
	unsigned char *from = c->file->bytes + c->pos;

	(void)ret;
	memmove(from + c->len, from, c->size - c->pos);
	memset(from, 0, c->len);
	return c->size + c->len;
}

static const struct {
	const char *name;
	long (*run)(struct change *c);
	off_t (*becomes)(struct change *c, long ret);
	/* What pos and len are: any, inside the file and whole pages, a size. */
	enum { ANYWHERE, SHIFT, SIZE, COPY } where;
	bool may_drop_copies;
} changes[] = {
	/*
	 * The only change that is made on 9p. There, pages can stay mapped when a file shrinks,
	 * also in plain mappings, and the server may take a moment to report the size of a file.
	 */
	{ "pwrite", do_pwrite, has_written, ANYWHERE, false },
	{ "ftruncate", do_ftruncate, set_size, SIZE, true },
	{ "ftruncate", do_ftruncate, set_size, SIZE, true },
	{ "truncate", do_truncate, set_size, SIZE, true },
	{ "O_TRUNC", do_o_trunc, set_size, SIZE, true },
	{ "write", do_write, has_written, ANYWHERE, false },
	{ "pwritev", do_pwritev, has_written, ANYWHERE, false },
	{ "splice", do_splice, has_written, ANYWHERE, false },
	{ "sendfile", do_sendfile, has_copied, COPY, false },
	{ "copy_file_range", do_copy_file_range, has_copied, COPY, true },
	/* On xfs, it sets the size like truncate, which drops copies past that size. */
	{ "fallocate", do_fallocate, has_allocated, ANYWHERE, true },
	{ "KEEP_SIZE", do_keep_size, has_kept, ANYWHERE, false },
	{ "PUNCH_HOLE", do_punch, has_punched, ANYWHERE, true },
	{ "ZERO_RANGE", do_zero, has_zeroed, ANYWHERE, true },
	{ "COLLAPSE_RANGE", do_collapse, has_collapsed, SHIFT, true },
	{ "INSERT_RANGE", do_insert, has_inserted, SHIFT, true },
};

#define CHANGES		((int)ARRAY_SIZE(changes))
#define CHANGES_OF_P9	1

/* An offset of any byte, or, as often, of the start of a page. */
static off_t any_offset(struct worker *w, off_t max)
{
	off_t offset = any(w, max + 1);

	return chance(w, 50) ? offset : offset / (off_t)page * (off_t)page;
}

/* Chooses where; false if there is no such place. */
static bool choose_place(struct worker *w, struct change *c, int kind)
{
	const off_t max = FILE_PAGES * page;
	long pages = c->size / page, first, n;

	switch (changes[kind].where) {
	case SIZE:
		c->pos = any_offset(w, max);
		return true;
	case SHIFT:
		if (pages < 2)
			return false;
		first = any(w, pages - 1);
		n = 1 + any(w, pages - first);
		c->pos = first * page;
		c->len = n * page;
		/* Collapsing has to end before EOF, inserting inside the largest size. */
		if (changes[kind].run == do_collapse)
			return c->pos + (off_t)c->len < c->size;
		return c->size + (off_t)c->len <= max;
	case COPY:
	case ANYWHERE:
		c->pos = any_offset(w, max - 1);
		c->len = 1 + any_offset(w, max - c->pos - 1);
		if (changes[kind].where == ANYWHERE)
			return true;
		if ((off_t)c->len > c->source->size)
			c->len = c->source->size;
		return c->len && c->source != c->file;
	}
	return false;
}

static bool for_want_of_memory(long ret)
{
	return ret == -ENOMEM || ret == -ENOSPC || ret == -ENFILE;
}

/* Reads the content of the file again, after a change that may have been made in part. */
static void look_again(struct worker *w, struct file *file)
{
	struct stat st = {};
	ssize_t ret = 0;
	off_t got = 0;

	forget_mappings(w, file);
	memset(file->bytes, 0, FILE_PAGES * page);
	if (fstat(file->fd, &st) || st.st_size > (off_t)(FILE_PAGES * page)) {
		complain(w, ANSWER, "fstat: %s, size %ld", strerror(errno), (long)st.st_size);
		return;
	}
	file->size = st.st_size;
	for (int try = 0; got < file->size && try < 1000; try++) {
		ret = pread(file->fd, file->bytes + got, file->size - got, got);
		if (ret > 0)
			got += ret;
		else if (!ret || errno != ENOMEM)
			break;
	}
	if (got < file->size)
		complain(w, ANSWER, "reading a file of %s: %s", name_of(file->backing),
			 strerror(errno));
}

static bool resize(struct worker *w, struct file *file)
{
	static struct change change;
	struct change *c = &change;
	int kind = any(w, file->backing == P9 ? CHANGES_OF_P9 : CHANGES);
	off_t old = file->size;
	struct stat st;
	long ret;

	c->w = w;
	c->file = file;
	c->size = old;
	c->source = &w->own[any(w, OWN_FILES)];
	if (file->shared) {
		if (fstat(file->fd, &st))
			return false;
		c->size = st.st_size;
	}
	if (!choose_place(w, c, kind))
		return false;
	/* A shared file must not get words of other files, and others use its position too. */
	if (file->shared && (changes[kind].where == COPY || changes[kind].run == do_write))
		return false;
	if (file->shared && changes[kind].where == SHIFT && !backings[file->backing].shifts)
		return false;
	if (changes[kind].where == ANYWHERE)
		fill_words(w, file, c->bytes, c->pos, c->len);
	snprintf(c->path, sizeof(c->path), "/proc/self/fd/%d", file->fd);

	begin(w, file);
	ret = changes[kind].run(c);
	end(w, file, for_want_of_memory(ret));
	if (ret == -EOPNOTSUPP || (changes[kind].where == COPY && ret == -EXDEV))
		return false;
	/* Another process has made the file too small or too large for this change. */
	if (file->shared && changes[kind].where == SHIFT && (ret == -EINVAL || ret == -EFBIG))
		return false;
	if (ret < 0) {
		if (!for_want_of_memory(ret)) {
			complain(w, ANSWER, "%s of a %s file of %s, %ld bytes, at %ld, %zu bytes: %s",
				 changes[kind].name, file->shared ? "shared" : "own",
				 name_of(file->backing), (long)c->size, (long)c->pos, c->len,
				 strerror(-ret));
			return false;
		}
		count(&w->progress->failed_resizes, 1);
		if (!file->shared)
			look_again(w, file);
		return false;
	}
	if (file->shared)
		return true;

	file->size = changes[kind].becomes(c, ret);
	if (file->size > old)
		count(&w->progress->growths, 1);
	if (changes[kind].may_drop_copies)
		copies_may_be_dropped(w, file, changes[kind].run == do_fallocate ? file->size :
								       c->pos);
	file_grown(w, file);
	return true;
}

/* How often a file shrinks and grows while all look at it. */
#define RUSHES		32

/*
 * Calls the other workers to a shared file, and makes it shrink and grow. It grows only by words,
 * so that the others notice a stand-in that is left over.
 */
static bool rush(struct worker *w, struct file *file)
{
	static unsigned char bytes[FILE_PAGES * 4096];
	bool failed = false;
	long ret;

	w->shared->hot = file->id;
	for (int i = 0; i < RUSHES && !failed && !stopped(w); i++) {
		off_t from = any(w, FILE_PAGES) * page, to = FILE_PAGES * page;

		fill_words(w, file, bytes, from, to - from);
		begin(w, file);
		ret = result(ftruncate(file->fd, from));
		if (!ret)
			ret = result(pwrite(file->fd, bytes, to - from, from));
		failed = ret != to - from;
		end(w, file, failed);
		/* Less than all has been written if there was no memory for more. */
		if (ret < 0 && !for_want_of_memory(ret))
			complain(w, ANSWER, "many resizes of a file of %s, at %ld: %s",
				 name_of(file->backing), (long)from, strerror(-ret));
		if (!failed)
			count(&w->progress->ops[RESIZE], 2);
		/* Time for the others to look. */
		usleep(any(w, 300));
	}
	w->shared->hot = 0;
	return !failed;
}

#endif /* _NOSIGBUS_STRESS_FILES_H */
