// SPDX-License-Identifier: GPL-2.0-only
/*
 * Some processes change the size of a file as fast as they can. Others access opted-in mappings of
 * it. Each test takes RACE_SECONDS. It prints how many accesses there were, and fails if there were
 * too few.
 */

#include "nosigbus_test.h"

#include <linux/falloc.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <time.h>

/* A worker that has made no progress for so long is stuck. */
#define STUCK_SECONDS	60
/* So long that the race finds a stuck worker itself before the harness times out. */
#define HARNESS_SECONDS	(24 * 3600)

#define PAGES		32
#define CLASSES		(LAST_CLASS + 1)
#define WORKERS		4

/* Values in a page: CONTENT by write(2), MARK by stores at MARK_AT; 0 in stand-ins and holes. */
#define CONTENT		0x5a
#define MARK		0x4d
#define MARK_AT		8
/* Where in a page the number of the hand-shake is, and where the answer to it. */
#define NUMBER_AT	16
#define ANSWER_AT	32

static size_t page;

/* What a worker has done. */
struct progress {
	atomic_long accesses, changes, handshakes, sigbus;
};

/* What the processes share. */
struct shared {
	atomic_bool stop;
	struct progress progress[WORKERS];
	atomic_flag complained;
	char complaint[200];

	/* How often a resizer has come to a meeting. */
	atomic_long meetings;
	/* Hand-shake: its number, how many pages have it, the last number each worker has seen. */
	atomic_long number, seen[WORKERS];
	atomic_int pages;

	/* Incremented before each change of the size, and after it. */
	atomic_long epoch;
};

struct worker {
	const char *name;
	int (*run)(struct worker *worker);
	int index;
	struct shared *shared;
	struct progress *progress;
	/* The worker has to do at least this. The race is extended if that takes longer. */
	struct progress minimum;
	enum backing backing;
	int device, fd;
	unsigned int seed;
	/* Opted-in mappings, one of each class. */
	char *addr[SHARED_WRITE + 1];
	/* A plain mapping. */
	char *pen;
	/* How many meetings this worker has come to. */
	long meeting;
};

static bool stopped(const struct worker *w)
{
	return atomic_load_explicit(&w->shared->stop, memory_order_relaxed);
}

static void count(atomic_long *counter, long n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Ends the race; only the first complaint is kept. */
static int __printf(2, 3) complain(const struct worker *w, const char *format, ...)
{
	struct shared *shared = w->shared;
	size_t len;
	va_list args;

	if (!atomic_flag_test_and_set(&shared->complained)) {
		len = snprintf(shared->complaint, sizeof(shared->complaint), "%s: ", w->name);
		va_start(args, format);
		vsnprintf(shared->complaint + len, sizeof(shared->complaint) - len, format, args);
		va_end(args);
	}
	atomic_store(&shared->stop, true);
	return 1;
}

/* A number below n. */
static unsigned int any(struct worker *w, unsigned int n)
{
	return rand_r(&w->seed) % n;
}

static int race_seconds(void)
{
	const char *seconds = getenv("RACE_SECONDS");

	return seconds && atoi(seconds) > 0 ? atoi(seconds) : 3;
}

/* What a worker's process does: its exit status. */
static int work(struct worker *w)
{
	const char *addr;
	int sig;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sig = sigsetjmp(access_failed, 0);
	if (!sig)
		return w->run(w);
	addr = last_signal.si_addr;
	for (int class = 0; class < CLASSES; class++)
		if (w->addr[class] && addr >= w->addr[class] &&
		    addr < w->addr[class] + PAGES * page)
			return complain(w, "signal %d, code %d, in page %zd of mapping %d", sig,
					last_signal.si_code, (addr - w->addr[class]) / page, class);
	return complain(w, "signal %d at %p", sig, addr);
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

static long total_of(const struct progress *p)
{
	return p->accesses + p->changes + p->handshakes + p->sigbus;
}

static bool has_done_enough(const struct worker *w)
{
	const struct progress *p = w->progress, *minimum = &w->minimum;

	return p->accesses >= minimum->accesses && p->changes >= minimum->changes &&
		p->handshakes >= minimum->handshakes && p->sigbus >= minimum->sigbus;
}

static bool all_have_done_enough(const struct worker *workers, int n)
{
	for (int i = 0; i < n; i++)
		if (!has_done_enough(&workers[i]))
			return false;
	return true;
}

/*
 * Runs the workers for race_seconds(), each in a process of its own. False if a worker has
 * complained, died, been stuck or done too little. longest_pause: the longest time that any worker
 * made no progress, in milliseconds.
 */
static bool race(struct worker *workers, int n, long *longest_pause)
{
	struct shared *shared = workers[0].shared;
	long end = milliseconds() + race_seconds() * 1000L;
	long last[WORKERS] = {}, since[WORKERS], now, kill_at = 0;
	pid_t pids[WORKERS];
	bool fine = true;
	int running = n;

	*longest_pause = 0;
	for (int i = 0; i < n; i++) {
		workers[i].index = i;
		workers[i].progress = &shared->progress[i];
		workers[i].seed = i + 1;
		since[i] = milliseconds();
		pids[i] = fork();
		if (!pids[i])
			_exit(work(&workers[i]));
		if (pids[i] < 0)
			fine = !complain(&workers[i], "fork: %s", strerror(errno));
	}

	while (running) {
		usleep(10000);
		now = milliseconds();
		if (now >= end && (all_have_done_enough(workers, n) ||
				   now >= end + STUCK_SECONDS * 1000L))
			atomic_store(&shared->stop, true);
		if (atomic_load(&shared->stop) && !kill_at)
			kill_at = now + STUCK_SECONDS * 1000L;
		for (int i = 0; i < n; i++) {
			long total = total_of(&shared->progress[i]);
			int status;

			if (pids[i] <= 0)
				continue;
			if (waitpid(pids[i], &status, WNOHANG) == pids[i]) {
				pids[i] = 0;
				running--;
				if (status)
					fine = !complain(&workers[i], "ended with %#x", status);
				continue;
			}
			if (total != last[i] || kill_at) {
				last[i] = total;
				since[i] = now;
			}
			if (now - since[i] > *longest_pause)
				*longest_pause = now - since[i];
			if (now - since[i] > STUCK_SECONDS * 1000L || (kill_at && now > kill_at)) {
				fine = !complain(&workers[i], "is stuck");
				kill(pids[i], SIGKILL);
			}
		}
	}
	for (int i = 0; i < n && fine; i++)
		if (!has_done_enough(&workers[i]))
			fine = !complain(&workers[i], "has done too little");
	return fine;
}

FIXTURE(race) {
	struct worker workers[WORKERS];
	struct shared *shared;
};

FIXTURE_VARIANT(race) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(race, memfd) { .backing = MEMFD, };
FIXTURE_VARIANT_ADD(race, tmpfs) { .backing = TMPFS, };
FIXTURE_VARIANT_ADD(race, ext4) { .backing = EXT4, };
FIXTURE_VARIANT_ADD(race, xfs) { .backing = XFS, };
FIXTURE_VARIANT_ADD(race, btrfs) { .backing = BTRFS, };
FIXTURE_VARIANT_ADD(race, overlay) { .backing = OVERLAY, };

static struct shared *new_shared(void)
{
	return mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

FIXTURE_SETUP(race)
{
	struct worker *w = self->workers;

	need_backing(_metadata, variant->backing);
	page = page_size();
	catch_signals();
	self->shared = new_shared();
	ASSERT_NE(self->shared, MAP_FAILED);
	w->shared = self->shared;
	w->backing = variant->backing;
	w->device = open_device();
	ASSERT_GE(w->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	w->fd = new_file(variant->backing);
	ASSERT_GE(w->fd, 0) TH_LOG("new file: %s", strerror(errno));
	for (int i = 1; i < WORKERS; i++)
		w[i] = w[0];
}

FIXTURE_TEARDOWN(race)
{
	close(self->workers[0].fd);
	close(self->workers[0].device);
}

/* The worker opts in mappings of its own. */
static bool opt_in(struct worker *w)
{
	for (int class = 0; class < CLASSES; class++) {
		w->addr[class] = map_file(class, w->fd, PAGES * page);
		if (w->addr[class] == MAP_FAILED ||
		    enable(w->device, w->addr[class], PAGES * page))
			return false;
	}
	return true;
}

/* Reads every page of every mapping. */
static int read_all(struct worker *w)
{
	for (int class = 0; class < CLASSES; class++)
		for (int i = 0; i < PAGES; i++) {
			unsigned char byte = *(volatile char *)(w->addr[class] + i * page);

			if (byte && byte != CONTENT)
				return complain(w, "page %d of mapping %d has %d", i, class, byte);
		}
	count(&w->progress->accesses, CLASSES * PAGES);
	return 0;
}

/* Writes to every page of every mapping that can be written to. */
static void write_all(struct worker *w)
{
	for (int class = 0; class < CLASSES; class++) {
		if (class == SHARED_READ)
			continue;
		for (int i = 0; i < PAGES; i++)
			*(volatile char *)(w->addr[class] + i * page + MARK_AT) = MARK;
		count(&w->progress->accesses, PAGES);
	}
}

/* Unmaps all pages, so that they fault again without a size change. Drops private copies. */
static void drop_all(struct worker *w)
{
	for (int class = 0; class < CLASSES; class++)
		madvise(w->addr[class], PAGES * page, MADV_DONTNEED);
}

/* Changes the size of the file in a randomly chosen way. */
static int change_size(struct worker *w)
{
	size_t max = PAGES * page, size = any(w, max + 1);
	bool collapses = w->backing == EXT4 || w->backing == XFS || w->backing == OVERLAY;
	off_t from = any(w, PAGES) * page, len = (1 + any(w, 4)) * page;
	char path[64], byte = CONTENT;
	int ret, fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", w->fd);
	switch (any(w, collapses ? 8 : 6)) {
	case 0:
		ret = ftruncate(w->fd, size);
		break;
	case 1:
		ret = truncate(path, size);
		break;
	case 2:
		fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
		ret = fd < 0 ? -1 : close(fd);
		break;
	case 3:
		ret = pwrite(w->fd, &byte, 1, from) == 1 ? 0 : -1;
		break;
	case 4:
		ret = fallocate(w->fd, 0, 0, size + 1);
		break;
	case 5:
		ret = ftruncate(w->fd, max);
		break;
	default:
		ret = fallocate(w->fd, FALLOC_FL_COLLAPSE_RANGE, from, len);
		/* The range has to end before EOF. */
		if (ret && errno == EINVAL)
			return 0;
	}
	if (ret)
		return complain(w, "a change of size: %s", strerror(errno));
	count(&w->progress->changes, 1);
	return 0;
}

static int resizer(struct worker *w)
{
	while (!stopped(w))
		if (change_size(w))
			return 1;
	return 0;
}

static int reader(struct worker *w)
{
	if (!opt_in(w))
		return complain(w, "cannot opt in: %s", strerror(errno));
	for (int pass = 0; !stopped(w); pass++) {
		if (read_all(w))
			return 1;
		if (pass % 4 == 0)
			drop_all(w);
		/* Let the resizers change the size. */
		if (pass % 64 == 0)
			sched_yield();
	}
	return 0;
}

static int writer(struct worker *w)
{
	if (!opt_in(w))
		return complain(w, "cannot opt in: %s", strerror(errno));
	for (int pass = 0; !stopped(w); pass++) {
		write_all(w);
		if (pass % 2 == 0)
			drop_all(w);
	}
	return 0;
}

/* Prints what has been done. */
static void log_race(struct __test_metadata *_metadata, const struct worker *workers, int n,
		     long longest_pause)
{
	for (int i = 0; i < n; i++) {
		const struct progress *p = workers[i].progress;

		TH_LOG("%s, %d s: %ld accesses, %ld SIGBUS, %ld size changes, %ld hand-shakes",
		       workers[i].name, race_seconds(), p->accesses, p->sigbus, p->changes,
		       p->handshakes);
	}
	TH_LOG("longest pause of any of them: %ld ms", longest_pause);
}

static void set_workers(struct worker *workers, int (*changes)(struct worker *w),
			int (*reads)(struct worker *w), int (*writes)(struct worker *w),
			bool shake)
{
	static const char * const names[] = { "a resizer", "the other resizer", "the reader",
					      "the writer" };

	for (int i = 0; i < WORKERS; i++) {
		workers[i].name = names[i];
		workers[i].run = i < 2 ? changes : i == 2 ? reads : writes;
		if (i < 2) {
			workers[i].minimum.changes = 50;
			workers[i].minimum.handshakes = shake ? 3 : 0;
		} else {
			workers[i].minimum.accesses = 1000;
		}
	}
}

TEST_F_TIMEOUT(race, no_access_raises_a_signal, HARNESS_SECONDS)
{
	long longest_pause;

	set_workers(self->workers, resizer, reader, writer, false);
	EXPECT_TRUE(race(self->workers, WORKERS, &longest_pause))
		TH_LOG("%s", self->shared->complaint);
	log_race(_metadata, self->workers, WORKERS, longest_pause);
}

/* Opts new mappings in, accesses each of them once, and unmaps them, in a loop. */
static int newcomer(struct worker *w)
{
	while (!stopped(w)) {
		if (!opt_in(w))
			return complain(w, "cannot opt in: %s", strerror(errno));
		for (int class = 0; class < CLASSES; class++) {
			volatile char *last = w->addr[class] + (PAGES - 1) * page;

			if (class == SHARED_READ || any(w, 2))
				(void)*last;
			else
				last[MARK_AT] = MARK;
		}
		for (int class = 0; class < CLASSES; class++) {
			munmap(w->addr[class], PAGES * page);
			w->addr[class] = NULL;
		}
		count(&w->progress->accesses, CLASSES);
	}
	return 0;
}

/* Truncates the file to 0 and back to full size: the newcomers' page comes and goes. */
static int extreme_resizer(struct worker *w)
{
	while (!stopped(w)) {
		if (ftruncate(w->fd, 0) || ftruncate(w->fd, PAGES * page))
			return complain(w, "ftruncate: %s", strerror(errno));
		count(&w->progress->changes, 2);
	}
	return 0;
}

/* At the first access the file has no mark yet, or it had one for mappings that are gone. */
TEST_F_TIMEOUT(race, first_accesses_raise_no_signal, HARNESS_SECONDS)
{
	long longest_pause;

	set_workers(self->workers, extreme_resizer, newcomer, newcomer, false);
	for (int i = 2; i < WORKERS; i++)
		self->workers[i].minimum.accesses = 100;
	EXPECT_TRUE(race(self->workers, WORKERS, &longest_pause))
		TH_LOG("%s", self->shared->complaint);
	log_race(_metadata, self->workers, WORKERS, longest_pause);
}

/* Waits until another worker makes the condition true; false if the race has ended. */
#define WAIT_UNTIL(w, condition) ({		\
	while (!(condition) && !stopped(w))	\
		sched_yield();			\
	!stopped(w);				\
})

/* Waits until both resizers are here. Until the next meeting only one of them acts. */
static bool meet(struct worker *w)
{
	atomic_fetch_add(&w->shared->meetings, 1);
	w->meeting++;
	return WAIT_UNTIL(w, atomic_load(&w->shared->meetings) >= 2 * w->meeting);
}

/* Grows the file to so many pages and writes the number to each of them: 0, or minus errno. */
static int grow_with_number(struct worker *w, int pages, long number)
{
	size_t size = pages * page;
	char bytes[size];
	int ret = 0;

	memset(bytes, 0, size);
	for (int i = 0; i < pages; i++)
		memcpy(bytes + i * page + NUMBER_AT, &number, sizeof(number));
	switch (any(w, 4)) {
	case 0:
		return pwrite(w->fd, bytes, size, 0) == (ssize_t)size ? 0 : -errno;
	case 1:
		ret = ftruncate(w->fd, size);
		if (!ret && pwrite(w->fd, bytes, size, 0) != (ssize_t)size)
			ret = -1;
		return ret ? -errno : 0;
	case 2:
		ret = ftruncate(w->fd, size);
		break;
	case 3:
		ret = fallocate(w->fd, 0, 0, size);
		break;
	}
	/* fsnotify does not report stores: the growth alone has to have removed the stand-ins. */
	for (int i = 0; i < pages && !ret; i++)
		*(volatile long *)(w->pen + i * page + NUMBER_AT) = number;
	return ret ? -errno : 0;
}

/* Grows the file and writes a number to it. The reader and the writer have to see the number. */
static int shake_hands(struct worker *w, long number)
{
	struct shared *shared = w->shared;
	int pages = 1 + any(w, PAGES), ret;

	if (ftruncate(w->fd, any(w, pages) * page))
		return complain(w, "ftruncate: %s", strerror(errno));
	/* The others may or may not have the time to map stand-ins. */
	for (int i = any(w, 4); i > 0; i--)
		sched_yield();
	ret = grow_with_number(w, pages, number);
	if (ret)
		return complain(w, "growing: %s", strerror(-ret));
	atomic_store(&shared->pages, pages);
	atomic_store(&shared->number, number);
	if (!WAIT_UNTIL(w, atomic_load(&shared->seen[2]) == number &&
			   atomic_load(&shared->seen[3]) == number))
		return 0;

	for (int i = 0; OPTS_IN_SHARED_WRITE && i < pages; i++) {
		long answer;

		if (pread(w->fd, &answer, sizeof(answer), i * page + ANSWER_AT) !=
		    sizeof(answer) || answer != number)
			return complain(w, "page %d: answer %ld, not %ld", i, answer, number);
	}
	count(&w->progress->changes, 2);
	count(&w->progress->handshakes, 1);
	return 0;
}

static int shaking_resizer(struct worker *w)
{
	w->pen = map_file(SHARED_WRITE, w->fd, PAGES * page);
	if (w->pen == MAP_FAILED)
		return complain(w, "mmap: %s", strerror(errno));
	for (long number = 1; !stopped(w); number++) {
		for (int i = any(w, 6); i > 0; i--)
			if (change_size(w))
				return 1;
		if (!meet(w))
			break;
		if (number % 2 == w->index && shake_hands(w, number))
			return 1;
		if (!meet(w))
			break;
	}
	return 0;
}

/* If there is a new number, all pages of all mappings have to have it. */
static int look_for_number(struct worker *w, bool answers)
{
	struct shared *shared = w->shared;
	long number = atomic_load(&shared->number);
	int pages = atomic_load(&shared->pages);

	if (number == atomic_load(&shared->seen[w->index]))
		return 0;
	/* The writer may have private copies from before. Drop them. */
	if (answers)
		madvise(w->addr[PRIVATE], PAGES * page, MADV_DONTNEED);
	for (int class = 0; class < CLASSES; class++)
		for (int i = 0; i < pages; i++) {
			char *p = w->addr[class] + i * page;
			long got = *(volatile long *)(p + NUMBER_AT);

			if (got != number)
				return complain(w, "page %d of %d of mapping %d: %ld, not %ld", i,
						pages, class, got, number);
			if (answers && class == SHARED_WRITE)
				*(volatile long *)(p + ANSWER_AT) = number;
		}
	count(&w->progress->accesses, CLASSES * pages);
	atomic_store(&shared->seen[w->index], number);
	return 0;
}

static int shaking_reader(struct worker *w)
{
	if (!opt_in(w))
		return complain(w, "cannot opt in: %s", strerror(errno));
	while (!stopped(w)) {
		if (read_all(w) || look_for_number(w, false))
			return 1;
		sched_yield();
	}
	return 0;
}

static int shaking_writer(struct worker *w)
{
	if (!opt_in(w))
		return complain(w, "cannot opt in: %s", strerror(errno));
	while (!stopped(w)) {
		write_all(w);
		if (look_for_number(w, true))
			return 1;
		sched_yield();
	}
	return 0;
}

TEST_F_TIMEOUT(race, what_a_grower_wrote_is_seen, HARNESS_SECONDS)
{
	long longest_pause;

	set_workers(self->workers, shaking_resizer, shaking_reader, shaking_writer,
		    true);
	EXPECT_TRUE(race(self->workers, WORKERS, &longest_pause))
		TH_LOG("%s", self->shared->complaint);
	log_race(_metadata, self->workers, WORKERS, longest_pause);
}

/*
 * A file system that is full. The file is all holes: pages up to HOLE are always
 * inside EOF, those up to EDGE sometimes, the rest never.
 */
#define HOLE		8
#define EDGE		24

FIXTURE(full) {
	struct worker workers[WORKERS];
	struct shared *shared;
	int filler;
};

FIXTURE_VARIANT(full) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(full, tmpfs) { SMALL_TMPFS };
FIXTURE_VARIANT_ADD(full, ext4) { SMALL_EXT4 };

/* Writes to the file until there is no space left for a single byte. */
static bool fill_up(int fd)
{
	static const char bytes[4096];
	off_t pos = 0;

	for (size_t len = sizeof(bytes); len; len /= 2) {
		ssize_t written;

		while ((written = pwrite(fd, bytes, len, pos)) > 0)
			pos += written;
		if (errno != ENOSPC || fsync(fd))
			return false;
	}
	return true;
}

FIXTURE_SETUP(full)
{
	struct worker *w = self->workers;

	need_backing(_metadata, variant->backing);
	need_class(_metadata, SHARED_WRITE);
	page = page_size();
	catch_signals();
	self->shared = new_shared();
	ASSERT_NE(self->shared, MAP_FAILED);
	w->shared = self->shared;
	w->device = open_device();
	ASSERT_GE(w->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	w->fd = new_file(variant->backing);
	ASSERT_GE(w->fd, 0) TH_LOG("new file: %s", strerror(errno));
	self->filler = new_file(variant->backing);
	ASSERT_GE(self->filler, 0);
	ASSERT_EQ(ftruncate(w->fd, HOLE * page), 0);
	ASSERT_TRUE(fill_up(self->filler)) TH_LOG("%s", strerror(errno));
	for (int i = 1; i < WORKERS; i++)
		w[i] = w[0];
}

FIXTURE_TEARDOWN(full)
{
	close(self->filler);
	close(self->workers[0].fd);
	close(self->workers[0].device);
}

/*
 * Moves EOF to and fro. The epoch, modulo 4, is 0 while EOF is at HOLE, 2 while
 * it is at EDGE, and odd in between.
 */
static int edge_resizer(struct worker *w)
{
	for (int in = 1; !stopped(w); in = !in) {
		atomic_fetch_add(&w->shared->epoch, 1);
		if (ftruncate(w->fd, (in ? EDGE : HOLE) * page))
			return complain(w, "ftruncate: %s", strerror(errno));
		atomic_fetch_add(&w->shared->epoch, 1);
		count(&w->progress->changes, 1);
		for (int i = any(w, 8); i > 0; i--)
			sched_yield();
	}
	return 0;
}

static int hole_writer(struct worker *w)
{
	char *addr;

	if (!opt_in(w))
		return complain(w, "cannot opt in: %s", strerror(errno));
	addr = w->addr[SHARED_WRITE];
	while (!stopped(w))
		for (int i = 0; i < PAGES; i++) {
			long epoch = atomic_load(&w->shared->epoch);
			int ret = write_byte(addr + i * page + MARK_AT, MARK);
			bool same = epoch == atomic_load(&w->shared->epoch);
			bool in = i < HOLE || (i < EDGE && same && epoch % 4 == 2);
			bool out = i >= EDGE || (i >= HOLE && same && epoch % 4 == 0);

			if (ret && ret != -SIGBUS)
				return complain(w, "page %d: signal %d", i, -ret);
			if (in && !ret)
				return complain(w, "page %d: ENOSPC has been lost", i);
			if (out && ret)
				return complain(w, "page %d: SIGBUS past EOF", i);
			count(ret ? &w->progress->sigbus : &w->progress->accesses, 1);
		}
	return 0;
}

TEST_F_TIMEOUT(full, only_enospc_raises_sigbus, HARNESS_SECONDS)
{
	long longest_pause;

	self->workers[0].name = "the resizer";
	self->workers[0].run = edge_resizer;
	self->workers[0].minimum.changes = 50;
	self->workers[1].name = "a writer";
	self->workers[2].name = "the other writer";
	for (int i = 1; i < 3; i++) {
		self->workers[i].run = hole_writer;
		self->workers[i].minimum.sigbus = 50;
		self->workers[i].minimum.accesses = 50;
	}
	EXPECT_TRUE(race(self->workers, 3, &longest_pause)) TH_LOG("%s", self->shared->complaint);
	log_race(_metadata, self->workers, 3, longest_pause);
}

TEST_HARNESS_MAIN
