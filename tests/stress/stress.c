// SPDX-License-Identifier: GPL-2.0-only
/*
 * Load and malice. Processes have random mappings of files, and do random things to the mappings
 * and to the files' sizes. Their memory cgroup is too small for them, and they are killed at
 * random. Each process knows what every page may show (worker.h).
 *
 * usage: stress CGROUP, as root. STRESS_SECONDS is the duration. The program prints its SEED. The
 * same SEED repeats the operations of each process, but not the moments when processes are killed,
 * nor their effects on each other.
 */

#include "loading.h"
#include "sys_files.h"
#include "worker.h"

#include <sys/prctl.h>
#include <sys/random.h>

/* A process that has made no progress for so long is stuck. */
#define STUCK_SECONDS	300
/* run() looks at all processes every LOOK_SECONDS, and kills one every KILL_EVERY looks. */
#define LOOK_SECONDS	0.05
#define KILL_EVERY	40

/* What a hog maps and wants to have, in pages. */
#define HOG_PAGES	(256 << 10)

static const enum backing shared_backings[SHARED_FILES] = {
	MEMFD, TMPFS, TMPFS_HUGE, EXT4, XFS, BTRFS, OVERLAY, MEMFD,
};

struct life {
	pid_t pid;
	int number;
	/* Killed by this process on purpose; dead itself, while its children may still run. */
	bool killed, dead;
	long last_ops;
	double since;
};

static struct worker worker;
static struct shared *shared;
static struct file shared_files[SHARED_FILES];
static struct life lives[PROCESSES];
static unsigned int seed;
/* Processes that this process has killed, and those that were found killed by others. */
static long kills, workers_found_dead, hogs_found_dead, started;

static long oom_kills_of(const char *cgroup)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/memory.events", cgroup);
	return number_in(path, "oom_kill ");
}

/* There may be no memory even for that. */
static int give_up(struct worker *w, const char *what)
{
	if (errno != ENOMEM)
		complain(w, ANSWER, "%s: %s", what, strerror(errno));
	return errno != ENOMEM;
}

/*
 * Writes to one page after another of a mapping that is wholly past EOF, until the memory of the
 * cgroup is used up and the OOM killer comes. After each page, checks that a random one of those
 * written so far still has its content.
 */
static int eat(struct worker *w)
{
	struct file file;
	enum class class = OPTS_IN_SHARED_WRITE && any(w, 2) ? SHARED_WRITE : PRIVATE;
	unsigned long *words;
	char *addr;
	int device;

	if (!open_file(&file, any(w, 2) ? MEMFD : EXT4, 0xff))
		return give_up(w, "new file");
	addr = map_file(class, file.map_fd, HOG_PAGES * page);
	if (addr == MAP_FAILED)
		return give_up(w, "mmap");
	device = open_device();
	if (device < 0)
		return give_up(w, "/dev/nosigbus");
	errno = -enable(device, addr, HOG_PAGES * page);
	if (errno)
		return give_up(w, "ENABLE");
	close(device);
	for (long i = 0; i < HOG_PAGES && !stopped(w); i++) {
		long other = any(w, i + 1);

		words = (unsigned long *)(addr + i * page);
		words[1] = i;
		words = (unsigned long *)(addr + other * page);
		if (words[0] || words[1] != (unsigned long)other || words[511]) {
			complain(w, BYTE, "a hog's page %ld of class %d has %#lx, %#lx", other,
				 class, words[0], words[1]);
			return 1;
		}
		w->steps++;
		count(&w->progress->ops[EAT], 1);
		if (i % 64 == 0) {
			note_faults(w);
			/* The CPU is for the others. */
			usleep(2000);
		}
	}
	return 0;
}

/* What the process does. */
static int live(int index, const char *cgroup)
{
	struct worker *w = &worker;
	char path[PATH_MAX];
	int sig, procs;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		return 1;
	/* A process group, to kill its children and to wait for them when it is dead. */
	setpgid(0, 0);
	w->index = index;
	w->life = lives[index].number;
	w->progress = &shared->progress[index];
	w->seed = seed + 0x9e3779b9U * (index + 1) + 0x85ebca6bU * w->life;
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	procs = open(path, O_WRONLY | O_CLOEXEC);
	if (procs < 0 || write(procs, "0", 1) != 1) {
		complain(w, ANSWER, "%s: %s", path, strerror(errno));
		return 1;
	}
	close(procs);

	sig = sigsetjmp(access_failed, 0);
	if (sig) {
		complain(w, SIGNAL, "signal %d, code %d, at %p", sig, last_signal.si_code,
			 last_signal.si_addr);
		return 1;
	}
	return index < WORKERS ? work(w) : eat(w);
}

static void start(int index, const char *cgroup)
{
	struct life *life = &lives[index];

	life->number++;
	life->killed = false;
	life->dead = false;
	life->since = seconds();
	life->pid = fork();
	if (!life->pid)
		_exit(live(index, cgroup));
	if (life->pid < 0) {
		complain(&worker, DEATH, "fork: %s", strerror(errno));
		life->pid = 0;
	}
	started++;
}

/* A process has ended: kills its children, and complains if it ended in a wrong way. */
static void has_ended(int index, int status)
{
	struct life *life = &lives[index];

	life->dead = true;
	kill(-life->pid, SIGKILL);
	if (index < WORKERS)
		count(&shared->progress[index].faults,
		      atomic_exchange(&shared->faults_now[index], 0));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		/* At the end, the cgroup tells how many the OOM killer has killed. */
		if (!life->killed)
			(*(index < WORKERS ? &workers_found_dead : &hogs_found_dead))++;
	} else if (status) {
		worker.index = index;
		worker.life = life->number;
		complain(&worker, DEATH, "ended with %#x", status);
	}
}

/* Whether nothing is left of a process. */
static bool is_gone(int index)
{
	struct life *life = &lives[index];
	int status;

	if (life->pid && !life->dead && waitpid(life->pid, &status, WNOHANG) == life->pid)
		has_ended(index, status);
	/* This process has become the parent of its children. */
	if (life->pid && (!life->dead || waitpid(-life->pid, NULL, WNOHANG) >= 0))
		return false;
	life->pid = 0;
	if (index < WORKERS) {
		end_all(shared, index, shared_files);
		for (int i = 0; i < OWN_FILES; i++) {
			unlink(shared->names[index][i]);
			*shared->names[index][i] = 0;
		}
	}
	return true;
}

static struct progress total(void)
{
	struct progress sum = {};
	atomic_long *to = (atomic_long *)&sum;

	for (int i = 0; i < PROCESSES; i++) {
		atomic_long *from = (atomic_long *)&shared->progress[i];

		for (size_t j = 0; j < sizeof(sum) / sizeof(*to); j++)
			to[j] += from[j];
	}
	return sum;
}

/* All operations, except those of hogs, which have only one kind. */
static long operations_of(const struct progress *progress)
{
	long ops = 0;

	for (int i = 0; i < EAT; i++)
		ops += progress->ops[i];
	return ops;
}

/* Whether enough was done of everything: NULL if so, else a thing that was done too little. */
static const char *too_little(const struct progress *sum, long oom_kills)
{
	const struct {
		const char *what;
		long number, wanted;
	} all[] = {
		{ "pages looked at", sum->pages, 3000 },
		{ "pages of shared files known exactly", sum->exact, 500 },
		{ "faults", sum->faults, 3000 },
		{ "stand-ins", sum->stand_ins, IS_MODULE ? 200 : 0 },
		{ "pages given back", sum->given_back, IS_MODULE ? 10 : 0 },
		{ "events", sum->events, IS_MODULE ? 5 : 0 },
		{ "growths", sum->growths, 50 },
		{ "children", sum->children, 1 },
		{ "children killed", sum->children_killed, 1 },
		{ "memfds sealed", sum->seals, 1 },
		{ "attempts to unload refused", sum->unloads_refused, IS_MODULE },
		{ "processes killed", kills, 1 },
		{ "processes killed by the OOM killer", oom_kills, 1 },
	};

	for (int i = 0; i < OPS; i++)
		if (!sum->ops[i])
			return op_names[i];
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].number < all[i].wanted)
			return all[i].what;
	return NULL;
}

/*
 * Runs all processes for that many seconds, and for some more if they have done too little.
 * Replaces killed processes. Returns the seconds that it took.
 */
static long run(long duration, const char *cgroup)
{
	double begin = seconds(), until = begin + duration, stop_at = 0;
	int running = 0;

	for (int i = 0; i < PROCESSES; i++)
		start(i, cgroup);
	do {
		double now;

		usleep(LOOK_SECONDS * 1e6);
		now = seconds();
		if (now >= until) {
			struct progress sum = total();

			if (now >= until + STUCK_SECONDS ||
			    !too_little(&sum, oom_kills_of(cgroup)))
				atomic_store(&shared->stop, true);
		}
		if (shared->stop && !stop_at)
			stop_at = now;
		running = 0;
		for (int i = 0; i < PROCESSES; i++) {
			struct life *life = &lives[i];
			long ops = operations_of(&shared->progress[i]) +
				shared->progress[i].ops[EAT];

			if (is_gone(i)) {
				if (!shared->stop)
					start(i, cgroup);
				running += !!life->pid;
				continue;
			}
			running++;
			if (ops != life->last_ops) {
				life->last_ops = ops;
				life->since = now;
			}
			if (now - life->since > STUCK_SECONDS ||
			    (stop_at && now - stop_at > STUCK_SECONDS)) {
				worker.index = i;
				worker.life = life->number;
				complain(&worker, STUCK, "is stuck after %ld operations", ops);
				kill(life->pid, SIGKILL);
				/* One that cannot be killed is not waited for. */
				if (now - life->since > 2 * STUCK_SECONDS)
					return now - begin;
			} else if (!stop_at && i < WORKERS && !life->killed && !life->dead &&
				   !any(&worker, KILL_EVERY * WORKERS)) {
				/* Hogs are for the OOM killer. */
				kill(life->pid, SIGKILL);
				life->killed = true;
				kills++;
			}
		}
	} while (running);
	return seconds() - begin;
}

/* Whether the kernel counts no writable mapping of a shared memfd any more. */
static bool can_be_sealed(void)
{
	for (int i = 0; i < SHARED_FILES; i++) {
		int ret = shared_files[i].backing == MEMFD ? seal_writing(shared_files[i].fd) : 0;

		if (ret) {
			ksft_print_msg("F_SEAL_WRITE: %s\n", strerror(-ret));
			return false;
		}
	}
	return true;
}

static const char * const tests[WRONGS] = {
	[SIGNAL] = "no access has raised a signal that it may not",
	[BYTE] = "no page has shown what it may not",
	[ANSWER] = "no call has answered what it may not",
	[MODULE] = "the module could not be unloaded meanwhile",
	[SEAL] = "no mapping that is gone is counted as writable",
	[DEATH] = "no process has ended but of SIGKILL",
	[STUCK] = "no process was stuck",
};

static void report(const struct progress *sum, long duration, long oom_kills)
{
	for (int i = 0; i < OPS; i++)
		ksft_print_msg("%s: %ld\n", op_names[i], sum->ops[i]);
	ksft_print_msg("%ld s: %ld operations, %ld pages looked at, %ld of shared files known exactly\n",
		       duration, operations_of(sum), sum->pages, sum->exact);
	ksft_print_msg("%ld faults, %ld stand-ins, %ld given back, %ld times an eventfd signalled\n",
		       sum->faults, sum->stand_ins, sum->given_back, sum->events);
	ksft_print_msg("%ld changes of size, of which %ld growths of own files, %ld failed for want of memory\n",
		       sum->ops[RESIZE], sum->growths, sum->failed_resizes);
	ksft_print_msg("%ld processes, %ld killed by kill -9; %ld children, %ld of them killed with them\n",
		       started, kills, sum->children, sum->children_killed);
	ksft_print_msg("%ld killed by the OOM killer: %ld workers, %ld hogs, and children\n",
		       oom_kills, workers_found_dead, hogs_found_dead);
	ksft_print_msg("%ld attempts to unload refused, %ld memfds sealed, %ld calls without memory\n",
		       sum->unloads_refused, sum->seals, sum->out_of_memory);
}

int main(int argc, char **argv)
{
	long duration = number_of("STRESS_SECONDS", 1200), oom_kills, found_dead;
	unsigned int random = 0;
	struct progress sum;
	const char *missing;
	char *mapped;
	int device, ret;
	bool sealed;

	if (argc != 2 || duration <= 0)
		ksft_exit_fail_msg("usage: stress CGROUP\n");
	getrandom(&random, sizeof(random), 0);
	seed = number_of("SEED", random);
	page = page_size();
	catch_signals();
	ksft_print_header();
	ksft_set_plan(WRONGS + 5);
	ksft_print_msg("SEED=%#x\n", seed);
	find_backings();

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));
	/* So that it is not charged to those in the cgroup. */
	memset(shared, 0, sizeof(*shared));
	worker.shared = shared;
	worker.seed = seed;
	for (int i = 0; i < SHARED_FILES; i++) {
		if (!open_file(&shared_files[i], shared_backings[i], 1 + i))
			ksft_exit_fail_msg("new file: %s\n", strerror(errno));
		shared_files[i].shared = true;
	}
	worker.shared_files = shared_files;
	/* Not accessed: this mapping keeps the module loaded while workers try to unload it. */
	mapped = map_file(PRIVATE, shared_files[0].map_fd, page);
	device = open_device();
	if (mapped == MAP_FAILED || device < 0 || enable(device, mapped, page))
		ksft_exit_fail_msg("a mapping that is opted in: %s\n", strerror(errno));
	close(device);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		ksft_exit_fail_msg("PR_SET_CHILD_SUBREAPER: %s\n", strerror(errno));

	duration = run(duration, argv[1]);

	sum = total();
	oom_kills = oom_kills_of(argv[1]);
	report(&sum, duration, oom_kills);
	if (shared->complained)
		ksft_print_msg("SEED=%#x: %s\n", seed, *shared->complaint ? shared->complaint :
			       "whoever has complained was killed");
	for (int i = 0; i < WRONGS; i++)
		ksft_test_result(!shared->complained || shared->wrong != (enum wrong)i, "%s\n",
				 tests[i]);
	/* The OOM killer kills children too, and this process does not find all of them dead. */
	found_dead = workers_found_dead + hogs_found_dead;
	ksft_test_result(oom_kills > 0 && found_dead <= oom_kills,
			 "the OOM killer has killed all that nobody else has (%ld of %ld)\n",
			 found_dead, oom_kills);

	missing = too_little(&sum, oom_kills);
	if (missing)
		ksft_print_msg("too little: %s\n", missing);
	ksft_test_result(!missing, "enough was done to mean something\n");
	ksft_test_result(sum.failed_resizes * 10 < sum.ops[RESIZE] &&
			 sum.out_of_memory * 10 < operations_of(&sum),
			 "few calls have failed for want of memory\n");

	sealed = can_be_sealed();
	ksft_test_result(sealed, "the files that were shared can be sealed against writing\n");
	munmap(mapped, page);
	if (!IS_MODULE) {
		ksft_test_result_skip("there is no module to be unloaded\n");
		ksft_finished();
	}
	ret = unload();
	ksft_print_msg("delete_module: %s\n", strerror(-ret));
	ret = ret ?: load();
	ksft_test_result(!ret, "the module could be unloaded in the end, and loaded again\n");
	ksft_finished();
}
