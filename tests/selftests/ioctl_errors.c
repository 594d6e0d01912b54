// SPDX-License-Identifier: GPL-2.0-only
/* The errors of the ioctls, one test for each cause. A failed call must not change anything. */

#include "commands.h"
#include "mapped_file.h"
#include "status.h"

#include <ftw.h>
#include <glob.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/pci.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

FIXTURE(errors) {
	MAPPED_FILE;
};

/* An empty memfd, mapped read-only and shared: four pages, all past EOF. */
FIXTURE_SETUP(errors)
{
	set_up_file(_metadata, &self->file, MEMFD, 0, 4);
	set_up_mapping(_metadata, &self->file, SHARED_READ);
}

FIXTURE_TEARDOWN(errors)
{
	tear_down(&self->file);
}

/* The request is refused, and the mapping is still plain. */
#define EXPECT_REFUSED(request, error) do {				\
	EXPECT_EQ(ioctl(self->device, NOSIGBUS_ENABLE, &(request)), -1);	\
	EXPECT_EQ(errno, error);					\
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);			\
	EXPECT_EQ(read_byte(self->addr + self->len - 1), -SIGBUS);	\
} while (0)

#define GOOD_REQUEST() \
	((struct nosigbus_enable){ .addr = (unsigned long)self->addr, .len = self->len })

TEST_F(errors, query)
{
	struct nosigbus_query query;

	memset(&query, 0xff, sizeof(query));
	ASSERT_EQ(ioctl(self->device, NOSIGBUS_QUERY, &query), 0);
	EXPECT_EQ(query.version, NOSIGBUS_VERSION);
	EXPECT_EQ(query.features, NOSIGBUS_FEATURE_PRIVATE |
		  NOSIGBUS_FEATURE_SHARED_READ | NOSIGBUS_FEATURE_SHARED_WRITE |
		  NOSIGBUS_FEATURE_DISABLE | NOSIGBUS_FEATURE_STATUS | NOSIGBUS_FEATURE_EVENTS);
	EXPECT_EQ(query.enable_flags, NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTFD |
		  NOSIGBUS_EVENTS);
	EXPECT_EQ(query.reserved, 0);
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(query.reserved2[i], 0);
}

TEST_F(errors, enotty_unknown_command)
{
	struct nosigbus_enable request = GOOD_REQUEST();

	EXPECT_EQ(ioctl(self->device, _IO(NOSIGBUS_IOC_MAGIC, 0x7f)), -1);
	EXPECT_EQ(errno, ENOTTY);
	/* The right number with another size or direction is another command. */
	EXPECT_EQ(ioctl(self->device, _IOW(NOSIGBUS_IOC_MAGIC, 0x01, int), &request), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_EQ(ioctl(self->device, _IOR(NOSIGBUS_IOC_MAGIC, 0x01, struct nosigbus_enable),
			&request), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_EQ(ioctl(self->device, TCGETS, &request), -1);
	EXPECT_EQ(errno, ENOTTY);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
}

/* Each flag that QUERY does not return, alone and together with a known one. */
TEST_F(errors, einval_unknown_flags)
{
	const __u32 known[] = { 0, NOSIGBUS_RECORD_ERRORS };

	for (int bit = 3; bit < 32; bit++)
		for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
			struct nosigbus_enable request = GOOD_REQUEST();

			request.flags = known[i] | 1U << bit;
			EXPECT_REFUSED(request, EINVAL);
		}
}

TEST_F(errors, einval_reserved_fields)
{
	struct nosigbus_enable request;

	for (int i = 0; i < 2; i++) {
		request = GOOD_REQUEST();
		request.reserved[i] = 1ULL << (31 * i);
		EXPECT_REFUSED(request, EINVAL);
	}
}

/* A good eventfd as well as bad ones. */
TEST_F(errors, einval_eventfd_without_its_flag)
{
	const __s32 values[] = { 1, -1, INT_MIN, INT_MAX, eventfd(0, EFD_CLOEXEC) };

	ASSERT_GT(values[4], 0);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct nosigbus_enable request = GOOD_REQUEST();

		request.eventfd = values[i];
		EXPECT_REFUSED(request, EINVAL);
		request.flags = NOSIGBUS_RECORD_ERRORS;
		EXPECT_REFUSED(request, EINVAL);
	}
	close(values[4]);
}

TEST_F(errors, ebadf_no_open_file_descriptor)
{
	struct nosigbus_enable request = GOOD_REQUEST();
	int closed = eventfd(0, EFD_CLOEXEC), efd = eventfd(0, EFD_CLOEXEC);
	const __s32 values[] = { -1, closed, INT_MIN, INT_MAX, 1 << 20, AT_FDCWD, 0 };
	char path[64];

	ASSERT_GE(closed, 0);
	ASSERT_GE(efd, 0);
	close(closed);
	/* Descriptor 0 is not special. */
	close(0);
	request.flags = NOSIGBUS_EVENTFD;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		request.eventfd = values[i];
		EXPECT_REFUSED(request, EBADF);
	}
	/* Open only as a path. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", efd);
	request.eventfd = open(path, O_PATH | O_CLOEXEC);
	ASSERT_GE(request.eventfd, 0);
	EXPECT_REFUSED(request, EBADF);

	ASSERT_EQ(dup2(efd, 0), 0);
	request.eventfd = 0;
	EXPECT_EQ(ioctl(self->device, NOSIGBUS_ENABLE, &request), 0);
	close(efd);
}

TEST_F(errors, einval_no_eventfd)
{
	struct nosigbus_enable request = GOOD_REQUEST();
	int fds[] = {
		self->device, self->fd, epoll_create1(EPOLL_CLOEXEC),
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), socket(AF_UNIX, SOCK_STREAM, 0),
		open("/dev/null", O_RDWR | O_CLOEXEC), open("/", O_RDONLY | O_CLOEXEC),
	};

	request.flags = NOSIGBUS_EVENTFD;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_GE(fds[i], 0);
		request.eventfd = fds[i];
		EXPECT_REFUSED(request, EINVAL);
	}
	for (size_t i = 2; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

TEST_F(errors, einval_bad_range)
{
	u64 addr = (unsigned long)self->addr, page = self->page;
	const struct { u64 addr, len; } bad[] = {
		{ addr, 0 },
		{ 0, 0 },
		{ addr + 1, self->len },
		{ addr, self->len - 1 },
		{ addr, 1 },
		{ addr + 1, self->len - 1 },
		{ addr, -page },
		{ addr, ULLONG_MAX },
		{ -page, page },
		{ -page, 2 * page },
		{ ULLONG_MAX, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct nosigbus_enable request = { .addr = bad[i].addr, .len = bad[i].len };

		EXPECT_REFUSED(request, EINVAL);
	}
}

TEST_F(errors, einval_part_of_a_vma)
{
	EXPECT_EQ(enable(self->device, self->addr, self->page), -EINVAL);
	EXPECT_EQ(enable(self->device, self->addr + self->page, self->len - self->page), -EINVAL);
	EXPECT_EQ(enable(self->device, self->addr + self->page, self->page), -EINVAL);
	for (size_t i = 0; i < self->len; i += self->page)
		EXPECT_EQ(read_byte(self->addr + i), -SIGBUS);
}

TEST_F(errors, enomem_hole)
{
	size_t page = self->page;

	/* A hole in the middle: both parts are whole VMAs, but the range is not fully mapped. */
	ASSERT_EQ(munmap(self->addr + page, page), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), -ENOMEM);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	EXPECT_EQ(read_byte(self->addr + 2 * page), -SIGBUS);

	/* A hole at the start, at the end, in all of the range; addresses that cannot be mapped. */
	EXPECT_EQ(enable(self->device, self->addr + page, 3 * page), -ENOMEM);
	EXPECT_EQ(enable(self->device, self->addr, 2 * page), -ENOMEM);
	EXPECT_EQ(enable(self->device, self->addr + page, page), -ENOMEM);
	EXPECT_EQ(enable(self->device, NULL, page), -ENOMEM);
	EXPECT_REFUSED(((struct nosigbus_enable){ .addr = 1ULL << 63, .len = page }), ENOMEM);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	EXPECT_EQ(read_byte(self->addr + 2 * page), -SIGBUS);

	/* What is left can be opted in. */
	EXPECT_EQ(enable(self->device, self->addr, page), 0);
	EXPECT_EQ(enable(self->device, self->addr + 2 * page, 2 * page), 0);
	EXPECT_EQ(read_byte(self->addr), 0);
	EXPECT_EQ(read_byte(self->addr + 3 * page), 0);
}

TEST_F(errors, ebusy_opted_in_already)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), -EBUSY);
	EXPECT_EQ(read_byte(self->addr), 0);

	/* After a split each part is a VMA of its own, and is opted in, too. */
	ASSERT_EQ(munmap(self->addr + self->page, self->page), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->page), -EBUSY);
	EXPECT_EQ(read_byte(self->addr), 0);
}

/* A second ENABLE fails. The mapping keeps the flags and the eventfd of the first one. */
TEST_F(errors, ebusy_changes_no_flags)
{
	int efds[] = { eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK) };
	struct nosigbus_status status;
	u64 signals;

	ASSERT_GE(efds[1], 0);
	ASSERT_EQ(enable_with(self->device, self->addr, self->len, NOSIGBUS_EVENTFD, efds[0]), 0);
	EXPECT_EQ(enable_with(self->device, self->addr, self->len,
			      NOSIGBUS_EVENTFD | NOSIGBUS_RECORD_ERRORS, efds[1]), -EBUSY);
	EXPECT_EQ(enable(self->device, self->addr, self->len), -EBUSY);
	ASSERT_EQ(status_of(self->device, self->addr, 0, &status), 0);
	EXPECT_EQ(status.flags, NOSIGBUS_EVENTFD);
	EXPECT_EQ(read_byte(self->addr), 0);
	EXPECT_EQ(read(efds[0], &signals, sizeof(signals)), (ssize_t)sizeof(signals));
	EXPECT_EQ(read(efds[1], &signals, sizeof(signals)), -1);
	close(efds[0]);
	close(efds[1]);
}

/* NOSIGBUS_STATUS. Its other errors are in abi.c; those of NOSIGBUS_DISABLE in disable.c. */
TEST_F(errors, status_einval)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	for (int bit = 1; bit < 32; bit++) {
		struct nosigbus_status status = {
			.addr = (unsigned long)self->addr, .request = 1U << bit,
		};

		EXPECT_EQ(call(self->device, STATUS, &status), -EINVAL);
		status.request |= NOSIGBUS_CLEAR_ERROR;
		EXPECT_EQ(call(self->device, STATUS, &status), -EINVAL);
	}
	for (int i = 0; i < 6; i++) {
		struct nosigbus_status status = { .addr = (unsigned long)self->addr };

		status.reserved[i] = 1ULL << (11 * i);
		EXPECT_EQ(call(self->device, STATUS, &status), -EINVAL);
	}
	EXPECT_EQ(read_byte(self->addr), 0);
}

TEST_F(errors, status_enomem_nothing_is_mapped)
{
	const u64 addrs[] = {
		0, self->page - 1, 1ULL << 63, 0xffff800000000000, 0xffffffff81000000,
		-(u64)self->page, ULLONG_MAX, (unsigned long)self->addr + self->page,
		(unsigned long)self->addr + 2 * self->page - 1,
	};

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(munmap(self->addr + self->page, self->page), 0);
	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
		EXPECT_EQ(call_range(self->device, STATUS, addrs[i], 0), -ENOMEM)
			TH_LOG("%#llx", addrs[i]);
	}
	EXPECT_EQ(call_range(self->device, STATUS, (unsigned long)self->addr, 0), 0);
}

TEST_F(errors, status_enoent_not_opted_in)
{
	u64 addr = (unsigned long)self->addr;

	EXPECT_EQ(call_range(self->device, STATUS, addr, 0), -ENOENT);
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(call_range(self->device, STATUS, addr, 0), 0);
	ASSERT_EQ(disable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(call_range(self->device, STATUS, addr, 0), -ENOENT);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
}

/* ENABLE of a part of the VMA, or with a hole, fails. Its flags and eventfd have no effect. */
TEST_F(errors, flags_of_a_refused_request)
{
	struct nosigbus_enable request = GOOD_REQUEST();
	int efd = eventfd(0, EFD_NONBLOCK);
	u64 signals;

	ASSERT_GE(efd, 0);
	request.flags = NOSIGBUS_EVENTFD | NOSIGBUS_RECORD_ERRORS;
	request.eventfd = efd;
	request.len = self->page;
	EXPECT_REFUSED(request, EINVAL);
	ASSERT_EQ(munmap(self->addr + self->page, self->page), 0);
	request.len = self->len;
	EXPECT_REFUSED(request, ENOMEM);
	EXPECT_EQ(read(efd, &signals, sizeof(signals)), -1);
	EXPECT_EQ(errno, EAGAIN);
	close(efd);
}

/* For the module: STATUS returns ENOENT for this address. The series has no STATUS. */
static bool is_unknown(int device, unsigned long addr)
{
	return !IS_MODULE || call_range(device, STATUS, addr, 0) == -ENOENT;
}

TEST_F(errors, eopnotsupp_anonymous)
{
	const int flags[] = { MAP_PRIVATE, MAP_SHARED };

	for (int i = 0; i < 4; i++) {
		char *addr = mmap(NULL, self->len, i & 2 ? PROT_READ : PROT_READ | PROT_WRITE,
				  flags[i & 1] | MAP_ANONYMOUS, -1, 0);

		ASSERT_NE(addr, MAP_FAILED);
		EXPECT_EQ(enable(self->device, addr, self->len), REFUSED);
		EXPECT_TRUE(is_unknown(self->device, (unsigned long)addr));
		EXPECT_EQ(disable(self->device, addr, self->len), OPTED_OUT_TWICE);
		munmap(addr, self->len);
	}
}

/* All mappings that the kernel itself makes in a process, such as [vdso] and [vvar]. */
TEST_F(errors, eopnotsupp_the_kernels_own_mappings)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[PATH_MAX];
	int special = 0;

	ASSERT_NE(maps, NULL);
	while (fgets(line, sizeof(line), maps)) {
		if (!strchr(line, '[') || strstr(line, "[vsyscall]"))
			continue;
		ASSERT_EQ(sscanf(line, "%lx-%lx", &start, &end), 2);
		/* [stack] and [heap] may grow meanwhile, and then the range is a part of it. */
		if (strstr(line, "[stack]") || strstr(line, "[heap]"))
			continue;
		EXPECT_EQ(enable(self->device, (void *)start, end - start), REFUSED)
			TH_LOG("%s", line);
		EXPECT_TRUE(is_unknown(self->device, start)) TH_LOG("%s", line);
		special++;
	}
	EXPECT_GE(special, 2);
	fclose(maps);
}

/* Maps the file at offset in each class. Every mapping is refused. Returns how many there were. */
static int all_refused(struct __test_metadata *_metadata, int device, int fd, size_t len,
		       off_t offset)
{
	int mapped = 0;

	for (enum class class = PRIVATE; class <= SHARED_WRITE; class++) {
		char *addr = mmap(NULL, len, class_prot(class), class_flags(class) | MAP_NORESERVE,
				  fd, offset);

		if (addr == MAP_FAILED)
			continue;
		mapped++;
		EXPECT_EQ(enable(device, addr, len), REFUSED) TH_LOG("class %d", class);
		EXPECT_EQ(disable(device, addr, len), OPTED_OUT_TWICE) TH_LOG("class %d", class);
		EXPECT_TRUE(is_unknown(device, (unsigned long)addr)) TH_LOG("class %d", class);
		munmap(addr, len);
	}
	return mapped;
}

#define ALL_REFUSED(fd, len, offset) all_refused(_metadata, self->device, fd, len, offset)

TEST_F(errors, eopnotsupp_sysv_shared_memory)
{
	const int flags[] = { SHM_RDONLY, 0 };
	int shm;

	need(_metadata, "sysvipc");
	shm = shmget(IPC_PRIVATE, self->len, IPC_CREAT | 0600);
	ASSERT_GE(shm, 0);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		char *addr = shmat(shm, NULL, flags[i]);

		ASSERT_NE(addr, MAP_FAILED);
		EXPECT_EQ(enable(self->device, addr, self->len), REFUSED);
		shmdt(addr);
	}
	shmctl(shm, IPC_RMID, NULL);
}

TEST_F(errors, eopnotsupp_dev_zero)
{
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	EXPECT_EQ(ALL_REFUSED(fd, self->len, 0), 3);
	close(fd);
}

TEST_F(errors, eopnotsupp_io_uring)
{
	struct io_uring_params params = {};
	int fd;

	need(_metadata, "io_uring");
	fd = syscall(SYS_io_uring_setup, 4, &params);
	ASSERT_GE(fd, 0) TH_LOG("io_uring_setup: %s", strerror(errno));
	EXPECT_GE(ALL_REFUSED(fd, self->page, IORING_OFF_SQ_RING), 1);
	EXPECT_GE(ALL_REFUSED(fd, self->page, IORING_OFF_SQES), 1);
	close(fd);
}

/* Neither can be mapped, so there is nothing to opt in. */
TEST_F(errors, pipes_and_sockets_cannot_be_mapped)
{
	int fds[4];

	ASSERT_EQ(pipe(fds), 0);
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds + 2), 0);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(mmap(NULL, self->page, PROT_READ, MAP_SHARED, fds[i], 0), MAP_FAILED);
		EXPECT_EQ(errno, i == 1 ? EACCES : ENODEV);
		close(fds[i]);
	}
}

TEST_F(errors, eopnotsupp_hugetlb)
{
	size_t huge = HUGE_PAGE;
	const char *dir = fs_path("hugetlbfs");
	char *path;
	int fd;

	need(_metadata, "hugetlbfs");
	fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	ASSERT_GE(fd, 0) TH_LOG("memfd_create: %s", strerror(errno));
	EXPECT_EQ(ALL_REFUSED(fd, huge, 0), 3);
	close(fd);

	ASSERT_NE(dir, NULL);
	ASSERT_GT(asprintf(&path, "%s/selftest-XXXXXX", dir), 0);
	fd = mkostemp(path, O_CLOEXEC);
	ASSERT_GE(fd, 0) TH_LOG("%s: %s", path, strerror(errno));
	unlink(path);
	free(path);
	EXPECT_EQ(ALL_REFUSED(fd, huge, 0), 3);
	close(fd);
}

/* secretmem can only be mapped shared. Its size is set once, so opting in would be useless. */
TEST_F(errors, eopnotsupp_secretmem)
{
	int fd;

	need(_metadata, "secretmem");
	fd = syscall(SYS_memfd_secret, 0);
	ASSERT_GE(fd, 0) TH_LOG("memfd_secret: %s", strerror(errno));
	EXPECT_EQ(ALL_REFUSED(fd, self->page, 0), 2);
	ASSERT_EQ(ftruncate(fd, self->page), 0);
	EXPECT_EQ(ALL_REFUSED(fd, self->page, 0), 2);
	close(fd);
}

TEST_F(errors, eopnotsupp_locked_in_memory)
{
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	ASSERT_EQ(mlock(self->addr, self->len), 0) TH_LOG("mlock: %s", strerror(errno));
	EXPECT_EQ(enable(self->device, self->addr, self->len), REFUSED);
	ASSERT_EQ(munlock(self->addr, self->len), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), 0);
}

TEST_F(errors, eopnotsupp_userfaultfd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (unsigned long)self->addr, .len = self->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int uffd;

	need(_metadata, "userfaultfd");
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	ASSERT_GE(uffd, 0) TH_LOG("userfaultfd: %s", strerror(errno));
	ASSERT_EQ(ioctl(uffd, UFFDIO_API, &api), 0);
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	ASSERT_EQ(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), REFUSED);
	ASSERT_EQ(ioctl(uffd, UFFDIO_UNREGISTER, &reg.range), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), 0);
	/* userfaultfd refuses an opted-in mapping. */
	EXPECT_EQ(ioctl(uffd, UFFDIO_REGISTER, &reg), -1);
	EXPECT_EQ(errno, EINVAL);
	close(uffd);
}

/* Three VMAs in a row: all of them, or none. */
TEST_F(errors, several_vmas_all_or_nothing)
{
	size_t len = self->len;
	char *area = mmap(NULL, 3 * len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int other = new_file(MEMFD);

	ASSERT_NE(area, MAP_FAILED);
	ASSERT_GE(other, 0);
	ASSERT_EQ(mmap(area, len, PROT_READ, MAP_SHARED | MAP_FIXED, self->fd, 0), area);
	ASSERT_EQ(mmap(area + len, len, PROT_READ, MAP_PRIVATE | MAP_FIXED, other, 0), area + len);

	/* The last one is anonymous. */
	EXPECT_EQ(enable(self->device, area, 3 * len), REFUSED);
	EXPECT_EQ(read_byte(area), -SIGBUS);
	EXPECT_EQ(read_byte(area + len), -SIGBUS);
	/* The failed ENABLE has not cleared VM_MAYWRITE of the first one. */
	EXPECT_EQ(mprotect(area, len, PROT_READ | PROT_WRITE), 0);
	EXPECT_EQ(mprotect(area, len, PROT_READ), 0);

	/* Part of the last one, and a hole instead of it. */
	ASSERT_EQ(mmap(area + 2 * len, len, PROT_READ, MAP_SHARED | MAP_FIXED, self->fd, 0),
		  area + 2 * len);
	EXPECT_EQ(enable(self->device, area, 3 * len - self->page), -EINVAL);
	EXPECT_EQ(read_byte(area), -SIGBUS);
	ASSERT_EQ(munmap(area + 2 * len, self->page), 0);
	EXPECT_EQ(enable(self->device, area, 3 * len), -ENOMEM);
	EXPECT_EQ(read_byte(area), -SIGBUS);

	EXPECT_EQ(enable(self->device, area, 2 * len), 0);
	EXPECT_EQ(read_byte(area), 0);
	EXPECT_EQ(read_byte(area + 2 * len - 1), 0);
	EXPECT_EQ(read_byte(area + 3 * len - 1), -SIGBUS);
	munmap(area, 3 * len);
	close(other);
}

/* Other processes can seal the file against writing. An opted-in mapping does not prevent that. */
TEST_F(errors, seals_are_not_prevented)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(fcntl(self->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE), 0)
		TH_LOG("F_ADD_SEALS: %s", strerror(errno));
	EXPECT_EQ(read_byte(self->addr), 0);
}

/* Opting in reaches the caller's own address space only. */
static int child_sees_sigbus(void *addr)
{
	return read_byte(addr) != -SIGBUS;
}

static int child_opts_in(void *addr)
{
	int device = open_device();

	return enable(device, addr, 4 * page_size()) || read_byte(addr) != 0;
}

TEST_F(errors, other_processes_are_not_concerned)
{
	EXPECT_EQ(in_child(child_opts_in, self->addr), 0);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	EXPECT_EQ(in_child(child_sees_sigbus, self->addr), 0);
}

/* Files that only root can create or map. */
FIXTURE(privileged) {
	MAPPED_FILE;
};

FIXTURE_SETUP(privileged)
{
	if (geteuid())
		SKIP(return, "opening the files takes root");
	set_up_device(_metadata, &self->file);
}

FIXTURE_TEARDOWN(privileged)
{
	tear_down(&self->file);
}

/* Physical addresses of firmware and of a graphics card. Some are unused and can be mapped. */
TEST_F(privileged, eopnotsupp_dev_mem)
{
	const off_t places[] = { 0xa0000, 0xc0000, 0xe0000, 0xf0000 };
	int fd, mapped = 0;

	need(_metadata, "mem");
	fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0) TH_LOG("/dev/mem: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		mapped += ALL_REFUSED(fd, self->page, places[i]);
	EXPECT_GE(mapped, 1);
	close(fd);
}

TEST_F(privileged, eopnotsupp_perf_event)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_TASK_CLOCK,
		.size = sizeof(attr),
	};
	int fd;

	need(_metadata, "perf");
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	ASSERT_GE(fd, 0) TH_LOG("perf_event_open: %s", strerror(errno));
	EXPECT_GE(ALL_REFUSED(fd, 2 * self->page, 0), 1);
	close(fd);
}

/* A file on a file system with dax=always. */
TEST_F(privileged, eopnotsupp_dax)
{
	const char *dir = fs_path("dax");
	struct statx st;
	char *path;
	int fd;

	need(_metadata, "dax");
	ASSERT_NE(dir, NULL);
	ASSERT_GT(asprintf(&path, "%s/selftest-XXXXXX", dir), 0);
	fd = mkostemp(path, O_CLOEXEC);
	ASSERT_GE(fd, 0) TH_LOG("%s: %s", path, strerror(errno));
	unlink(path);
	free(path);
	ASSERT_EQ(fill(fd, 1, 0, self->page), 0);
	ASSERT_EQ(statx(fd, "", AT_EMPTY_PATH, 0, &st), 0);
	ASSERT_TRUE(st.stx_attributes & STATX_ATTR_DAX);
	EXPECT_EQ(ALL_REFUSED(fd, 4 * self->page, 0), 3);
	close(fd);
}

/* A file on a cluster file system: another node may change its size, and ->fault checks that. */
TEST_F(privileged, file_of_a_cluster)
{
	char *addr;
	int fd;

	need_backing(_metadata, DM_GFS2);
	fd = new_file(DM_GFS2);
	ASSERT_GE(fd, 0);
	addr = map_file(SHARED_READ, fd, self->page);
	ASSERT_NE(addr, MAP_FAILED);
	EXPECT_EQ(enable(self->device, addr, self->page), OPTS_IN_CLUSTERS ? 0 : REFUSED);
	EXPECT_EQ(read_byte(addr), OPTS_IN_CLUSTERS ? 0 : -SIGBUS);
	munmap(addr, self->page);
	close(fd);
}

TEST_F(privileged, eopnotsupp_guest_memfd)
{
	/* As in linux/kvm.h of kernels that can map one. */
	struct kvm_create_guest_memfd args = { .size = 4 * self->page, .flags = 1 | 2 };
	int kvm, vm, fd;

	need(_metadata, "kvm");
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	ASSERT_GE(kvm, 0) TH_LOG("/dev/kvm: %s", strerror(errno));
	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD) == 0)
		SKIP(return, "this kernel has no guest_memfd");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ASSERT_GE(vm, 0) TH_LOG("KVM_CREATE_VM: %s", strerror(errno));
	fd = ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);
	ASSERT_GE(fd, 0) TH_LOG("KVM_CREATE_GUEST_MEMFD: %s", strerror(errno));
	EXPECT_GE(ALL_REFUSED(fd, 4 * self->page, 0), 1);
	close(fd);
	close(vm);
	close(kvm);
}

static struct {
	struct __test_metadata *metadata;
	int device, mapped;
} walk;

static int try_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)at;
	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	for (int mode = O_RDONLY; mode <= O_RDWR; mode += O_RDWR - O_RDONLY) {
		int fd = open(path, mode | O_CLOEXEC | O_NONBLOCK);

		if (fd < 0)
			continue;
		walk.mapped += all_refused(walk.metadata, walk.device, fd, page_size(), 0);
		close(fd);
	}
	return 0;
}

/* All files of sysfs that can be mapped: registers of PCI devices, tables of the firmware. */
TEST_F_TIMEOUT(privileged, eopnotsupp_sysfs, 120)
{
	glob_t devices;

	walk.metadata = _metadata;
	walk.device = self->device;
	/* With the dot at the end, nftw() follows the link. */
	ASSERT_EQ(glob("/sys/bus/pci/devices/*/.", 0, NULL, &devices), 0);
	for (size_t i = 0; i < devices.gl_pathc; i++)
		ASSERT_EQ(nftw(devices.gl_pathv[i], try_file, 16, FTW_PHYS | FTW_MOUNT), 0);
	globfree(&devices);
	EXPECT_GE(walk.mapped, 1);
	ASSERT_EQ(nftw("/sys/firmware", try_file, 16, FTW_PHYS | FTW_MOUNT), 0);
	/* Type information, where the kernel has it. */
	if (!access("/sys/kernel/btf", F_OK))
		ASSERT_EQ(nftw("/sys/kernel/btf", try_file, 16, FTW_PHYS | FTW_MOUNT), 0);
}

/* Returns the address of a PCI device's first registers in memory, or 0 if it has none. */
static unsigned long long registers(const char *device)
{
	unsigned long long start = 0, end, flags;
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/resource", device);
	file = fopen(path, "re");
	if (!file)
		return 0;
	/* A line for each resource; 0x200 is IORESOURCE_MEM. */
	while (fscanf(file, "%llx %llx %llx", &start, &end, &flags) == 3 && !(flags & 0x200))
		start = 0;
	fclose(file);
	return start;
}

/* Of /proc only registers of PCI devices can be mapped, at their address. */
TEST_F(privileged, eopnotsupp_procfs)
{
	unsigned long long start = 0;
	char path[PATH_MAX];
	glob_t devices;
	int bus, fd;
	char slot[5];

#if !defined(__i386__) && !defined(__x86_64__)
	SKIP(return, "this architecture maps no registers through /proc");
#endif
	ASSERT_EQ(glob("/sys/bus/pci/devices/0000:*", 0, NULL, &devices), 0);
	for (size_t i = 0; i < devices.gl_pathc && !start; i++) {
		start = registers(devices.gl_pathv[i]);
		ASSERT_EQ(sscanf(devices.gl_pathv[i], "/sys/bus/pci/devices/0000:%x:%4s", &bus, slot), 2);
	}
	globfree(&devices);
	ASSERT_NE(start, 0);
	snprintf(path, sizeof(path), "/proc/bus/pci/%02x/%s", bus, slot);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ioctl(fd, PCIIOC_MMAP_IS_MEM, 0), 0);
	EXPECT_GE(ALL_REFUSED(fd, self->page, start), 1);
	close(fd);
}

TEST_HARNESS_MAIN
