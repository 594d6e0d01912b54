// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unloading fails while a mapping is opted in. After that it succeeds, but waits until all faults
 * have returned. Needs root.
 */

#include "broken_file_systems.h"
#include "loading.h"
#include "mapped_file.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>

FIXTURE(module) {
	MAPPED_FILE;
};

FIXTURE_SETUP(module)
{
	if (geteuid())
		SKIP(return, "loading modules takes root");
	set_up_file(_metadata, &self->file, MEMFD, 0, 4);
	set_up_mapping(_metadata, &self->file, SHARED_READ);
}

/* Runs in the parent process, even if the test has died. Resumes the disk for other tests. */
FIXTURE_TEARDOWN_PARENT(module)
{
	disk_waits(false);
}

/* For a module in use delete_module(2) fails with EWOULDBLOCK, and rmmod(8) says "is in use". */
TEST_F(module, refused_while_opted_in)
{
	ASSERT_EQ(enable(self->device, self->addr, 4 * self->page), 0);
	EXPECT_EQ(unload(), -EWOULDBLOCK);

	/* The mapping has a reference on the module, even without the open device. */
	ASSERT_EQ(close(self->device), 0);
	EXPECT_EQ(unload(), -EWOULDBLOCK);
	EXPECT_EQ(WEXITSTATUS(system("rmmod nosigbus 2>/dev/null")), 1);
	EXPECT_EQ(read_byte(self->addr), 0);

	/* After a split each part keeps that reference. */
	ASSERT_EQ(munmap(self->addr + self->page, self->page), 0);
	ASSERT_EQ(munmap(self->addr, self->page), 0);
	EXPECT_EQ(unload(), -EWOULDBLOCK);
	EXPECT_EQ(read_byte(self->addr + 3 * self->page), 0);

	ASSERT_EQ(munmap(self->addr, 4 * self->page), 0);
	ASSERT_EQ(unload(), 0);
	EXPECT_EQ(access("/dev/nosigbus", F_OK), -1);
	ASSERT_EQ(load(), 0);
	EXPECT_EQ(access("/dev/nosigbus", R_OK | W_OK), 0);
}

TEST_F(module, refused_while_the_device_is_open)
{
	EXPECT_EQ(unload(), -EWOULDBLOCK);
	ASSERT_EQ(close(self->device), 0);
	ASSERT_EQ(unload(), 0);
	ASSERT_EQ(load(), 0);
}

/* The list in debugfs is open: its file operations are in the module. */
TEST_F(module, refused_while_the_list_is_open)
{
	const char *mappings = "/sys/kernel/debug/nosigbus/mappings";
	int fd = open(mappings, O_RDONLY | O_CLOEXEC);

	ASSERT_GE(fd, 0) TH_LOG("%s: %s", mappings, strerror(errno));
	ASSERT_EQ(close(self->device), 0);
	EXPECT_EQ(unload(), -EWOULDBLOCK);
	ASSERT_EQ(close(fd), 0);
	ASSERT_EQ(unload(), 0);
	EXPECT_EQ(access(mappings, F_OK), -1);
	ASSERT_EQ(load(), 0);
	EXPECT_EQ(access(mappings, R_OK), 0);
}

TEST_F(module, refused_while_a_child_holds_a_copy)
{
	int go[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(enable(self->device, self->addr, 4 * self->page), 0);
	ASSERT_EQ(pipe(go), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(self->device);
		close(go[1]);
		_exit(read(go[0], &byte, 1) != 0 || read_byte(self->addr) != 0);
	}
	close(go[0]);
	ASSERT_EQ(close(self->device), 0);
	ASSERT_EQ(munmap(self->addr, 4 * self->page), 0);
	EXPECT_EQ(unload(), -EWOULDBLOCK);

	/* The child exits with everything still mapped. */
	close(go[1]);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	ASSERT_EQ(unload(), 0);
	ASSERT_EQ(load(), 0);
}

/* A mapping that has opted out does not need the module any more. */
TEST_F(module, not_held_after_opting_out)
{
	char *shadow = map_file(SHARED_WRITE, self->fd, 4 * self->page);

	ASSERT_NE(shadow, MAP_FAILED);
	ASSERT_EQ(enable(self->device, self->addr, 4 * self->page), 0);
	ASSERT_EQ(enable(self->device, shadow, 4 * self->page), 0);
	EXPECT_EQ(read_byte(self->addr), 0);
	EXPECT_EQ(write_byte(shadow, 1), 0);
	ASSERT_EQ(disable(self->device, self->addr, 4 * self->page), 0);
	EXPECT_EQ(unload(), -EWOULDBLOCK);
	ASSERT_EQ(disable(self->device, shadow, 4 * self->page), 0);
	ASSERT_EQ(close(self->device), 0);
	ASSERT_EQ(unload(), 0);

	/* The mappings still exist, and work without the module. */
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	EXPECT_EQ(write_byte(shadow, 1), -SIGBUS);
	ASSERT_EQ(ftruncate(self->fd, 4 * self->page), 0);
	EXPECT_EQ(write_byte(shadow, 1), 0);
	EXPECT_EQ(read_byte(self->addr), 1);
	ASSERT_EQ(munmap(shadow, 4 * self->page), 0);
	ASSERT_EQ(munmap(self->addr, 4 * self->page), 0);
	ASSERT_EQ(load(), 0);
}

/* Refused requests must not leave a reference behind. */
TEST_F(module, not_held_by_refused_requests)
{
	EXPECT_EQ(enable(self->device, self->addr, self->page), -EINVAL);
	EXPECT_EQ(disable(self->device, self->addr, 4 * self->page), -ENOENT);
	ASSERT_EQ(mmap(self->addr + self->page, self->page, PROT_READ,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), self->addr + self->page);
	EXPECT_EQ(enable(self->device, self->addr, 4 * self->page), -EOPNOTSUPP);
	ASSERT_EQ(munmap(self->addr + self->page, self->page), 0);
	EXPECT_EQ(enable(self->device, self->addr, 4 * self->page), -ENOMEM);
	ASSERT_EQ(close(self->device), 0);
	ASSERT_EQ(unload(), 0);
	ASSERT_EQ(load(), 0);
}

struct access {
	const char *addr;
	atomic_int tid;
	int byte;
};

static void *access_it(void *arg)
{
	struct access *a = arg;

	atomic_store(&a->tid, gettid());
	a->byte = read_byte(a->addr);
	return NULL;
}

struct unload {
	atomic_int tid, result;
	atomic_bool done;
};

static void *unload_it(void *arg)
{
	struct unload *u = arg;

	atomic_store(&u->tid, gettid());
	atomic_store(&u->result, unload());
	atomic_store(&u->done, true);
	return NULL;
}

/*
 * A fault sleeps in the file system. It holds no lock that DISABLE needs. It will return into the
 * module, so unloading has to wait for it. Tested before the mapping has a stand-in, and after.
 */
static void wait_for_fault(struct __test_metadata *_metadata, struct mapped_file *self,
			   bool has_stand_in)
{
	size_t len = 2 * self->page;
	struct access a = {};
	struct unload u = {};
	pthread_t thread, unloader;
	int fd, waited = 0;
	char *addr;

	need_backing(_metadata, DM_EXT4);
	fd = new_file(DM_EXT4);
	ASSERT_GE(fd, 0) TH_LOG("new file: %s", strerror(errno));
	ASSERT_EQ(fill(fd, 'x', 0, self->page), 0);
	ASSERT_TRUE(make_all_cold(fd));
	addr = map_file(SHARED_READ, fd, len);
	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(enable(self->device, addr, len), 0);
	if (has_stand_in)
		EXPECT_EQ(read_byte(addr + self->page), 0);
	a.addr = addr;

	ASSERT_EQ(disk_waits(true), 0) TH_LOG("%s", strerror(errno));
	ASSERT_EQ(pthread_create(&thread, NULL, access_it, &a), 0);
	for (int i = 0; i < 10000 && waited < 20; i++) {
		int tid = atomic_load(&a.tid);

		waited = tid && thread_state(tid) == 'D' ? waited + 1 : 0;
		usleep(10000);
	}
	EXPECT_EQ(waited, 20);
	EXPECT_EQ(disable(self->device, addr, len), 0);
	EXPECT_EQ(close(self->device), 0);
	ASSERT_EQ(pthread_create(&unloader, NULL, unload_it, &u), 0);
	waited = 0;
	for (int i = 0; i < 10000 && waited < 20 && !atomic_load(&u.done); i++) {
		int tid = atomic_load(&u.tid);

		waited = tid && thread_state(tid) == 'D' ? waited + 1 : 0;
		usleep(10000);
	}
	EXPECT_EQ(waited, 20);
	EXPECT_FALSE(atomic_load(&u.done));
	/* The device is gone: no task can enter the module any more. */
	EXPECT_EQ(access("/dev/nosigbus", F_OK), -1);
	EXPECT_EQ(disk_waits(false), 0);
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(a.byte, 'x');
	EXPECT_EQ(pthread_join(unloader, NULL), 0);
	ASSERT_EQ(atomic_load(&u.result), 0);
	EXPECT_EQ(read_byte(addr), 'x');
	ASSERT_EQ(load(), 0);
	ASSERT_EQ(munmap(addr, len), 0);
	close(fd);
}

TEST_F_TIMEOUT(module, waits_for_faults_that_wait_for_the_disk, 300)
{
	wait_for_fault(_metadata, &self->file, false);
	self->device = open_device();
	ASSERT_GE(self->device, 0);
	wait_for_fault(_metadata, &self->file, true);
}

#define UNLOADS		10

/* What the processes of a race share. */
struct unloading {
	atomic_bool stop;
	atomic_int opted_in;
	/* Loading runs KUnit tests that check the module's references: take none meanwhile. */
	atomic_bool loading;
	atomic_int inside;
};

/*
 * Whenever there is a device, opts in a mapping of its own and closes the device. Maps stand-ins
 * and changes the size of the file, which the other process maps, too. Then unmaps, or exits with
 * the mapping. Returns 0, or the number of the step that failed.
 */
static int opt_in_and_end(struct unloading *u, int fd, size_t len, bool exits)
{
	while (!atomic_load(&u->stop)) {
		int device = -1;
		char *addr;

		atomic_fetch_add(&u->inside, 1);
		if (!atomic_load(&u->loading)) {
			device = open_device();
			/* The module is not loaded, or is being loaded or unloaded. */
			if (device < 0 && errno != ENOENT && errno != ENODEV && errno != ENXIO)
				return 1;
		}
		if (device < 0) {
			atomic_fetch_sub(&u->inside, 1);
			sched_yield();
			continue;
		}
		addr = map_file(SHARED_WRITE, fd, len);
		if (addr == MAP_FAILED || enable(device, addr, len))
			return 2;
		close(device);
		if (write_byte(addr, 1) || read_byte(addr + len - 1))
			return 3;
		if (ftruncate(fd, len) || ftruncate(fd, 0))
			return 4;
		atomic_fetch_add(&u->opted_in, 1);
		if (exits)
			return 0;
		munmap(addr, len);
		atomic_fetch_sub(&u->inside, 1);
		usleep(1000);
	}
	return 0;
}

static int exit_for_ever(struct unloading *u, int fd, size_t len)
{
	int status = 0;

	while (!atomic_load(&u->stop) && !status) {
		pid_t pid = fork();

		if (!pid)
			_exit(opt_in_and_end(u, fd, len, true));
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return 5;
		/* The child did not lower it, unless it ended because of stop. */
		if (!atomic_load(&u->stop))
			atomic_fetch_sub(&u->inside, 1);
		usleep(1000);
	}
	return status;
}

/*
 * A task in munmap or exit drops the last reference on the module while it still runs the module's
 * code. If the module were unloaded before the task returns, the kernel's log would show a crash.
 */
TEST_F_TIMEOUT(module, unloaded_when_the_last_mapping_has_just_gone, 600)
{
	struct unloading *u = mmap(NULL, sizeof(*u), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	size_t len = 4 * self->page;
	pid_t pids[2];
	int unloads = 0;

	ASSERT_NE(u, MAP_FAILED);
	ASSERT_EQ(close(self->device), 0);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		ASSERT_GE(pids[i], 0);
		if (!pids[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(i ? exit_for_ever(u, self->fd, len) :
				opt_in_and_end(u, self->fd, len, false));
		}
	}
	while (unloads < UNLOADS) {
		int opted_in = atomic_load(&u->opted_in), ret;

		while (atomic_load(&u->opted_in) == opted_in)
			sched_yield();
		ret = unload();
		if (ret == -EWOULDBLOCK)
			continue;
		ASSERT_EQ(ret, 0);
		unloads++;
		atomic_store(&u->loading, true);
		while (atomic_load(&u->inside))
			sched_yield();
		ASSERT_EQ(load(), 0);
		atomic_store(&u->loading, false);
	}
	atomic_store(&u->stop, true);
	for (int i = 0; i < 2; i++) {
		int status;

		ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
		EXPECT_EQ(status, 0);
	}
	TH_LOG("%d mappings, %d unloads", u->opted_in, unloads);
}

TEST_HARNESS_MAIN
