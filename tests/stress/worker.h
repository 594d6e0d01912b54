/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A worker of the stress test. It does random operations on mappings, and knows what each page has
 * to show. For its own files, it knows each byte. For files that others resize, it knows each byte
 * while no change is in progress (changes_of()). Otherwise it knows which bytes are possible
 * (impossible()).
 */

#ifndef _NOSIGBUS_STRESS_WORKER_H
#define _NOSIGBUS_STRESS_WORKER_H

#include "files.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

/* Where the kernel puts nothing on its own: it goes down from the stack. */
#define ARENA		((char *)0x10000000000)

/* Steps of a child, and steps between two readings of the number of faults. */
#define CHILD_STEPS	60
#define ROUND		64

/* The most reads of a page of a shared file, until no change is in the way. */
#define LOOKS		20

static const char * const op_names[OPS] = {
	[CHECK] = "check", [STORE] = "store", [MAP] = "mmap", [UNMAP] = "munmap",
	[PROTECT] = "mprotect", [MOVE] = "mremap", [ADVISE] = "madvise", [SYNC] = "msync",
	[LOCK] = "mlock", [OPT_IN] = "ENABLE", [OPT_OUT] = "DISABLE", [ASK] = "STATUS",
	[RESIZE] = "resize", [RUSH] = "many resizes", [FORK] = "fork",
	[UNLOAD] = "delete_module", [RETIRE] = "new file",
	[EAT] = "store of a hog",
};

static char *address_of(const struct worker *w, const struct piece *p)
{
	return w->arena + ((size_t)p->slot * SLOT_PAGES + p->first) * page;
}

static int index_of(const struct piece *p, int i)
{
	return p->pgoff + i;
}

static int pages_of_file(const struct file *file)
{
	return (file->size + page - 1) / page;
}

/* Describes a piece in a complaint. */
static const char *describe(const struct piece *p)
{
	static const char * const classes[] = { "private", "shared read", "shared write" };
	static char text[160];

	snprintf(text, sizeof(text), "%s %s mapping of %s file %d on %s, prot %d, flags %x",
		 p->object ? "opted-in" : "plain", classes[p->class],
		 p->file->shared ? "shared" : "own", p->file->id, name_of(p->file->backing),
		 p->prot, p->object ? p->object->flags : 0);
	return text;
}

static bool out_of_memory(struct worker *w, long ret)
{
	/* pipe2() says ENFILE. */
	if (ret != -ENOMEM && ret != -EAGAIN && ret != -EMFILE && ret != -ENFILE)
		return false;
	count(&w->progress->out_of_memory, 1);
	return true;
}

/* For the result of an access: there, the number of -EAGAIN is -SIGSEGV. */
static bool no_memory_to_access(struct worker *w, long ret)
{
	return ret != -SIGSEGV && out_of_memory(w, ret);
}

/* For calls whose ENOMEM says that there is no mapping, or no page. */
static bool only_eagain(struct worker *w, long ret)
{
	return ret == -EAGAIN && out_of_memory(w, ret);
}

/* Pieces, and what they have in common. */
static struct piece *new_piece(struct worker *w)
{
	for (int i = 0; i < PIECES; i++)
		if (!w->pieces[i].used) {
			memset(&w->pieces[i], 0, sizeof(w->pieces[i]));
			return &w->pieces[i];
		}
	return NULL;
}

static int free_pieces(const struct worker *w)
{
	int n = 0;

	for (int i = 0; i < PIECES; i++)
		n += !w->pieces[i].used;
	return n;
}

static struct piece *any_piece(struct worker *w)
{
	int start = any(w, PIECES);

	for (int i = 0; i < PIECES; i++) {
		struct piece *p = &w->pieces[(start + i) % PIECES];

		if (p->used)
			return p;
	}
	return NULL;
}

/* A piece of the file that rush() calls all workers to, if there is one. */
static struct piece *hot_piece(struct worker *w)
{
	int start = any(w, PIECES), hot = w->shared->hot;

	for (int i = 0; hot && i < PIECES; i++) {
		struct piece *p = &w->pieces[(start + i) % PIECES];

		if (p->used && p->file->id == hot)
			return p;
	}
	return NULL;
}

static int empty_slot(struct worker *w)
{
	int start = any(w, SLOTS);

	for (int i = 0; i < SLOTS; i++) {
		int slot = (start + i) % SLOTS;
		bool empty = true;

		for (int j = 0; j < PIECES; j++)
			empty &= !w->pieces[j].used || w->pieces[j].slot != slot;
		if (empty)
			return slot;
	}
	return -1;
}

static void put_object(struct object *object)
{
	if (!object || --object->pieces)
		return;
	for (int i = 0; i < INDEXES; i++)
		free(object->shadows[i]);
	if (object->flags & NOSIGBUS_EVENTFD)
		close(object->eventfd);
	memset(object, 0, sizeof(*object));
}

static struct object *new_object(struct worker *w, struct file *file, unsigned int flags,
				 int eventfd)
{
	struct object *object = w->objects;

	/* There are no fewer than pieces. */
	while (object->pieces)
		object++;
	*object = (struct object){
		.pieces = 1, .file = file, .flags = flags, .eventfd = eventfd,
	};
	return object;
}

static void drop_copy(struct piece *p, int i)
{
	free(p->copies[i].bytes);
	p->copies[i] = (struct copy){};
}

static void drop_copies(struct piece *p)
{
	for (int i = 0; i < p->pages; i++)
		drop_copy(p, i);
}

static void forget_piece(struct piece *p)
{
	drop_copies(p);
	put_object(p->object);
	p->used = false;
}

/* Two pieces of one; the second begins with its page at. */
static struct piece *split(struct worker *w, struct piece *p, int at)
{
	struct piece *second = new_piece(w);

	*second = *p;
	second->first += at;
	second->pgoff += at;
	second->pages -= at;
	memmove(second->copies, p->copies + at, second->pages * sizeof(p->copies[0]));
	memset(second->copies + second->pages, 0, at * sizeof(p->copies[0]));
	memset(p->copies + at, 0, second->pages * sizeof(p->copies[0]));
	p->pages = at;
	if (p->object)
		p->object->pieces++;
	return second;
}

/* The piece that has just these pages of one. */
static struct piece *cut_out(struct worker *w, struct piece *p, int from, int to)
{
	if (to < p->pages)
		split(w, p, to);
	return from ? split(w, p, from) : p;
}

/* Whether the eventfd has been signalled as often as expected since the last call. */
static bool is_signalled(struct object *o, bool expected)
{
	uint64_t times = 0;

	if (read(o->eventfd, &times, sizeof(times)) < 0 && errno != EAGAIN)
		return false;
	return o->asked || times == expected;
}

/*
 * Checks the STATUS of a piece, and counts the changes since the last call. Here and elsewhere, the
 * device does not stay open: only mappings should keep the module from being unloaded.
 */
static bool ask(struct worker *w, struct piece *p)
{
	struct object *o = p->object;
	struct nosigbus_status s;
	unsigned int shadows = 0;
	int device, ret;
	bool fine;

	if (!IS_MODULE)
		return o;
	device = open_device();
	ret = device < 0 ? -errno :
		status_of(device, address_of(w, p) + any(w, p->pages * page), 0, &s);
	close(device);
	if (out_of_memory(w, ret))
		return false;
	if (!o) {
		if (ret != -ENOENT)
			complain(w, ANSWER, "STATUS: %s: %s", strerror(-ret), describe(p));
		return false;
	}
	for (int i = 0; i < INDEXES; i++)
		shadows += !!o->shadows[i];
	fine = !ret && s.flags == o->flags && s.zero_pages >= o->last.zero_pages &&
		s.private_pages >= o->last.private_pages &&
		s.shadow_pages >= o->last.shadow_pages && s.given_back >= o->last.given_back &&
		s.shadow_pages_held >= shadows && s.shadow_pages_held <= INDEXES &&
		!s.errors && !s.error;
	/* Each kind of mapping has its kind of stand-in. */
	if (p->class == SHARED_WRITE)
		fine &= !s.zero_pages && !s.private_pages;
	else
		fine &= !s.shadow_pages && !s.shadow_pages_held && !s.given_back;
	if (!fine) {
		complain(w, ANSWER,
			 "STATUS: %d, flags %x, zero %llu, private %llu, shadow %llu, held %llu (%u), back %llu, errors %llu (%u): %s",
			 ret, s.flags, s.zero_pages, s.private_pages, s.shadow_pages,
			 s.shadow_pages_held, shadows, s.given_back, s.errors, s.error, describe(p));
		return false;
	}
	/* Parent and child share the numbers, and only the parent counts them. */
	if (!w->child) {
		if (o->flags & NOSIGBUS_EVENTFD) {
			bool expected = stand_ins(&s) > stand_ins(&o->last);

			if (!is_signalled(o, expected)) {
				complain(w, ANSWER, "the eventfd, %d stand-ins: %s", expected,
					 describe(p));
				return false;
			}
			count(&w->progress->events, expected);
		}
		o->asked = false;
		count(&w->progress->stand_ins, stand_ins(&s) - stand_ins(&o->last));
		count(&w->progress->given_back, s.given_back - o->last.given_back);
	}
	o->last = s;
	return true;
}

static void unmap_piece(struct worker *w, struct piece *p)
{
	if (p->object)
		ask(w, p);
	/* Unmapping a whole VMA allocates nothing, but a merged VMA has to be split. */
	while (munmap(address_of(w, p), p->pages * page))
		if (!out_of_memory(w, -errno)) {
			complain(w, ANSWER, "munmap: %s: %s", strerror(errno), describe(p));
			break;
		}
	forget_piece(p);
}

/* A failed call may have been done in part, so that the content of the slot is not known. */
static void clear_slot(struct worker *w, int slot)
{
	for (int i = 0; i < PIECES; i++)
		if (w->pieces[i].used && w->pieces[i].slot == slot)
			forget_piece(&w->pieces[i]);
	while (munmap(w->arena + (size_t)slot * SLOT_PAGES * page, SLOT_PAGES * page))
		if (!out_of_memory(w, -errno)) {
			complain(w, ANSWER, "munmap of a slot: %s", strerror(errno));
			return;
		}
}

static void file_grown(struct worker *w, struct file *file)
{
	int end = pages_of_file(file);

	for (struct object *o = w->objects; o < w->objects + OBJECTS; o++)
		for (int i = 0; o->file == file && i < end && i < INDEXES; i++) {
			free(o->shadows[i]);
			o->shadows[i] = NULL;
		}
}

static void copies_may_be_dropped(struct worker *w, struct file *file, off_t from)
{
	for (struct piece *p = w->pieces; p < w->pieces + PIECES; p++)
		for (int i = 0; p->used && p->file == file && i < p->pages; i++)
			if (index_of(p, i) >= (int)(from / page))
				p->copies[i].maybe = true;
}

static void forget_mappings(struct worker *w, struct file *file)
{
	for (struct piece *p = w->pieces; p < w->pieces + PIECES; p++)
		if (p->used && p->file == file)
			unmap_piece(w, p);
}

/* What a page shows that has no private copy; NULL: SIGBUS. */
static const unsigned char *underlying(const struct piece *p, int i)
{
	static unsigned char zeros[4096];
	int index = index_of(p, i);

	if (index < pages_of_file(p->file))
		return p->file->bytes + index * page;
	if (!p->object)
		return NULL;
	return p->class == SHARED_WRITE && p->object->shadows[index] ?
		p->object->shadows[index] : zeros;
}

/* Ways to read a page and to write a word; each returns 0, minus the signal or EFAULT. */
enum way { DIRECTLY, BY_PIPE, BY_PROCESS_VM, BY_PROC_MEM, WAYS };

static long all_or_error(long ret, size_t len)
{
	return ret < 0 ? -errno : (size_t)ret == len ? 0 : -EFAULT;
}

static long read_directly(void *to, const void *from)
{
	sigjmp_buf before;
	int sig;

	memcpy(before, access_failed, sizeof(before));
	sig = sigsetjmp(access_failed, 0);
	if (!sig)
		memcpy(to, from, page);
	memcpy(access_failed, before, sizeof(before));
	return -sig;
}

static long read_page(enum way way, void *to, void *from)
{
	struct iovec local = { to, page }, remote = { from, page };
	int fds[2], fd;
	long ret;

	switch (way) {
	case DIRECTLY:
		return read_directly(to, from);
	case BY_PIPE:
		if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
			return -errno;
		ret = all_or_error(write(fds[1], from, page), page);
		if (!ret)
			ret = all_or_error(read(fds[0], to, page), page);
		close(fds[0]);
		close(fds[1]);
		return ret;
	case BY_PROCESS_VM:
		return all_or_error(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), page);
	default:
		fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		ret = pread(fd, to, page, (long)from);
		/* EIO is its word for EFAULT. */
		ret = ret < 0 ? (errno == EIO ? -EFAULT : -errno) : all_or_error(ret, page);
		close(fd);
		return ret;
	}
}

static long write_directly(void *to, unsigned long value)
{
	sigjmp_buf before;
	int sig;

	memcpy(before, access_failed, sizeof(before));
	sig = sigsetjmp(access_failed, 0);
	if (!sig)
		*(volatile unsigned long *)to = value;
	memcpy(access_failed, before, sizeof(before));
	return -sig;
}

static long write_word(enum way way, void *to, unsigned long value)
{
	struct iovec local = { &value, sizeof(value) }, remote = { to, sizeof(value) };
	int fds[2];
	long ret;

	switch (way) {
	case DIRECTLY:
		return write_directly(to, value);
	case BY_PIPE:
		if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
			return -errno;
		ret = all_or_error(write(fds[1], &value, sizeof(value)), sizeof(value));
		if (!ret)
			ret = all_or_error(read(fds[0], to, sizeof(value)), sizeof(value));
		close(fds[0]);
		close(fds[1]);
		return ret;
	default:
		return all_or_error(process_vm_writev(getpid(), &local, 1, &remote, 1, 0),
				    sizeof(value));
	}
}

/* Whether an access has failed in its way: directly by the signal, in a system call by EFAULT. */
static bool same_failure(enum way way, long ret, int sig)
{
	return ret == (way == DIRECTLY ? -sig : -EFAULT);
}

static bool same_page(const unsigned char *a, const unsigned char *b)
{
	return b && !memcmp(a, b, page);
}

/* The kernel may map a huge page of the file across EOF. */
static bool may_be_mapped_past_eof(const struct piece *p)
{
	return p->file->backing == TMPFS_HUGE;
}

/* Where two pages begin to be different, if they are. */
static size_t difference(const unsigned char *a, const unsigned char *b)
{
	size_t at = 0;

	while (at < page - 1 && a[at] == b[at])
		at++;
	return at;
}

static void complain_of_page(struct worker *w, const struct piece *p, int i,
			     const unsigned char *got, const unsigned char *expected, size_t at)
{
	at -= at % sizeof(long);
	complain(w, BYTE, "page %d (index %d, file size %ld), offset %zu: %016lx, not %016lx: %s",
		 i, index_of(p, i), (long)p->file->size, at, *(const unsigned long *)(got + at),
		 expected ? *(const unsigned long *)(expected + at) : 0, describe(p));
}

/* Past EOF, a shadow page shows what this worker and its children have written. */
static bool may_be_shadow(const struct worker *w, const struct piece *p, const unsigned char *got)
{
	for (size_t at = 0; at < page; at += sizeof(long)) {
		unsigned long word = *(const unsigned long *)(got + at);

		if (word && (p->class != SHARED_WRITE ||
			     (word >> 24 & 0xff & ~CHILD) != (unsigned int)w->index + 1))
			return false;
	}
	return true;
}

/* For a page of which len bytes are inside EOF, while no change of the file is in progress. */
static void check_exactly(struct worker *w, struct piece *p, int i, enum way way, long ret,
			  const unsigned char *got, const unsigned char *expected, size_t len)
{
	bool inside = len, signals = !inside && !p->object;

	if (!inside && may_be_mapped_past_eof(p))
		return;
	if (signals != !!ret)
		complain(w, SIGNAL, "reading page %d (index %d, %s EOF): %ld (way %d): %s", i,
			 index_of(p, i), inside ? "inside" : "past", ret, way, describe(p));
	else if (inside && memcmp(got, expected, len))
		complain_of_page(w, p, i, got, expected, difference(got, expected));
	else if (!inside && !ret && !may_be_shadow(w, p, got))
		complain_of_page(w, p, i, got, expected, difference(got, expected));
	else
		count(&w->progress->exact, 1);
}

/* For a shared file. The page that holds EOF may have any bytes after EOF. */
static bool check_shared(struct worker *w, struct piece *p, int i, enum way way)
{
	unsigned char got[4096], expected[4096];
	char *addr = address_of(w, p) + i * page;
	long ret, changes;
	ssize_t len;
	size_t wrong;

	for (int n = 0; n < LOOKS && !stopped(w); n++) {
		changes = changes_of(w, p->file);
		/* Have the read fault during the change: a later read may find traces of that. */
		if (changes < 0 && !p->copies[i].maybe)
			madvise(addr, page, MADV_DONTNEED);
		ret = read_page(way, got, addr);
		if (no_memory_to_access(w, ret))
			return n;
		count(&w->progress->pages, 1);
		/* A plain mapping may raise SIGBUS at any time. */
		if (ret && (p->object || !same_failure(way, ret, SIGBUS))) {
			complain(w, SIGNAL, "reading page %d: %ld (way %d): %s", i, ret, way,
				 describe(p));
			return true;
		}
		wrong = ret ? 0 : impossible(w, p->file, index_of(p, i), p->class == PRIVATE, got);
		if (wrong) {
			complain_of_page(w, p, i, got, NULL, wrong - 1);
			return true;
		}
		if (p->copies[i].maybe)
			return true;
		memset(expected, 0, page);
		len = pread(p->file->fd, expected, page, index_of(p, i) * page);
		if (len >= 0 && changes >= 0 && changes_of(w, p->file) == changes) {
			check_exactly(w, p, i, way, ret, got, expected, len);
			return true;
		}
	}
	return true;
}

/* False if there was no memory to look at it with. */
static bool check_page(struct worker *w, struct piece *p, int i)
{
	enum way way = chance(w, 70) ? DIRECTLY : any(w, WAYS);
	const unsigned char *expected;
	struct copy *copy = &p->copies[i];
	unsigned char got[4096];
	long ret;

	if (!(p->prot & PROT_READ))
		way = DIRECTLY;
	else if (p->file->shared)
		return check_shared(w, p, i, way);
	ret = read_page(way, got, address_of(w, p) + i * page);
	if (no_memory_to_access(w, ret))
		return false;
	count(&w->progress->pages, 1);
	if (!(p->prot & PROT_READ)) {
		if (ret != -SIGSEGV)
			complain(w, SIGNAL, "reading page %d: %ld, not SIGSEGV: %s", i, ret,
				 describe(p));
		return true;
	}

	expected = underlying(p, i);
	if (copy->bytes && !ret && same_page(got, copy->bytes)) {
		if (!same_page(got, expected))
			copy->maybe = false;
		return true;
	}
	if (copy->bytes && !copy->maybe)
		expected = copy->bytes;
	else
		drop_copy(p, i);
	if (ret) {
		if (expected || !same_failure(way, ret, SIGBUS))
			complain(w, SIGNAL,
				 "reading page %d (index %d, file size %ld): %ld (way %d): %s", i,
				 index_of(p, i), (long)p->file->size, ret, way, describe(p));
		return true;
	}
	if (!expected) {
		if (!may_be_mapped_past_eof(p))
			complain(w, SIGNAL, "reading page %d (index %d, file size %ld) works: %s",
				 i, index_of(p, i), (long)p->file->size, describe(p));
		return true;
	}
	if (!same_page(got, expected))
		complain_of_page(w, p, i, got, expected, difference(got, expected));
	return true;
}

static bool check_some(struct worker *w)
{
	struct piece *p = hot_piece(w) ?: any_piece(w);
	bool done = false;
	int n, first;

	if (!p)
		return false;
	n = 1 + any(w, p->pages);
	first = any(w, p->pages - n + 1);
	for (int i = first; i < first + n && !stopped(w); i++)
		done |= check_page(w, p, i);
	return done;
}

static void check_all(struct worker *w)
{
	for (int i = 0; i < PIECES; i++)
		for (int j = 0; w->pieces[i].used && j < w->pieces[i].pages; j++)
			check_page(w, &w->pieces[i], j);
}

/* How much of the page may be stored to: bytes after EOF in it are never seen again. */
static size_t room(const struct piece *p, int i)
{
	off_t pos = (off_t)index_of(p, i) * page;

	if (p->class == SHARED_WRITE && !p->file->shared && pos < p->file->size &&
	    p->file->size - pos < (off_t)page)
		return p->file->size - pos;
	return page;
}

/* Records what a store has done. */
static void has_stored(struct piece *p, int i, size_t at, unsigned long value)
{
	int index = index_of(p, i);
	unsigned char **bytes;

	if (p->class == SHARED_WRITE && index < pages_of_file(p->file)) {
		memcpy(p->file->bytes + index * page + at, &value, sizeof(value));
		return;
	}
	bytes = p->class == PRIVATE ? &p->copies[i].bytes : &p->object->shadows[index];
	if (!*bytes) {
		const unsigned char *before = underlying(p, i);

		*bytes = malloc(page);
		if (!*bytes)
			abort();
		memcpy(*bytes, before, page);
	}
	memcpy(*bytes + at, &value, sizeof(value));
	p->copies[i].maybe = false;
}

static bool store_to(struct worker *w, struct piece *p, int i)
{
	enum way way = chance(w, 70) ? DIRECTLY : any(w, BY_PROC_MEM);
	bool past_eof = index_of(p, i) >= pages_of_file(p->file), signals;
	unsigned long value;
	size_t words, at;
	long ret;

	/* Only the parent changes what both share. */
	if (w->child && p->class == SHARED_WRITE && !p->file->shared)
		return false;
	/* The store may go to a huge page of the file or to a stand-in. */
	if (!p->file->shared && past_eof && may_be_mapped_past_eof(p))
		return false;
	words = room(p, i) / sizeof(value);
	if (!words)
		return false;
	at = any(w, words) * sizeof(value);
	/* Find out whether the copy is still there. */
	if (p->copies[i].bytes && p->copies[i].maybe && p->prot & PROT_READ)
		check_page(w, p, i);
	if (p->copies[i].bytes && p->copies[i].maybe)
		return false;
	value = word_for(w, p->file, index_of(p, i), p->class == PRIVATE);
	if (p->class == PRIVATE && p->file->shared)
		p->copies[i].maybe = true;
	begin(w, p->file);
	ret = write_word(way, address_of(w, p) + i * page + at, value);
	end(w, p->file, false);
	if (no_memory_to_access(w, ret))
		return false;
	if (!(p->prot & PROT_WRITE)) {
		if (!same_failure(way, ret, SIGSEGV))
			complain(w, SIGNAL, "writing to page %d: %ld, not SIGSEGV (way %d): %s", i,
				 ret, way, describe(p));
		return false;
	}
	if (p->file->shared) {
		if (ret && (p->object || !same_failure(way, ret, SIGBUS)))
			complain(w, SIGNAL, "writing to page %d: %ld (way %d): %s", i, ret, way,
				 describe(p));
		return !ret;
	}
	signals = !p->copies[i].bytes && !underlying(p, i);
	if (signals ? !same_failure(way, ret, SIGBUS) : ret)
		complain(w, SIGNAL, "writing to page %d (index %d, file size %ld): %ld (way %d): %s",
			 i, index_of(p, i), (long)p->file->size, ret, way, describe(p));
	else if (!signals)
		has_stored(p, i, at, value);
	return !ret;
}

static bool store_some(struct worker *w)
{
	struct piece *p = any_piece(w);
	bool done = false;

	for (int n = p ? 1 + any(w, 4) : 0; n && !stopped(w); n--)
		done |= store_to(w, p, any(w, p->pages));
	return done;
}

/* Whether the kernel may have merged a plain neighbour with this piece into one VMA. */
static bool may_be_merged(const struct worker *w, const struct piece *p)
{
	for (const struct piece *o = w->pieces; o < w->pieces + PIECES; o++)
		if (o != p && o->used && !o->object && o->slot == p->slot &&
		    (o->first + o->pages == p->first || p->first + p->pages == o->first))
			return true;
	return false;
}

/* What ENABLE answers, if it answers at all. */
static int enable_answers(const struct worker *w, const struct piece *p)
{
	if (p->object)
		return OPTED_IN_TWICE;
	if (!OPTS_IN_SHARED_WRITE && p->class == SHARED_WRITE && p->prot & PROT_WRITE)
		return REFUSED;
	return !IS_ORDINARY_VMA && may_be_merged(w, p) ? -EINVAL : 0;
}

static bool opt_in(struct worker *w, struct piece *p)
{
	unsigned int flags = !IS_MODULE || chance(w, 60) ? 0 : any(w, 4);
	bool events = flags & NOSIGBUS_EVENTFD;
	int device = open_device(), event = events ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : 0;
	int ret = device < 0 || event < 0 ? -errno :
		flags ? enable_with(device, address_of(w, p), p->pages * page, flags, event) :
			enable(device, address_of(w, p), p->pages * page);

	close(device);
	if (!ret && !p->object && enable_answers(w, p) != REFUSED) {
		p->object = new_object(w, p->file, flags, event);
		/* A mapping that is read-only when it opts in stays so for good. */
		if (p->class == SHARED_WRITE && !(p->prot & PROT_WRITE))
			p->class = SHARED_READ;
		return true;
	}
	if (events)
		close(event);
	if (!out_of_memory(w, ret) && ret != enable_answers(w, p))
		complain(w, ANSWER, "ENABLE: %s: %s", strerror(-ret), describe(p));
	return false;
}

static bool opt_out(struct worker *w, struct piece *p)
{
	int device, ret;

	if (p->object)
		ask(w, p);
	device = open_device();
	ret = device < 0 ? -errno : disable(device, address_of(w, p), p->pages * page);
	close(device);
	if (!ret && p->object) {
		put_object(p->object);
		p->object = NULL;
		return true;
	}
	if (!out_of_memory(w, ret) && (p->object || ret != OPTED_OUT_TWICE) &&
	    (p->object || ret != -EINVAL || !may_be_merged(w, p)))
		complain(w, ANSWER, "DISABLE: %s: %s", strerror(-ret), describe(p));
	return false;
}

static bool map_some(struct worker *w)
{
	struct piece *p = new_piece(w);
	int slot = empty_slot(w);
	char *addr;

	if (!p || slot < 0)
		return false;
	p->file = chance(w, 60) ? &w->own[any(w, OWN_FILES)] : &w->shared_files[any(w, SHARED_FILES)];
	p->class = any(w, 3);
	p->prot = class_prot(p->class);
	p->slot = slot;
	p->first = 1 + any(w, 4);
	p->pages = 1 + any(w, MAP_PAGES);
	p->pgoff = any(w, MAX_PGOFF + 1);
	if (p->file->backing == OVERLAY_LOWER && p->class == SHARED_WRITE)
		p->class = PRIVATE;
	addr = mmap(address_of(w, p), p->pages * page, p->prot,
		    class_flags(p->class) | MAP_FIXED_NOREPLACE, p->file->map_fd, p->pgoff * page);
	if (addr == MAP_FAILED && out_of_memory(w, -errno))
		return false;
	if (addr != address_of(w, p)) {
		complain(w, ANSWER, "mmap: %s: %s", strerror(errno), describe(p));
		return false;
	}
	p->used = true;
	if (chance(w, 85) && opt_in(w, p))
		count(&w->progress->ops[OPT_IN], 1);
	return true;
}

/* Some pages of a piece: *from up to and without *to. */
static void choose_pages(struct worker *w, const struct piece *p, int *from, int *to)
{
	*from = any(w, p->pages);
	*to = *from + 1 + any(w, p->pages - *from);
}

static bool unmap_some(struct worker *w)
{
	struct piece *p = any_piece(w);
	int from, to;

	if (!p || free_pieces(w) < 2)
		return false;
	choose_pages(w, p, &from, &to);
	if (p->object)
		ask(w, p);
	if (munmap(address_of(w, p) + from * page, (to - from) * page)) {
		if (!out_of_memory(w, -errno))
			complain(w, ANSWER, "munmap: %s: %s", strerror(errno), describe(p));
		clear_slot(w, p->slot);
		return false;
	}
	forget_piece(cut_out(w, p, from, to));
	return true;
}

static bool protect_some(struct worker *w)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	struct piece *p = any_piece(w);
	int from, to, prot, ret;
	bool refused;

	if (!p || free_pieces(w) < 2)
		return false;
	choose_pages(w, p, &from, &to);
	prot = prots[any(w, 3)];
	if (chance(w, 50))
		prot = class_prot(p->class);
	/* A plain mapping that becomes writable would change its class. */
	if (p->class == SHARED_READ && prot & PROT_WRITE && !p->object)
		return false;
	refused = p->class == SHARED_READ && prot & PROT_WRITE;
	ret = mprotect(address_of(w, p) + from * page, (to - from) * page, prot) ? -errno : 0;
	if (ret && out_of_memory(w, ret)) {
		clear_slot(w, p->slot);
	} else if (ret != (refused ? -EACCES : 0)) {
		complain(w, ANSWER, "mprotect %d: %s: %s", prot, strerror(-ret), describe(p));
	} else if (!refused && prot != p->prot) {
		/* Else nothing is split. */
		cut_out(w, p, from, to)->prot = prot;
	}
	return !ret;
}

static bool move_some(struct worker *w)
{
	struct piece *p = any_piece(w), *copy;
	int slot = empty_slot(w), first = 1 + any(w, 2), kind = any(w, 4), old, new;
	bool dont_unmap, duplicate;
	char *target, *got;

	if (!p || slot < 0 || free_pieces(w) < 2)
		return false;
	old = new = p->pages;
	dont_unmap = kind == 1;
	duplicate = kind == 2 && p->class != PRIVATE;
	/* An ordinary VMA may be merged with its neighbours, and then it cannot be resized. */
	if (kind == 3 && p->object && !IS_ORDINARY_VMA)
		new = 1 + any(w, p->pages + 4);
	if (new > 2 * MAP_PAGES || p->pgoff + new > INDEXES)
		return false;
	if (p->object)
		ask(w, p);
	target = w->arena + ((size_t)slot * SLOT_PAGES + first) * page;
	got = mremap(address_of(w, p), duplicate ? 0 : old * page, new * page,
		     MREMAP_MAYMOVE | MREMAP_FIXED | (dont_unmap ? MREMAP_DONTUNMAP : 0), target);
	if (got == MAP_FAILED) {
		if (!out_of_memory(w, -errno))
			complain(w, ANSWER, "mremap, way %d, %d to %d pages: %s: %s", kind, old,
				 new, strerror(errno), describe(p));
		clear_slot(w, p->slot);
		clear_slot(w, slot);
		return false;
	}
	if (duplicate || dont_unmap) {
		copy = new_piece(w);
		*copy = *p;
		if (p->object)
			p->object->pieces++;
		/* Private pages move. */
		memset(p->copies, 0, sizeof(p->copies));
		p = copy;
	}
	for (int i = new; i < old; i++)
		drop_copy(p, i);
	p->slot = slot;
	p->first = first;
	p->pages = new;
	return true;
}

/* Records that these pages of a private mapping have become private copies. */
static void all_are_copies(struct piece *p, int from, int to)
{
	for (int i = from; i < to; i++)
		if (p->file->shared) {
			p->copies[i].maybe = true;
		} else if (!p->copies[i].bytes) {
			p->copies[i].bytes = malloc(page);
			if (!p->copies[i].bytes)
				abort();
			memcpy(p->copies[i].bytes, underlying(p, i), page);
		}
}

static bool advise_some(struct worker *w)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_NORMAL,
		MADV_RANDOM, MADV_SEQUENTIAL, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE,
	};
	int advice = advices[any(w, ARRAY_SIZE(advices))], from, to;
	struct piece *p = any_piece(w);
	bool populates = advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;

	if (!p || free_pieces(w) < 2)
		return false;
	/* A plain mapping fails past EOF, after it has been populated in part. */
	if (populates && (!p->object || !(p->prot & PROT_READ)))
		return false;
	if (advice == MADV_POPULATE_WRITE) {
		if (!(p->prot & PROT_WRITE))
			return false;
		if (w->child && !p->file->shared && p->class == SHARED_WRITE)
			return false;
		/* Whether there is a copy has to be known. */
		for (int i = 0; i < p->pages; i++)
			if (p->copies[i].bytes && p->copies[i].maybe)
				return false;
	}
	choose_pages(w, p, &from, &to);
	/* These set a flag of the VMA, and would split it. */
	if (advice != MADV_DONTNEED && advice != MADV_COLD && advice != MADV_PAGEOUT && !populates) {
		from = 0;
		to = p->pages;
	}
	if (madvise(address_of(w, p) + from * page, (to - from) * page, advice)) {
		/* The kernel may lack CONFIG_TRANSPARENT_HUGEPAGE, or memory for a page table. */
		if (!out_of_memory(w, -errno) && !(errno == EINVAL && advice >= MADV_HUGEPAGE &&
						   advice <= MADV_NOHUGEPAGE))
			complain(w, ANSWER, "madvise %d, pages %d to %d: %s: %s", advice, from, to,
				 strerror(errno), describe(p));
		clear_slot(w, p->slot);
		return false;
	}
	if (advice == MADV_DONTNEED)
		for (int i = from; i < to; i++)
			drop_copy(p, i);
	if (advice == MADV_POPULATE_WRITE && p->class == PRIVATE)
		all_are_copies(p, from, to);
	return true;
}

static bool sync_some(struct worker *w)
{
	static const int all_flags[] = { MS_ASYNC, MS_SYNC, MS_INVALIDATE };
	int flags = all_flags[any(w, ARRAY_SIZE(all_flags))];
	struct piece *p = any_piece(w);

	if (!p)
		return false;
	if (!msync(address_of(w, p), p->pages * page, flags))
		return true;
	/* Only MS_SYNC does more than check that all of it is mapped. */
	if (flags != MS_SYNC || !out_of_memory(w, -errno))
		complain(w, ANSWER, "msync: %s: %s", strerror(errno), describe(p));
	return false;
}

static bool lock_some(struct worker *w)
{
	unsigned char resident[2 * MAP_PAGES];
	struct piece *p = any_piece(w);

	if (!p)
		return false;
	if (mincore(address_of(w, p), p->pages * page, resident) && !only_eagain(w, -errno))
		complain(w, ANSWER, "mincore: %s: %s", strerror(errno), describe(p));
	/* mlock would really lock a plain mapping, and make private copies of a private one. */
	if (!p->object || p->class == PRIVATE || !(p->prot & PROT_READ))
		return false;
	if (!mlock(address_of(w, p), p->pages * page) &&
	    !munlock(address_of(w, p), p->pages * page))
		return true;
	if (!only_eagain(w, -errno))
		complain(w, ANSWER, "mlock: %s: %s", strerror(errno), describe(p));
	return false;
}

static bool opt_in_some(struct worker *w)
{
	struct piece *p = any_piece(w);

	return p && opt_in(w, p);
}

static bool opt_out_some(struct worker *w)
{
	struct piece *p = any_piece(w);

	return p && opt_out(w, p);
}

static bool ask_some(struct worker *w)
{
	struct piece *p = any_piece(w);

	return p && ask(w, p);
}

static bool resize_some(struct worker *w)
{
	if (chance(w, 40))
		return resize(w, &w->shared_files[any(w, SHARED_FILES)]);
	return !w->child && resize(w, &w->own[any(w, OWN_FILES)]);
}

static bool rush_some(struct worker *w)
{
	return rush(w, &w->shared_files[any(w, SHARED_FILES)]);
}

/* The first process always has an opted-in mapping, so delete_module fails with EWOULDBLOCK. */
static bool try_to_unload(struct worker *w)
{
	bool refused;

	if (!IS_MODULE)
		return true;
	errno = 0;
	refused = syscall(SYS_delete_module, "nosigbus", O_NONBLOCK) && errno == EWOULDBLOCK;
	if (refused)
		count(&w->progress->unloads_refused, 1);
	else
		complain(w, MODULE, "delete_module: %s", strerror(errno));
	return refused;
}

static bool new_own_file(struct worker *w, int i)
{
	struct file *file = &w->own[i];
	char *name = w->shared->names[w->index][i];
	int id = 1 + SHARED_FILES + w->index * OWN_FILES + i;

	for (int try = 0; !open_file(file, any(w, OVERLAY_LOWER + 1), id); try++)
		if (!out_of_memory(w, -errno) || try == 1000) {
			complain(w, ANSWER, "new file: %s", strerror(errno));
			return false;
		}
	snprintf(name, sizeof(w->shared->names[0][0]), "%s", file->path ?: "");
	return true;
}

/* Once all its mappings are gone, a memfd can be sealed: the kernel counts none as writable. */
static bool retire(struct worker *w)
{
	int i = any(w, OWN_FILES), ret;
	struct file *file = &w->own[i];

	if (w->child)
		return false;
	forget_mappings(w, file);
	if (file->backing == MEMFD) {
		ret = seal_writing(file->fd);
		if (ret)
			complain(w, SEAL, "F_SEAL_WRITE: %s", strerror(-ret));
		else
			count(&w->progress->seals, 1);
	}
	close_file(file);
	return new_own_file(w, i);
}

static void step(struct worker *w);

static void note_faults(struct worker *w)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	if (!w->child)
		w->shared->faults_now[w->index] = usage.ru_minflt + usage.ru_majflt;
}

/* A child starts with the knowledge of its parent, in an address space of its own. */
static void run_child(struct worker *w, bool for_ever)
{
	struct rusage usage;

	w->child = true;
	for (int i = 0; (for_ever || i < CHILD_STEPS) && !stopped(w); i++)
		step(w);
	if (!stopped(w))
		check_all(w);
	getrusage(RUSAGE_SELF, &usage);
	count(&w->progress->faults, usage.ru_minflt + usage.ru_majflt);
	_exit(0);
}

/* The child writes a word to a page that both have, and the parent sees it. */
static bool fork_one(struct worker *w)
{
	bool kills = chance(w, 30);
	struct piece *p = any_piece(w);
	unsigned char got[4096];
	unsigned long value = 0;
	int status, i = 0;
	size_t at = 0;
	pid_t pid;

	if (w->child)
		return false;
	if (p && p->object && p->class == SHARED_WRITE && p->prot == (PROT_READ | PROT_WRITE) &&
	    !p->file->shared && !may_be_mapped_past_eof(p)) {
		i = any(w, p->pages);
		if (room(p, i) >= sizeof(value)) {
			at = any(w, room(p, i) / sizeof(value)) * sizeof(value);
			value = word_for(w, p->file, index_of(p, i), false);
		}
	}
	pid = fork();
	if (pid < 0) {
		if (!out_of_memory(w, -errno))
			complain(w, ANSWER, "fork: %s", strerror(errno));
		return false;
	}
	if (!pid) {
		if (value) {
			if (write_directly(address_of(w, p) + i * page + at, value))
				complain(w, SIGNAL, "a child's write: %s", describe(p));
			has_stored(p, i, at, value);
		}
		run_child(w, kills);
	}
	if (kills) {
		for (int n = any(w, 200); n; n--)
			usleep(100);
		kill(pid, SIGKILL);
		count(&w->progress->children_killed, 1);
	}
	if (waitpid(pid, &status, 0) != pid) {
		complain(w, DEATH, "waitpid: %s", strerror(errno));
		return false;
	}
	end_all(w->shared, w->index, w->shared_files);
	for (struct object *o = w->objects; o < w->objects + OBJECTS; o++)
		o->asked = true;
	count(&w->progress->children, 1);
	/* It is no error if the OOM killer kills a child. */
	if (status && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
		complain(w, DEATH, "a child ended with %#x", status);
		return false;
	}
	if (!value)
		return true;
	/* A child that was killed may not have written its word. */
	if (status && !read_directly(got, address_of(w, p) + i * page) &&
	    memcmp(got + at, &value, sizeof(value)))
		return true;
	has_stored(p, i, at, value);
	check_page(w, p, i);
	return true;
}

/* Each returns whether it has done something and has succeeded. */
static bool (*const operations[OPS])(struct worker *w) = {
	[CHECK] = check_some, [STORE] = store_some, [MAP] = map_some, [UNMAP] = unmap_some,
	[PROTECT] = protect_some, [MOVE] = move_some, [ADVISE] = advise_some, [SYNC] = sync_some,
	[LOCK] = lock_some, [OPT_IN] = opt_in_some, [OPT_OUT] = opt_out_some, [ASK] = ask_some,
	[RESIZE] = resize_some, [RUSH] = rush_some, [FORK] = fork_one,
	[UNLOAD] = try_to_unload, [RETIRE] = retire,
};

/* How many of a thousand steps. */
static const int shares[OPS] = {
	[CHECK] = 270, [STORE] = 200, [MAP] = 60, [UNMAP] = 45, [PROTECT] = 40, [MOVE] = 40,
	[ADVISE] = 60, [SYNC] = 5, [LOCK] = 15, [OPT_IN] = 40, [OPT_OUT] = 15, [ASK] = 20,
	[RESIZE] = 168, [RUSH] = 5, [FORK] = 8, [UNLOAD] = 4, [RETIRE] = 5,
};

static void step(struct worker *w)
{
	int n = any(w, 1000), op = 0;

	while (n >= shares[op])
		n -= shares[op++];
	if (hot_piece(w))
		op = CHECK;
	w->steps++;
	if (operations[op](w))
		count(&w->progress->ops[op], 1);
}

static int work(struct worker *w)
{
	for (int i = 0; i < OWN_FILES; i++)
		if (!new_own_file(w, i))
			return 1;
	w->arena = ARENA;
	while (!stopped(w)) {
		step(w);
		if (w->steps % ROUND == 0)
			note_faults(w);
	}
	check_all(w);
	for (int i = 0; i < PIECES; i++)
		if (w->pieces[i].used)
			unmap_piece(w, &w->pieces[i]);
	note_faults(w);
	return 0;
}

#endif /* _NOSIGBUS_STRESS_WORKER_H */
