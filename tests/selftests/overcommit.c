// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that a user can make the module allocate. All of it is charged to the user's memory
 * cgroup. If it is too much, the OOM killer kills that process and no other. Needs root, for the
 * cgroup; the processes in it run as the user nobody.
 *
 * OVERCOMMIT_REQUESTS: how many mappings are opted in, in total. Processes opt in mappings until
 * there is no memory for more, one process after the other.
 */

#include "mapped_file.h"
#include "status.h"
#include "sys_files.h"

#include <grp.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

/* Amounts of memory are in KiB but for addresses. */
#define KIB		1024L
#define MIB		(KIB * KIB)
#define CGROUP		"/sys/fs/cgroup/nosigbus-overcommit"
#define LIMIT		(64 * KIB)
#define NOBODY		65534
#define MAX_MAP_COUNT	"/proc/sys/vm/max_map_count"

/* The length of the mapping that is touched. A 32-bit process has less address space. */
#define HUGE		((size_t)(sizeof(long) == 8 ? 4ULL << 40 : 1ULL << 30))
/* What one page table maps. */
#define TABLE		(2 * MIB)

/* How much is to be charged before a test compares that with the memory that is gone. */
#define MEASURED	(40 * KIB)

static size_t page;
/* The PID of the test. Its children are killed when it dies. */
static pid_t test;

/* What the processes of a test share. */
struct shared {
	/* Mappings that have been opted in. */
	atomic_long requests;
	atomic_int ready, go;
};

/* In KiB. */
static long charged(void)
{
	return number_in(CGROUP "/memory.current", "") / KIB;
}

static long oom_kills(void)
{
	return number_in(CGROUP "/memory.events", "oom_kill ");
}

/* Free pages in the per-CPU lists, in KiB. MemFree does not include them, and they are many. */
static long free_of_cpus(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	long pages = 0, n;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " count: %ld", &n) == 1)
			pages += n;
	if (file)
		fclose(file);
	return pages * (page / KIB);
}

/* Memory in use, in KiB, without caches that can be reclaimed. */
static long in_use(void)
{
	const char *meminfo = "/proc/meminfo";

	return number_in(meminfo, "MemTotal:") - number_in(meminfo, "MemFree:") -
		number_in(meminfo, "Buffers:") - number_in(meminfo, "Cached:") +
		number_in(meminfo, "Shmem:") - free_of_cpus();
}

/* The same, once the number is stable: memory is freed with a delay. */
static long in_use_for_long(void)
{
	long last = in_use(), now;

	for (int i = 0, same = 0; i < 300 && same < 5; i++) {
		usleep(200000);
		now = in_use();
		same = labs(now - last) < LIMIT / 128 ? same + 1 : 0;
		last = now;
	}
	return last;
}

/* What the page tables of all of it take. */
static long tables(void)
{
	return HUGE / TABLE * page / KIB;
}

struct scene {
	struct shared *shared;
	long max_map_count;
};

/* The cgroup, and room for any number of mappings. NULL, or what does not work. */
static const char *set_up(struct scene *scene)
{
	page = page_size();
	test = getpid();
	catch_signals();
	scene->shared = mmap(NULL, sizeof(*scene->shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (scene->shared == MAP_FAILED)
		return "mmap";
	/* Touch it here, so that it is not charged to a process in the cgroup. */
	memset(scene->shared, 0, sizeof(*scene->shared));
	if (!write_to("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		return "memory controller";
	/* A test that was killed may have left the cgroup behind. */
	rmdir(CGROUP);
	if (mkdir(CGROUP, 0755) || !write_to(CGROUP "/memory.max", "64M"))
		return CGROUP;
	if (!access(CGROUP "/memory.swap.max", F_OK) &&
	    !write_to(CGROUP "/memory.swap.max", "0"))
		return "memory.swap.max";
	scene->max_map_count = number_in(MAX_MAP_COUNT, "");
	if (scene->max_map_count <= 0 || !write_to(MAX_MAP_COUNT, "10000000"))
		return MAX_MAP_COUNT;
	return NULL;
}

/* Fails while a process is in the cgroup. */
static bool take_down(struct scene *scene)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", scene->max_map_count);
	return write_to(MAX_MAP_COUNT, text) && !rmdir(CGROUP);
}

/* Enters the cgroup and becomes the user nobody. Returns an open device, or minus errno. */
static int become_nobody(void)
{
	if (!write_to(CGROUP "/cgroup.procs", "0") || setgroups(0, NULL) || setgid(NOBODY) ||
	    setuid(NOBODY))
		return -errno;
	/* setuid() has reset the parent-death signal. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return getppid() == test ? open_device() : -ESRCH;
}

/* The class of the mapping, and whether it is written to. */
struct use {
	enum class class;
	bool writes;
};

static char *map_huge(enum class class, int fd)
{
	return mmap(NULL, HUGE, class_prot(class), class_flags(class) | MAP_NORESERVE, fd, 0);
}

/* Touches all pages. If only page tables take memory, it first touches one page of each of them. */
static void touch_all(char *addr, const struct use *use, long until)
{
	bool pages = use->writes || use->class == SHARED_WRITE;
	size_t stride = pages ? page : TABLE;
	int n = 0;

	for (size_t from = 0; from < stride; from += page)
		for (size_t i = from; i < HUGE; i += stride) {
			if (use->writes)
				*(volatile char *)(addr + i) = 1;
			else
				*(volatile char *)(addr + i);
			if (until && ++n % 256 == 0 && charged() >= until)
				return;
		}
}

/* Says that it is ready, and waits for the parent. */
static void wait_for_go(struct shared *shared)
{
	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->go))
		usleep(1000);
}

/* Waits until so many are ready; false if one ends before. */
static bool all_are_ready(struct shared *shared, int n)
{
	while (atomic_load(&shared->ready) < n) {
		if (waitpid(-1, NULL, WNOHANG) > 0)
			return false;
		usleep(1000);
	}
	return true;
}

static bool comes_back(long before)
{
	for (int i = 0; i < 300; i++) {
		if (in_use() - before < LIMIT / 2)
			return true;
		usleep(200000);
	}
	return false;
}

FIXTURE(huge) {
	struct scene scene;
	int fd;
};

FIXTURE_VARIANT(huge) {
	enum backing backing;
	struct use use;
};

#define VARIANT(name, fs, how, touches)						\
	FIXTURE_VARIANT_ADD(huge, name) {					\
		.backing = fs, .use = { .class = how, .writes = touches },	\
	}

VARIANT(memfd_shared_read, MEMFD, SHARED_READ, false);
VARIANT(memfd_private_read, MEMFD, PRIVATE, false);
VARIANT(memfd_private_write, MEMFD, PRIVATE, true);
VARIANT(memfd_shared_write_read, MEMFD, SHARED_WRITE, false);
VARIANT(memfd_shared_write, MEMFD, SHARED_WRITE, true);
VARIANT(ext4_shared_read, EXT4, SHARED_READ, false);
VARIANT(ext4_private_read, EXT4, PRIVATE, false);
VARIANT(ext4_private_write, EXT4, PRIVATE, true);
VARIANT(ext4_shared_write_read, EXT4, SHARED_WRITE, false);
VARIANT(ext4_shared_write, EXT4, SHARED_WRITE, true);

FIXTURE_SETUP(huge)
{
	const char *failed;

	if (geteuid())
		SKIP(return, "setting up a cgroup takes root");
	need(_metadata, "memcg");
	need_backing(_metadata, variant->backing);
	failed = set_up(&self->scene);
	ASSERT_EQ(failed, NULL) TH_LOG("%s: %s", failed, strerror(errno));
	self->fd = new_file(variant->backing);
	ASSERT_GE(self->fd, 0) TH_LOG("new file: %s", strerror(errno));
}

FIXTURE_TEARDOWN(huge)
{
	EXPECT_TRUE(take_down(&self->scene)) TH_LOG("%s", strerror(errno));
}

/* Opts in a mapping and touches it, never returns. until: stops at this charge, if not 0. */
static void use_up(struct scene *scene, int fd, const struct use *use, long until)
{
	int device = become_nobody();
	char *addr = map_huge(use->class, fd);

	if (device < 0 || addr == MAP_FAILED || enable(device, addr, HUGE))
		_exit(1);
	/* The parent can then see which signal it was. */
	signal(SIGBUS, SIG_DFL);
	signal(SIGSEGV, SIG_DFL);
	touch_all(addr, use, until);
	if (until)
		wait_for_go(scene->shared);
	_exit(until ? 0 : 2);
}

/* An innocent process in the same cgroup, with a mapping of the same file. */
static void stand_by(struct scene *scene, int fd)
{
	int device = become_nobody();
	char *addr = map_file(SHARED_READ, fd, 2 * page);

	if (device < 0 || addr == MAP_FAILED || enable(device, addr, 2 * page) ||
	    read_byte(addr + page))
		_exit(1);
	wait_for_go(scene->shared);
	_exit(read_byte(addr) != 'x' || read_byte(addr + page));
}

/* The OOM killer kills the process that took the memory, and no other in the cgroup or outside. */
TEST_F_TIMEOUT(huge, the_oom_killer_ends_it_alone, 1200)
{
	struct scene *scene = &self->scene;
	int device = open_device(), status;
	long before, peak;
	pid_t pid, other;
	char *addr;

	if (tables() <= LIMIT && !variant->use.writes &&
	    variant->use.class != SHARED_WRITE)
		SKIP(return, "all its page tables have room");
	ASSERT_GE(device, 0);
	addr = map_file(SHARED_WRITE, self->fd, 2 * page);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(device, addr, 2 * page), 0);
	ASSERT_EQ(write_byte(addr + page, 7), 0);
	other = fork();
	ASSERT_GE(other, 0);
	if (!other)
		stand_by(scene, self->fd);
	ASSERT_TRUE(all_are_ready(scene->shared, 1));

	before = in_use_for_long();
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		use_up(scene, self->fd, &variant->use, 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFSIGNALED(status)) TH_LOG("status %#x", status);
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
	EXPECT_EQ(oom_kills(), 1);
	peak = number_in(CGROUP "/memory.peak", "") / KIB;
	EXPECT_GE(peak, LIMIT / 2);
	/* Some allocations may go over it. */
	EXPECT_LE(peak, LIMIT + LIMIT / 64);
	EXPECT_TRUE(comes_back(before)) TH_LOG("%ld KiB more than before are in use",
					       in_use() - before);

	EXPECT_EQ(read_byte(addr + page), 7);
	ASSERT_EQ(fill(self->fd, 'x', 0, 1), 0);
	EXPECT_EQ(read_byte(addr), 'x');
	atomic_store(&scene->shared->go, 1);
	ASSERT_EQ(waitpid(other, &status, 0), other);
	EXPECT_EQ(status, 0);
}

/* kmemleak allocates a record for each object, which is not charged. */
static bool has_kmemleak(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

/*
 * How far the memory that is gone may differ from the memory that is charged. Charges and free
 * pages are counted per CPU, slabs are not full, and a cache of the kernel may grow meanwhile.
 * Pages are counted more exactly than small objects.
 */
#define UNSURE_OF_PAGES(charge)		((charge) / 16)
#define UNSURE_OF_OBJECTS(charge)	((charge) / 4)

static bool is_charged(long gone, long charge, long unsure)
{
	return charge >= MEASURED / 2 && labs(gone - charge) < unsure;
}

TEST_F_TIMEOUT(huge, what_is_gone_is_charged, 1200)
{
	struct scene *scene = &self->scene;
	long before, gone, charge;
	pid_t pid;
	int status;

	if (tables() <= MEASURED && !variant->use.writes &&
	    variant->use.class != SHARED_WRITE)
		SKIP(return, "all its page tables have room");
	if (has_kmemleak())
		SKIP(return, "kmemleak takes memory as well");
	before = in_use_for_long();
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		use_up(scene, self->fd, &variant->use, MEASURED);
	ASSERT_TRUE(all_are_ready(scene->shared, 1));
	gone = in_use_for_long() - before;
	charge = charged();
	TH_LOG("%ld KiB are charged, %ld KiB gone", charge, gone);
	EXPECT_TRUE(is_charged(gone, charge, UNSURE_OF_PAGES(charge)));
	atomic_store(&scene->shared->go, 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(oom_kills(), 0);
}

/* Many mappings, all of one file or each of a file of its own. */
FIXTURE(mappings) {
	struct scene scene;
};

FIXTURE_VARIANT(mappings) {
	enum class class;
	bool of_many_files;
};

FIXTURE_VARIANT_ADD(mappings, private) { .class = PRIVATE, };
FIXTURE_VARIANT_ADD(mappings, shared_read) { .class = SHARED_READ, };
FIXTURE_VARIANT_ADD(mappings, shared_write) { .class = SHARED_WRITE, };
FIXTURE_VARIANT_ADD(mappings, of_many_files) { .class = SHARED_WRITE, .of_many_files = true, };

FIXTURE_SETUP(mappings)
{
	const char *failed;

	if (geteuid())
		SKIP(return, "setting up a cgroup takes root");
	need(_metadata, "memcg");
	failed = set_up(&self->scene);
	ASSERT_EQ(failed, NULL) TH_LOG("%s: %s", failed, strerror(errno));
}

FIXTURE_TEARDOWN(mappings)
{
	EXPECT_TRUE(take_down(&self->scene)) TH_LOG("%s", strerror(errno));
}

/*
 * Makes mappings until there is no memory for more, or until so much is charged. enables: opts
 * them in. Exits with 0 when there is no more memory, unless it is killed.
 */
static void map_many(struct scene *scene, enum class class, bool of_many_files, bool enables,
		     long until)
{
	int device = become_nobody(), fd = -1;

	for (long n = 1; device >= 0; n++) {
		char *addr;

		if (fd < 0 || of_many_files) {
			close(fd);
			fd = memfd_create("nosigbus", MFD_CLOEXEC);
		}
		addr = fd < 0 ? MAP_FAILED : map_file(class, fd, page);
		/* memfd_create() may fail with ENFILE instead of ENOMEM. */
		if (addr == MAP_FAILED)
			_exit(errno != ENOMEM && !(fd < 0 && errno == ENFILE));
		if (enables) {
			/* With an eventfd of its own, to which only the mapping refers then. */
			int event = eventfd(0, EFD_CLOEXEC), ret;

			if (event < 0)
				_exit(errno != ENOMEM && errno != ENFILE);
			ret = enable_with(device, addr, page, NOSIGBUS_EVENTFD, event);
			close(event);
			if (ret)
				_exit(ret != -ENOMEM);
			atomic_fetch_add(&scene->shared->requests, 1);
		}
		if (until && n % 64 == 0 && charged() >= until) {
			if (!enables)
				atomic_store(&scene->shared->requests, n);
			wait_for_go(scene->shared);
			_exit(0);
		}
	}
	_exit(2);
}

/* Makes mappings until MEASURED is charged. Per mapping: how much is charged, and how much gone. */
static bool measure(struct scene *scene, enum class class, bool of_many_files, bool enables,
		    long *charge, long *gone)
{
	struct shared *shared = scene->shared;
	long before = in_use_for_long(), n;
	int status;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	pid = fork();
	if (!pid)
		map_many(scene, class, of_many_files, enables, MEASURED);
	if (pid < 0 || !all_are_ready(shared, 1))
		return false;
	n = shared->requests;
	*gone = in_use_for_long() - before;
	*charge = charged();
	atomic_store(&shared->go, 1);
	if (waitpid(pid, &status, 0) != pid || status ||
	    !is_charged(*gone, *charge, UNSURE_OF_OBJECTS(*charge)))
		return false;
	/* In bytes. */
	*gone = *gone * KIB / n;
	*charge = *charge * KIB / n;
	return true;
}

TEST_F_TIMEOUT(mappings, what_is_gone_is_charged, 1200)
{
	long charge, gone, plain_charge, plain_gone, before;

	if (has_kmemleak())
		SKIP(return, "kmemleak takes memory as well");
	before = in_use_for_long();
	ASSERT_TRUE(measure(&self->scene, variant->class, variant->of_many_files, false,
			    &plain_charge, &plain_gone));
	TH_LOG("a plain mapping: %ld bytes are charged, %ld gone", plain_charge, plain_gone);
	ASSERT_TRUE(measure(&self->scene, variant->class, variant->of_many_files, true, &charge,
			    &gone));
	TH_LOG("an opted-in one: %ld bytes are charged, %ld gone", charge, gone);
	/* The cost of opting in alone. Core mm does not charge all of a plain mapping. */
	charge -= plain_charge;
	gone -= plain_gone;
	EXPECT_LT(gone - charge, charge / 8 + 32);
	EXPECT_TRUE(comes_back(before)) TH_LOG("%ld KiB more than before are in use",
					       in_use() - before);
}

TEST_F_TIMEOUT(mappings, memory_for_them_ends, 3600)
{
	/* With kmemleak each allocation is slow. */
	bool slow = has_kmemleak();
	long requests = number_of("OVERCOMMIT_REQUESTS", slow ? 3000 : 50000), killed = 0;
	struct shared *shared = self->scene.shared;
	double start = seconds();
	int processes = 0;

	if (slow)
		ASSERT_TRUE(write_to(CGROUP "/memory.max", "8M"));
	for (; shared->requests < requests; processes++) {
		long last = shared->requests;
		pid_t pid = fork();
		int status;

		ASSERT_GE(pid, 0);
		if (!pid)
			map_many(&self->scene, variant->class, variant->of_many_files, true, 0);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		/* The last request fails, or the OOM killer kills the process. */
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			killed++;
		else
			ASSERT_EQ(status, 0);
		ASSERT_GT(shared->requests - last, 200);
	}
	EXPECT_EQ(oom_kills(), killed);
	TH_LOG("%ld mappings in %.1f s, by %d processes, of which %ld were killed",
	       atomic_load(&shared->requests), seconds() - start, processes, killed);
}

/*
 * Without a limit the system runs out of memory. It is taken by shadow pages, which are not mapped
 * at that time. The OOM killer kills the process that holds them, and no other.
 */
FIXTURE(system) {
	long oom_kills;
};

FIXTURE_SETUP(system)
{
	if (geteuid())
		SKIP(return, "takes root, for what is not to be killed");
	if (sizeof(long) < 8 || has_kmemleak())
		SKIP(return, "takes the address space of 64 bits, and its time with kmemleak");
	page = page_size();
	self->oom_kills = number_in("/proc/vmstat", "oom_kill ");
}

FIXTURE_TEARDOWN(system)
{
}

TEST_F_TIMEOUT(system, who_holds_the_memory_is_killed, 1200)
{
	pid_t pid, bystander;
	int status;

	/* Protect the test. The values of all other processes do not change. */
	ASSERT_TRUE(write_to("/proc/self/oom_score_adj", "-1000"));
	/* Otherwise the kernel would reclaim the pages of this program all the time. */
	ASSERT_EQ(mlockall(MCL_CURRENT), 0);
	/* The bystander has more memory mapped than the other process ever has. */
	bystander = fork();
	ASSERT_GE(bystander, 0);
	if (!bystander) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!write_to("/proc/self/oom_score_adj", "0") ||
		    mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED)
			_exit(1);
		for (;;)
			pause();
	}
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		const size_t chunk = 16 * MIB;
		int locked = mlockall(MCL_CURRENT), device = open_device();
		char *addr = map_huge(SHARED_WRITE, memfd_create("nosigbus", MFD_CLOEXEC));

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!write_to("/proc/self/oom_score_adj", "0") || locked || device < 0 ||
		    addr == MAP_FAILED || enable(device, addr, HUGE))
			_exit(1);
		for (char *p = addr;; p += chunk) {
			for (size_t i = 0; i < chunk; i += page)
				*(volatile char *)(p + i) = 1;
			if (madvise(p, chunk, MADV_DONTNEED))
				_exit(2);
		}
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
	EXPECT_EQ(number_in("/proc/vmstat", "oom_kill ") - self->oom_kills, 1);
	EXPECT_EQ(waitpid(bystander, &status, WNOHANG), 0);
	kill(bystander, SIGKILL);
	waitpid(bystander, NULL, 0);
	munlockall();
	write_to("/proc/self/oom_score_adj", "0");
}

/* Many processes map one file, and the file grows. */
#define MAPPERS		16
#define MAPPINGS	256
#define SHADOWS		16384

FIXTURE(one_file) {
	MAPPED_FILE;
	struct shared *shared;
};

FIXTURE_VARIANT(one_file) {
	enum backing backing;
};

FIXTURE_VARIANT_ADD(one_file, memfd) { .backing = MEMFD, };
FIXTURE_VARIANT_ADD(one_file, ext4) { .backing = EXT4, };

FIXTURE_SETUP(one_file)
{
	set_up_file(_metadata, &self->file, variant->backing, 0, 0);
	page = self->page;
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->shared, MAP_FAILED);
}

FIXTURE_TEARDOWN(one_file)
{
	tear_down(&self->file);
}

/* Maps the file many times, touches pages past EOF, and waits until the file has grown. */
static int map_one_file(struct shared *shared, int device, int fd)
{
	char *addr[MAPPINGS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < MAPPINGS; i++) {
		enum class class = i % 3;

		addr[i] = map_file(class, fd, 2 * page);
		if (addr[i] == MAP_FAILED || enable(device, addr[i], 2 * page))
			return 1;
		if (class == SHARED_WRITE ? write_byte(addr[i] + page, 7) :
					    read_byte(addr[i] + page))
			return 2;
	}
	wait_for_go(shared);
	for (int i = 0; i < MAPPINGS; i++)
		if (read_byte(addr[i] + page) != 'x')
			return 3;
	return 0;
}

TEST_F_TIMEOUT(one_file, grows_under_thousands_of_mappings, 1200)
{
	pid_t pids[MAPPERS];
	double start;

	for (int i = 0; i < MAPPERS; i++) {
		pids[i] = fork();
		ASSERT_GE(pids[i], 0);
		if (!pids[i])
			_exit(map_one_file(self->shared, self->device, self->fd));
	}
	ASSERT_TRUE(all_are_ready(self->shared, MAPPERS));
	start = seconds();
	ASSERT_EQ(fill(self->fd, 'x', 0, 2 * page), 0);
	TH_LOG("growing under %d mappings of %d processes: %.1f ms", MAPPERS * MAPPINGS, MAPPERS,
	       (seconds() - start) * 1000);
	atomic_store(&self->shared->go, 1);
	for (int i = 0; i < MAPPERS; i++) {
		int status;

		ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
		EXPECT_EQ(status, 0) TH_LOG("process %d", i);
	}
}

TEST_F_TIMEOUT(one_file, grows_over_many_shadow_pages, 1200)
{
	char *addr = map_file(SHARED_WRITE, self->fd, SHADOWS * page);
	double start;

	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(self->device, addr, SHADOWS * page), 0);
	for (int i = 0; i < SHADOWS; i++)
		ASSERT_EQ(write_byte(addr + i * page, 7), 0);
	start = seconds();
	ASSERT_EQ(ftruncate(self->fd, SHADOWS * page), 0);
	TH_LOG("growing over %d shadow pages: %.1f ms", SHADOWS, (seconds() - start) * 1000);
	for (int i = 0; i < SHADOWS; i += 61)
		EXPECT_EQ(read_byte(addr + i * page), 0);
	EXPECT_EQ(munmap(addr, SHADOWS * page), 0);
}

TEST_HARNESS_MAIN
