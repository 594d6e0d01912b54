/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of the stress test share. */
#ifndef _NOSIGBUS_STRESS_H
#define _NOSIGBUS_STRESS_H

#include "nosigbus_test.h"
#include "status.h"

#include <stdarg.h>
#include <stdatomic.h>

#define WORKERS		5
/* The processes after the workers. They only use up memory. */
#define HOGS		2
#define PROCESSES	(WORKERS + HOGS)

/* Files that a worker has for itself, and those that all of them resize. */
#define OWN_FILES	3
#define SHARED_FILES	8
/* How large files get, and mappings, in pages. */
#define FILE_PAGES	12
#define MAP_PAGES	14
#define MAX_PGOFF	4
/* Page indexes that a mapping can have: mremap makes it larger. */
#define INDEXES		(MAX_PGOFF + 2 * MAP_PAGES)

/* Where mappings are, each slot with room for one that has been made larger. */
#define SLOTS		10
#define SLOT_PAGES	(2 * MAP_PAGES + 2)
#define PIECES		48
#define OBJECTS		PIECES

static size_t page;

/* What is done, and counted. */
enum op {
	CHECK, STORE, MAP, UNMAP, PROTECT, MOVE, ADVISE, SYNC, LOCK, OPT_IN, OPT_OUT, ASK,
	RESIZE, RUSH, FORK, UNLOAD, RETIRE,
	/* Of a hog. */
	EAT, OPS,
};

/* What can be wrong. There is a test for each. */
enum wrong { SIGNAL, BYTE, ANSWER, MODULE, SEAL, DEATH, STUCK, WRONGS };

struct progress {
	atomic_long ops[OPS];
	/* Pages looked at, and those of shared files that were known exactly. */
	atomic_long pages, exact;
	atomic_long faults, stand_ins, given_back, events, growths, children, children_killed;
	/* Changes of size that have failed for want of memory. */
	atomic_long failed_resizes;
	/* Requests that have failed for the same reason. */
	atomic_long out_of_memory;
	atomic_long unloads_refused, seals;
};

/* A worker's changes to a shared file. If both numbers are equal, no change is in progress. */
struct changes {
	atomic_long begun, done;
};

/* What the processes share. */
struct shared {
	atomic_bool stop;
	struct progress progress[PROCESSES];
	/* Faults of the process that is there now. */
	atomic_long faults_now[PROCESSES];
	struct changes changes[WORKERS][SHARED_FILES];
	/* The id of a shared file that is worth a look now, or 0. */
	atomic_int hot;
	/* Names that the files of a worker have: it may be killed before it removes them. */
	char names[WORKERS][OWN_FILES][128];
	atomic_bool complained;
	enum wrong wrong;
	/* Empty if the process that complained was killed. */
	char complaint[600];
};

struct file {
	enum backing backing;
	int id;
	/* Others resize it too, so that only its possible contents are known. */
	bool shared;
	/* One to change the file, the other to map it. */
	int fd, map_fd;
	/* Its name, if it still has one. */
	char *path;
	/* What is in it; zeros behind size. */
	off_t size;
	unsigned char *bytes;
};

/* An opted-in mapping, with all pieces that came from it. */
struct object {
	int pieces;
	struct file *file;
	unsigned int flags;
	int eventfd;
	struct nosigbus_status last;
	/* A child may have asked meanwhile. */
	bool asked;
	/* By page index. */
	unsigned char *shadows[INDEXES];
};

/* A page of a process's own, in a private mapping. */
struct copy {
	unsigned char *bytes;
	/* The copy may have been dropped. For a shared file: there may be a copy. */
	bool maybe;
};

/* A VMA, or what would be one if it were not merged with its neighbours. */
struct piece {
	bool used;
	int slot, first, pages, pgoff, prot;
	enum class class;
	struct file *file;
	/* NULL: plain. */
	struct object *object;
	struct copy copies[2 * MAP_PAGES];
};

struct worker {
	struct shared *shared;
	struct progress *progress;
	int index, life;
	unsigned int seed;
	long steps;
	/* A child leaves changes of what it shares with its parent to the parent. */
	bool child;
	char *arena;
	struct file *shared_files;
	struct file own[OWN_FILES];
	struct object objects[OBJECTS];
	struct piece pieces[PIECES];
	unsigned int written;
};

/* A number below n. */
static inline unsigned int any(struct worker *w, unsigned int n)
{
	return rand_r(&w->seed) / 16 % n;
}

static inline bool chance(struct worker *w, unsigned int percent)
{
	return any(w, 100) < percent;
}

static inline void count(atomic_long *counter, long n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline bool stopped(const struct worker *w)
{
	return atomic_load_explicit(&w->shared->stop, memory_order_relaxed);
}

/* Stops all processes. Only the first complaint is kept. */
static void __printf(3, 4) complain(struct worker *w, enum wrong kind, const char *format, ...)
{
	size_t size = sizeof(w->shared->complaint), len;
	va_list args;

	if (!atomic_exchange(&w->shared->complained, true)) {
		w->shared->wrong = kind;
		len = snprintf(w->shared->complaint, size, "process %d, life %d%s, step %ld: ",
			       w->index, w->life, w->child ? ", child" : "", w->steps);
		va_start(args, format);
		vsnprintf(w->shared->complaint + len, size - len, format, args);
		va_end(args);
	}
	atomic_store(&w->shared->stop, true);
}

#endif /* _NOSIGBUS_STRESS_H */
