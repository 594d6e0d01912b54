// SPDX-License-Identifier: GPL-2.0-only
/* The error contract of the ioctls: one test for each cause, and that nothing has changed. */

#include "nosigbus_test.h"

#include <linux/userfaultfd.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/syscall.h>

FIXTURE(errors) {
	size_t page, len;
	int device, fd;
	char *addr;
};

/* An empty memfd, mapped read-only and shared: four pages, all past EOF. */
FIXTURE_SETUP(errors)
{
	catch_signals();
	self->page = page_size();
	self->len = 4 * self->page;
	self->device = open_device();
	ASSERT_GE(self->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	self->fd = new_file(MEMFD);
	ASSERT_GE(self->fd, 0);
	self->addr = mmap(NULL, self->len, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_NE(self->addr, MAP_FAILED);
}

FIXTURE_TEARDOWN(errors)
{
	munmap(self->addr, self->len);
	close(self->fd);
	close(self->device);
}

/* The request is refused, and the mapping is as plain as before. */
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
	EXPECT_EQ(query.features, NOSIGBUS_FEATURE_PRIVATE | NOSIGBUS_FEATURE_SHARED_READ);
	EXPECT_EQ(query.enable_flags, 0);
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

TEST_F(errors, einval_unknown_flags)
{
	for (int bit = 0; bit < 32; bit++) {
		struct nosigbus_enable request = GOOD_REQUEST();

		request.flags = 1U << bit;
		EXPECT_REFUSED(request, EINVAL);
	}
}

TEST_F(errors, einval_reserved_fields)
{
	struct nosigbus_enable request = GOOD_REQUEST();

	request.eventfd = 1;
	EXPECT_REFUSED(request, EINVAL);
	request.eventfd = -1;
	EXPECT_REFUSED(request, EINVAL);
	for (int i = 0; i < 3; i++) {
		request = GOOD_REQUEST();
		request.reserved[i] = 1ULL << (31 * i);
		EXPECT_REFUSED(request, EINVAL);
	}
}

TEST_F(errors, einval_bad_range)
{
	unsigned long addr = (unsigned long)self->addr;
	const struct { unsigned long long addr, len; } bad[] = {
		{ addr, 0 },
		{ 0, 0 },
		{ addr + 1, self->len },
		{ addr, self->len - 1 },
		{ addr, 1 },
		{ addr + 1, self->len - 1 },
		{ addr, -self->page },
		{ addr, ULLONG_MAX },
		{ -self->page, self->page },
		{ -self->page, 2 * self->page },
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

	/* In the middle: the parts are whole VMAs, but not all that was asked for. */
	ASSERT_EQ(munmap(self->addr + page, page), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), -ENOMEM);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	EXPECT_EQ(read_byte(self->addr + 2 * page), -SIGBUS);

	/* At the start, at the end, all of it, and where nothing can be. */
	EXPECT_EQ(enable(self->device, self->addr + page, 3 * page), -ENOMEM);
	EXPECT_EQ(enable(self->device, self->addr, 2 * page), -ENOMEM);
	EXPECT_EQ(enable(self->device, self->addr + page, page), -ENOMEM);
	EXPECT_EQ(enable(self->device, NULL, page), -ENOMEM);
	EXPECT_EQ(enable(self->device, (void *)(1UL << 63), page), -ENOMEM);
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	EXPECT_EQ(read_byte(self->addr + 2 * page), -SIGBUS);

	/* What is left can be opted in. */
	EXPECT_EQ(enable(self->device, self->addr, page), 0);
	EXPECT_EQ(enable(self->device, self->addr + 2 * page, 2 * page), 0);
	EXPECT_EQ(read_byte(self->addr), 0);
	EXPECT_EQ(read_byte(self->addr + 3 * page), 0);
}

TEST_F(errors, efault_bad_pointer)
{
	char *area = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct nosigbus_enable request = GOOD_REQUEST();
	void *bad[4];

	ASSERT_NE(area, MAP_FAILED);
	ASSERT_EQ(munmap(area + self->page, self->page), 0);
	/* The first half of it is there. */
	bad[0] = area + self->page - sizeof(request) / 2;
	memcpy(bad[0], &request, sizeof(request) / 2);
	bad[1] = NULL;
	bad[2] = area + self->page;
	bad[3] = (void *)(~0UL - 4095);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(ioctl(self->device, NOSIGBUS_ENABLE, bad[i]), -1);
		EXPECT_EQ(errno, EFAULT);
		EXPECT_EQ(ioctl(self->device, NOSIGBUS_QUERY, bad[i]), -1);
		EXPECT_EQ(errno, EFAULT);
	}
	EXPECT_EQ(read_byte(self->addr), -SIGBUS);
	munmap(area, self->page);
}

TEST_F(errors, ebusy_opted_in_already)
{
	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), -EBUSY);
	EXPECT_EQ(read_byte(self->addr), 0);

	/* A part that a split has made a whole VMA is opted in as well. */
	ASSERT_EQ(munmap(self->addr + self->page, self->page), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->page), -EBUSY);
	EXPECT_EQ(read_byte(self->addr), 0);
}

TEST_F(errors, eopnotsupp_anonymous)
{
	const int flags[] = { MAP_PRIVATE, MAP_SHARED };
	char *addr;
	int shm;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		addr = mmap(NULL, self->len, PROT_READ, flags[i] | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(addr, MAP_FAILED);
		EXPECT_EQ(enable(self->device, addr, self->len), -EOPNOTSUPP);
		munmap(addr, self->len);
	}

	shm = shmget(IPC_PRIVATE, self->len, IPC_CREAT | 0600);
	ASSERT_GE(shm, 0);
	addr = shmat(shm, NULL, SHM_RDONLY);
	ASSERT_NE(addr, MAP_FAILED);
	EXPECT_EQ(enable(self->device, addr, self->len), -EOPNOTSUPP);
	shmdt(addr);
	shmctl(shm, IPC_RMID, NULL);
}

TEST_F(errors, eopnotsupp_devices)
{
	const int flags[] = { MAP_PRIVATE, MAP_SHARED };
	int zero = open("/dev/zero", O_RDWR);

	ASSERT_GE(zero, 0);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		char *addr = mmap(NULL, self->len, PROT_READ, flags[i], zero, 0);

		ASSERT_NE(addr, MAP_FAILED);
		EXPECT_EQ(enable(self->device, addr, self->len), -EOPNOTSUPP);
		munmap(addr, self->len);
	}
	close(zero);
}

/* All that the kernel itself maps into a process, [vdso] and [vvar] among it. */
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
		EXPECT_EQ(enable(self->device, (void *)start, end - start), -EOPNOTSUPP)
			TH_LOG("%s", line);
		special++;
	}
	EXPECT_GE(special, 2);
	fclose(maps);
}

TEST_F(errors, eopnotsupp_hugetlb)
{
	size_t huge = 2UL << 20;
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	char *addr;

	ASSERT_GE(fd, 0) TH_LOG("memfd_create: %s", strerror(errno));
	addr = mmap(NULL, huge, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	ASSERT_NE(addr, MAP_FAILED) TH_LOG("mmap: %s", strerror(errno));
	EXPECT_EQ(enable(self->device, addr, huge), -EOPNOTSUPP);
	munmap(addr, huge);
	close(fd);
}

TEST_F(errors, eopnotsupp_secretmem)
{
	int fd = syscall(SYS_memfd_secret, 0);
	char *addr;

	ASSERT_GE(fd, 0) TH_LOG("memfd_secret: %s", strerror(errno));
	ASSERT_EQ(ftruncate(fd, self->page), 0);
	addr = mmap(NULL, self->page, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(addr, MAP_FAILED);
	EXPECT_EQ(enable(self->device, addr, self->page), -EOPNOTSUPP);
	munmap(addr, self->page);
	close(fd);
}

TEST_F(errors, eopnotsupp_shared_writable)
{
	char *addr = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);

	ASSERT_NE(addr, MAP_FAILED);
	EXPECT_EQ(enable(self->device, addr, self->len), -EOPNOTSUPP);
	EXPECT_EQ(read_byte(addr), -SIGBUS);
	munmap(addr, self->len);
}

TEST_F(errors, eopnotsupp_locked_in_memory)
{
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	ASSERT_EQ(mlock(self->addr, self->len), 0) TH_LOG("mlock: %s", strerror(errno));
	EXPECT_EQ(enable(self->device, self->addr, self->len), -EOPNOTSUPP);
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
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	ASSERT_GE(uffd, 0) TH_LOG("userfaultfd: %s", strerror(errno));
	ASSERT_EQ(ioctl(uffd, UFFDIO_API, &api), 0);
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	ASSERT_EQ(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), -EOPNOTSUPP);
	ASSERT_EQ(ioctl(uffd, UFFDIO_UNREGISTER, &reg.range), 0);
	EXPECT_EQ(enable(self->device, self->addr, self->len), 0);
	/* And the other way round: the kernel refuses it. */
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
	EXPECT_EQ(enable(self->device, area, 3 * len), -EOPNOTSUPP);
	EXPECT_EQ(read_byte(area), -SIGBUS);
	EXPECT_EQ(read_byte(area + len), -SIGBUS);
	/* It was not made unwritable either. */
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

/* A file that others may seal against writing: the mapping does not stand in the way. */
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

TEST_HARNESS_MAIN
