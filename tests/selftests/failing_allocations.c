// SPDX-License-Identifier: GPL-2.0-only
/*
 * Out of memory, anywhere. Each operation is repeated (fault_injection.h): first its first step
 * fails (an allocation, or a copy to or from user space), then its second, and so on. Each time it
 * must either succeed, or fail with a documented error and change nothing. Nothing may be half
 * done, and nothing may leak.
 *
 * Steps of the kernel before it calls the module fail as well. The tests check the state of the
 * mapping, of the file and of the module. They need root, the setup of selftests.sh, and a kernel
 * with fault injection, such as the debug kernel.
 */

#include "broken_file_systems.h"
#include "fault_injection.h"
#include "loading.h"
#include "mapped_file.h"
#include "side.h"
#include "status.h"
#include "turns.h"

#include <sys/eventfd.h>

#define HARNESS_SECONDS	900

/* No other mapping is within a GiB of these: a mapping here needs page tables of its own. */
#define FAR		((char *)(sizeof(long) == 8 ? 0x100000000000ULL : 0x20000000))
#define FAR_AWAY	((char *)(sizeof(long) == 8 ? 0x200000000000ULL : 0x30000000))

#define MODULE		"/sys/module/nosigbus"
#define MAPPINGS	"/sys/kernel/debug/nosigbus/mappings"

/* How many references there are on the module. */
static long uses(void)
{
	return number_in(MODULE "/refcnt", "");
}

/* Whether an operation has succeeded, or failed with an error that a failed step may cause. */
static bool is_clean(long ret)
{
	return ret >= 0 || ret == -ENOMEM || ret == -EFAULT;
}

/*
 * "plain", "opted in", or a description of what is wrong: NOSIGBUS_STATUS and VmFlags have to
 * agree for each VMA of the range, and all VMAs have to be the same.
 */
static const char *state_of(int device, enum class class, const char *addr, size_t len)
{
	unsigned long from = (unsigned long)addr, to = from + len, start = 0, end = 0;
	static char wrong[PATH_MAX + 64];
	FILE *file = fopen("/proc/self/smaps", "re");
	int opted_in = 0, plain = 0;
	char line[PATH_MAX];

	snprintf(wrong, sizeof(wrong), "no VMA");
	while (file && fgets(line, sizeof(line), file)) {
		bool mixed, may_write, in;
		struct nosigbus_status s;
		unsigned long range[2];
		int ret;

		if (sscanf(line, "%lx-%lx ", &range[0], &range[1]) == 2) {
			start = range[0];
			end = range[1];
		}
		if (start >= to || end <= from || strncmp(line, "VmFlags:", 8))
			continue;
		ret = status_of(device, (void *)start, 0, &s);
		in = !ret;
		mixed = strstr(line, " mm ");
		may_write = strstr(line, " mw ");
		opted_in += in;
		plain += !in;
		if ((ret && ret != -ENOENT) || mixed != in ||
		    may_write != !(in && class == SHARED_READ))
			snprintf(wrong, sizeof(wrong), "STATUS says %d of %s", ret, line);
		else if (opted_in && plain)
			snprintf(wrong, sizeof(wrong), "only part is opted in");
		else
			continue;
		opted_in = plain = 0;
		break;
	}
	if (file)
		fclose(file);
	return opted_in ? "opted in" : plain ? "plain" : wrong;
}

/*
 * Returns 0 if i_mmap_writable of a memfd without mappings is 0, something else if not. This seals
 * the memfd against writing.
 */
static int miscounted(int fd)
{
	char *p = map_file(SHARED_WRITE, fd, page);

	/* If it is below 0, mmap() fails, or the seal is accepted. */
	if (p == MAP_FAILED)
		return -errno;
	if (!fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
		return -1;
	munmap(p, page);
	/* If it is above 0, the seal fails. */
	return seal_writing(fd);
}

/* A mapping, the device, and the references on the module before the test. */
FIXTURE(injected) {
	struct side m;
	int device;
	long uses;
};

FIXTURE_VARIANT(injected) {
	const char *name;
	enum backing backing;
	enum class class;
};

#define VARIANT(fs, on, kind, of)						\
	FIXTURE_VARIANT_ADD(injected, fs##_##kind) {				\
		.name = #fs " " #kind, .backing = on, .class = of,		\
	}

VARIANT(memfd, MEMFD, private, PRIVATE);
VARIANT(memfd, MEMFD, shared_read, SHARED_READ);
VARIANT(memfd, MEMFD, shared_write, SHARED_WRITE);
VARIANT(ext4, EXT4, private, PRIVATE);
VARIANT(ext4, EXT4, shared_read, SHARED_READ);
VARIANT(ext4, EXT4, shared_write, SHARED_WRITE);
/* On overlayfs the module adds a mark to two inodes. */
VARIANT(overlay, OVERLAY, shared_write, SHARED_WRITE);

FIXTURE_SETUP(injected)
{
	if (geteuid())
		SKIP(return, "it takes root to inject failures");
	if (!can_inject())
		SKIP(return, "this kernel does not inject failures");
	need_backing(_metadata, variant->backing);
	ASSERT_TRUE(set_up_injection()) TH_LOG("%s", strerror(errno));
	page = page_size();
	catch_signals();
	self->device = open_device();
	ASSERT_GE(self->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	self->uses = uses();
	ASSERT_GT(self->uses, 0);
}

/* Runs in the parent process, even if the test has died. */
FIXTURE_TEARDOWN_PARENT(injected)
{
	EXPECT_TRUE(spare_functions());
	EXPECT_TRUE(fail_marked(0));
	EXPECT_TRUE(leaks_are_seen());
}

static const char *label(const char *name, const char *what)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s: %s", name, what);
	return text;
}

#define SUMMARY(f, what)	EXPECT_FAILURES(f, label(variant->name, what))
/* For operations that may allocate nothing: no failure is required. */
#define REMARK(f, what)		TELL_FAILURES(f, label(variant->name, what))

/* Maps the first pages of the file at addr; does not opt in. */
static void map_at(struct __test_metadata *_metadata, struct side *m, enum class of, char *addr,
		   int pages)
{
	m->addr = mmap(addr, pages * page, class_prot(of), class_flags(of) | MAP_FIXED, m->fd, 0);
	ASSERT_EQ(m->addr, addr);
}

/* A new file and a mapping of it, plain. */
#define NEW_PLAIN() do {							\
	ASSERT_TRUE(make_file(&self->m, variant->backing)) TH_LOG("%s", strerror(errno)); \
	map_at(_metadata, &self->m, variant->class, FAR, PAGES);		\
} while (0)

#define NEW_OPTED_IN() do {							\
	NEW_PLAIN();								\
	ASSERT_EQ(enable(self->device, FAR, PAGES * page), 0);			\
} while (0)

/* Unmaps everything. Module references and i_mmap_writable have to be as before. */
#define END() do {								\
	ASSERT_EQ(munmap(FAR, AREA_PAGES * page), 0);				\
	ASSERT_EQ(uses(), self->uses);						\
	if (variant->backing == MEMFD)						\
		ASSERT_EQ(miscounted(self->m.fd), 0);				\
	close(self->m.fd);							\
} while (0)

#define EXPECT_STATE(what) \
	EXPECT_STREQ(what, state_of(self->device, variant->class, FAR, PAGES * page))
#define EXPECT_SHOWS(what)	EXPECT_STREQ(what, shows(&self->m, FAR, PAGES))

/* The mapping is opted in (or plain), and nothing has been written to it. */
#define EXPECT_OPTED_IN() do {							\
	EXPECT_STATE("opted in");						\
	EXPECT_SHOWS("abc000");							\
} while (0)

#define EXPECT_PLAIN() do {							\
	EXPECT_STATE("plain");							\
	EXPECT_SHOWS("abc!!!");							\
} while (0)

/* The operation has succeeded, or failed because of an injected failure. */
#define EXPECT_CLEAN(f, ret) do {						\
	long _ret = ret;							\
										\
	EXPECT_TRUE(is_clean(_ret)) TH_LOG("step %u: %ld", (f).nth, _ret);	\
	if (_ret)								\
		EXPECT_TRUE((f).has_failed) TH_LOG("%ld of itself", _ret);	\
	(f).refused += _ret < 0;						\
	(f).faulted += _ret == -EFAULT;						\
} while (0)

/* n steps of the request are copies from or to user space. Only they make it fail with EFAULT. */
#define EXPECT_COPIES(f, n)	EXPECT_EQ((f).faulted, n)

#define IS_SHARED_WRITE()	(variant->class == SHARED_WRITE)

/* The first mapping of its file. */
TEST_F_TIMEOUT(injected, enable, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	while (next_failure(&f)) {
		int ret;

		NEW_PLAIN();
		arm(&f);
		ret = enable(self->device, FAR, PAGES * page);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		if (ret)
			EXPECT_PLAIN();
		else
			EXPECT_OPTED_IN();
		EXPECT_EQ(uses(), self->uses + !ret);
		/* If ENABLE has failed, the next ENABLE succeeds. */
		EXPECT_EQ(enable(self->device, FAR, PAGES * page), ret ? 0 : -EBUSY);
		EXPECT_OPTED_IN();
		END();
	}
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, "ENABLE");
}

TEST_F_TIMEOUT(injected, enable_with_everything, HARNESS_SECONDS)
{
	const unsigned int flags = NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTFD;
	struct failures f = each_failure();

	while (next_failure(&f)) {
		int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), ret;
		eventfd_t count;

		NEW_PLAIN();
		arm(&f);
		ret = enable_with(self->device, FAR, PAGES * page, flags, event);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		if (ret)
			EXPECT_PLAIN();
		else
			EXPECT_OPTED_IN();
		EXPECT_EQ(eventfd_read(event, &count), ret ? -1 : 0);
		close(event);
		END();
	}
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, "ENABLE with RECORD_ERRORS and EVENTFD");
}

/* Another mapping of the file is opted in already. A failed ENABLE does not disturb it. */
TEST_F_TIMEOUT(injected, enable_another, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	while (next_failure(&f)) {
		struct side other;
		int ret;

		NEW_PLAIN();
		other = self->m;
		map_at(_metadata, &other, variant->class, FAR_AWAY, PAGES);
		ASSERT_EQ(enable(self->device, FAR_AWAY, PAGES * page), 0);
		EXPECT_STREQ("abc000", shows(&other, FAR_AWAY, PAGES));
		arm(&f);
		ret = enable(self->device, FAR, PAGES * page);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		if (ret)
			EXPECT_PLAIN();
		else
			EXPECT_OPTED_IN();

		/* The other mapping still sees the file grow. */
		ASSERT_EQ(fill(self->m.fd, 'x', 3 * page, page), 0);
		EXPECT_EQ(read_byte(FAR_AWAY + 3 * page), 'x');
		EXPECT_EQ(read_byte(FAR + 3 * page), 'x');
		EXPECT_EQ(read_byte(FAR_AWAY + 4 * page), 0);
		ASSERT_EQ(munmap(FAR_AWAY, PAGES * page), 0);
		END();
	}
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, "ENABLE of a second mapping");
}

/* One range with three VMAs of two files: ENABLE opts in all of them, or none. */
TEST_F_TIMEOUT(injected, enable_several, HARNESS_SECONDS)
{
	const size_t len = PAGES * page_size();
	struct failures f = each_failure();

	while (next_failure(&f)) {
		const char *want;
		struct side other;
		int ret;

		NEW_PLAIN();
		ASSERT_TRUE(make_file(&other, variant->backing));
		map_at(_metadata, &other, variant->class, FAR + len, PAGES);
		map_at(_metadata, &self->m, variant->class, FAR + 2 * len, PAGES);
		arm(&f);
		ret = enable(self->device, FAR, 3 * len);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		want = ret ? "abc!!!" : "abc000";
		EXPECT_STREQ(ret ? "plain" : "opted in",
			     state_of(self->device, variant->class, FAR, 3 * len));
		EXPECT_SHOWS(want);
		EXPECT_STREQ(want, shows(&other, FAR + len, PAGES));
		EXPECT_STREQ(want, shows(&self->m, FAR + 2 * len, PAGES));
		EXPECT_EQ(uses(), self->uses + (ret ? 0 : 3));
		ASSERT_EQ(munmap(FAR, 3 * len), 0);
		if (variant->backing == MEMFD)
			EXPECT_EQ(miscounted(other.fd), 0);
		close(other.fd);
		END();
	}
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, "ENABLE of three VMAs");
}

/* So many VMAs that a list of them needs more than a page of memory. */
#define MANY		600

/* Splits the mapping into one VMA for each page; false if that fails. */
static bool split_up(char *addr, int pages)
{
	for (int i = 0; i < pages; i += 2)
		if (madvise(addr + i * page, page, MADV_RANDOM))
			return false;
	return true;
}

/* ENABLE has thousands of steps here, so not every step is tried. */
TEST_F_TIMEOUT(injected, enable_many, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	if (variant->backing != MEMFD)
		SKIP(return, "does not depend on the file system");
	if (f.stride != 1 && f.offset % 3 != variant->class)
		SKIP(return, "of the three classes, one a day");
	f.stride = f.stride == 1 ? 431 : 5 * 431;
	while (next_failure(&f)) {
		int ret;

		NEW_PLAIN();
		map_at(_metadata, &self->m, variant->class, FAR, MANY);
		ASSERT_TRUE(split_up(FAR, MANY));
		arm(&f);
		ret = enable(self->device, FAR, MANY * page);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		EXPECT_STREQ(ret ? "plain" : "opted in",
			     state_of(self->device, variant->class, FAR, MANY * page));
		EXPECT_EQ(uses(), self->uses + (ret ? 0 : MANY));
		ASSERT_EQ(munmap(FAR, MANY * page), 0);
		END();
	}
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, f.stride == 431 ? "ENABLE of 600 VMAs, each 431st step" :
		   "ENABLE of 600 VMAs, each 2155th step");
}

TEST_F_TIMEOUT(injected, disable, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	while (next_failure(&f)) {
		int ret;

		NEW_OPTED_IN();
		EXPECT_SHOWS("abc000");
		if (IS_SHARED_WRITE())
			EXPECT_STREQ("www", put(at(&self->m, 3), 3));
		arm(&f);
		ret = disable(self->device, FAR, PAGES * page);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		if (ret) {
			EXPECT_STATE("opted in");
			EXPECT_SHOWS(IS_SHARED_WRITE() ? "abcwww" : "abc000");
			EXPECT_EQ(disable(self->device, FAR, PAGES * page), 0);
		}
		EXPECT_PLAIN();
		EXPECT_EQ(uses(), self->uses);
		END();
	}
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, "DISABLE");
}

TEST_F_TIMEOUT(injected, disable_many, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	if (variant->backing != MEMFD)
		SKIP(return, "does not depend on the file system");
	while (next_failure(&f)) {
		int ret;

		NEW_PLAIN();
		map_at(_metadata, &self->m, variant->class, FAR, MANY);
		ASSERT_EQ(enable(self->device, FAR, MANY * page), 0);
		ASSERT_TRUE(split_up(FAR, MANY));
		arm(&f);
		ret = disable(self->device, FAR, MANY * page);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		EXPECT_STREQ(ret ? "opted in" : "plain",
			     state_of(self->device, variant->class, FAR, MANY * page));
		EXPECT_EQ(uses(), self->uses + !!ret);
		ASSERT_EQ(munmap(FAR, MANY * page), 0);
		END();
	}
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, "DISABLE of 600 VMAs");
}

TEST_F_TIMEOUT(injected, query_and_status, HARNESS_SECONDS)
{
	struct nosigbus_query query = {};
	struct nosigbus_status before, status;
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct failures f = each_failure();
	eventfd_t count;

	while (next_failure(&f)) {
		int ret;

		arm(&f);
		ret = ioctl(self->device, NOSIGBUS_QUERY, &query) ? -errno : 0;
		disarm(&f);
		EXPECT_CLEAN(f, ret);
	}
	EXPECT_EQ(query.version, (__u32)NOSIGBUS_VERSION);
	EXPECT_COPIES(f, 1U);
	SUMMARY(f, "QUERY");

	NEW_PLAIN();
	ASSERT_EQ(enable_with(self->device, FAR, PAGES * page, NOSIGBUS_EVENTFD, event), 0);
	EXPECT_SHOWS("abc000");
	EXPECT_EQ(eventfd_read(event, &count), 0);
	ASSERT_EQ(status_of(self->device, FAR, 0, &before), 0);
	for (unsigned int how = 0; how <= NOSIGBUS_CLEAR_ERROR; how++) {
		f = every_failure();
		while (next_failure(&f)) {
			int ret;

			arm(&f);
			ret = status_of(self->device, FAR, how, &status);
			disarm(&f);
			EXPECT_CLEAN(f, ret);
			EXPECT_STATUS_OF(self->device, FAR, 0, before);
		}
		EXPECT_COPIES(f, 3U);
		SUMMARY(f, how ? "STATUS with CLEAR_ERROR" : "STATUS");
	}
	END();
	close(event);
}

/* An access to a page of the mapping. */
static const struct {
	const char *name;
	int at;
	bool write;
	/* again: the page has been read before. cold: the file is not in the page cache. */
	bool again, cold;
} accesses[] = {
	{ "reading inside", 1, false, false, false },
	{ "reading inside, from the disk", 1, false, false, true },
	{ "reading past EOF", 4, false, false, false },
	{ "writing inside", 1, true, false, false },
	{ "writing inside, from the disk", 1, true, false, true },
	{ "writing inside, having read", 1, true, true, false },
	{ "writing past EOF", 4, true, false, false },
	{ "writing past EOF, having read", 4, true, true, false },
};

/* A fault that finds no memory is retried. In the end the access finds the right page. */
TEST_F_TIMEOUT(injected, fault, HARNESS_SECONDS)
{
	for (size_t i = 0; i < ARRAY_SIZE(accesses); i++) {
		const bool writes = accesses[i].write;
		const int index = accesses[i].at;
		struct failures f = each_failure();
		char want[] = "abc000";

		if (writes)
			want[index] = index < FILE_PAGES ? 'B' : 'w';
		/* Core mm does not call the module for a write to a read-only VMA. */
		if ((accesses[i].cold && variant->backing == MEMFD) ||
		    (writes && variant->class == SHARED_READ))
			continue;
		while (next_failure(&f)) {
			struct nosigbus_status status;
			char *p;
			int ret;

			NEW_OPTED_IN();
			p = at(&self->m, index) + PUT_AT;
			if (accesses[i].again)
				ASSERT_EQ(read_byte(p), index < FILE_PAGES ? 'b' : 0);
			ASSERT_TRUE(!accesses[i].cold || make_all_cold(self->m.fd));
			arm(&f);
			ret = writes ? write_byte(p, WRITTEN) : read_byte(p);
			disarm(&f);
			EXPECT_EQ(ret, !writes && index < FILE_PAGES ? 'b' : 0);
			ASSERT_EQ(status_of(self->device, FAR, 0, &status), 0);
			EXPECT_EQ(status.shadow_pages_held, index >= FILE_PAGES && IS_SHARED_WRITE());
			EXPECT_STATE("opted in");
			EXPECT_SHOWS(want);
			END();
		}
		if (accesses[i].again)
			REMARK(f, accesses[i].name);
		else
			SUMMARY(f, accesses[i].name);
	}
}

/* The module itself maps one page of a PMD-mappable folio. */
TEST_F_TIMEOUT(injected, fault_in_a_huge_page, HARNESS_SECONDS)
{
	struct failures f = each_failure();
	int fd;

	if (variant->backing != MEMFD)
		SKIP(return, "has a file system of its own");
	need_backing(_metadata, TMPFS_HUGE);
	fd = new_file(TMPFS_HUGE);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(fill(fd, 'h', 0, HUGE_PAGE), 0);
	while (next_failure(&f)) {
		int ret;

		ASSERT_EQ(mmap(FAR, 2 * HUGE_PAGE, class_prot(variant->class),
			       class_flags(variant->class) | MAP_FIXED, fd, 0), FAR);
		ASSERT_EQ(enable(self->device, FAR, 2 * HUGE_PAGE), 0);
		ASSERT_EQ(madvise(FAR, 2 * HUGE_PAGE, MADV_HUGEPAGE), 0);
		arm(&f);
		ret = read_byte(FAR + page);
		disarm(&f);
		EXPECT_EQ(ret, 'h');
		EXPECT_EQ(read_byte(FAR + HUGE_PAGE), 0);
		EXPECT_STREQ("opted in",
			     state_of(self->device, variant->class, FAR, 2 * HUGE_PAGE));
		ASSERT_EQ(munmap(FAR, 2 * HUGE_PAGE), 0);
		ASSERT_EQ(uses(), self->uses);
	}
	SUMMARY(f, "reading inside, in a huge page");
	close(fd);
}

/* Adding a folio of the file to the page cache fails with ENOMEM, or with another error. */
TEST_F_TIMEOUT(injected, page_cache, HARNESS_SECONDS)
{
	static const int errors[] = { ENOMEM, EIO };

	if (variant->backing != EXT4)
		SKIP(return, "takes a file system that reads pages from a disk");
	for (int i = 0; i < 2; i++) {
		struct failures f = each_failure_of("__filemap_add_folio", errors[i]);
		char what[64];

		while (next_failure(&f)) {
			int ret;

			NEW_OPTED_IN();
			ASSERT_TRUE(make_all_cold(self->m.fd));
			arm(&f);
			ret = read_byte(at(&self->m, 1));
			disarm(&f);
			EXPECT_EQ(ret, 'b');
			EXPECT_OPTED_IN();
			END();
		}
		snprintf(what, sizeof(what), "reading inside, __filemap_add_folio() = -%s",
			 strerrorname_np(errors[i]));
		SUMMARY(f, what);
		ASSERT_TRUE(spare_functions());
	}
}

#define NODES		"radix_tree_node"
/* Each node is allocated in up to two tries. Only the second may wait for memory. */
#define NODE_FAILURES	6

/* The xarray of shadow pages cannot grow. */
TEST_F_TIMEOUT(injected, no_node, HARNESS_SECONDS)
{
	if (variant->backing != MEMFD || variant->class != SHARED_WRITE)
		SKIP(return, "has no shadow pages, or the same");
	ASSERT_TRUE(mark_cache(NODES, true) && mark_task("thread-self", true));
	for (int times = 1; times <= NODE_FAILURES; times++) {
		struct nosigbus_status status;
		int ret;

		NEW_OPTED_IN();
		ASSERT_TRUE(fail_marked(times));
		ret = write_byte(at(&self->m, 4) + PUT_AT, WRITTEN);
		EXPECT_EQ(number_in(DEBUGFS "failslab/times", ""), 0);
		ASSERT_TRUE(fail_marked(0));
		EXPECT_EQ(ret, 0);
		ASSERT_EQ(status_of(self->device, FAR, 0, &status), 0);
		EXPECT_EQ(status.shadow_pages, 1U);
		EXPECT_EQ(status.shadow_pages_held, 1U);
		EXPECT_SHOWS("abc0w0");
		END();
	}
	EXPECT_TRUE(mark_cache(NODES, false) && mark_task("thread-self", false));
}

/* A system call that reads from the mapping: it may fail only as it does without memory. */
TEST_F_TIMEOUT(injected, read_by_a_system_call, HARNESS_SECONDS)
{
	struct failures f = each_failure();
	char *bytes = malloc(PAGES * page_size());
	int ends[2];

	ASSERT_NE(bytes, NULL);
	ASSERT_EQ(pipe(ends), 0);
	while (next_failure(&f)) {
		ssize_t ret;

		NEW_OPTED_IN();
		arm(&f);
		ret = result(write(ends[1], FAR, PAGES * page));
		disarm(&f);
		EXPECT_TRUE(is_clean(ret)) TH_LOG("%zd", ret);
		f.refused += ret < 0;
		if (ret > 0) {
			EXPECT_EQ(read(ends[0], bytes, PAGES * page), ret);
			EXPECT_EQ(memcmp(bytes, FAR, ret), 0);
		}
		EXPECT_OPTED_IN();
		END();
	}
	SUMMARY(f, "write(2) from the mapping");
	free(bytes);
}

/*
 * Compares the mapping with the file. Past EOF it has to show zeros. If shadows is set, put() has
 * written to these pages. Returns 0, or 1 plus the index of the first page that differs.
 */
static int differs_from_file(const struct side *m, bool shadows)
{
	char *bytes = malloc(page);
	int differs = 0;
	struct stat st;

	if (!bytes || fstat(m->fd, &st))
		return -1;
	for (int i = 0; i < PAGES && !differs; i++) {
		memset(bytes, 0, page);
		if (pread(m->fd, bytes, page, i * page) < 0)
			differs = -1;
		if (shadows && (off_t)(i * page) >= st.st_size)
			bytes[PUT_AT] = WRITTEN;
		if (read_byte(at(m, i)) < 0 || memcmp(at(m, i), bytes, page))
			differs = i + 1;
	}
	free(bytes);
	return differs;
}

#define GROWN	5

/* The file grows over stand-ins. If the system call succeeds, none is left inside EOF. */
TEST_F_TIMEOUT(injected, growth, HARNESS_SECONDS)
{
	static const char * const how[] = { "ftruncate", "pwrite", "fallocate" };

	for (int i = 0; i < 3; i++) {
		struct failures f = each_failure();
		size_t len = (GROWN - FILE_PAGES) * page;
		char *bytes = malloc(len);

		ASSERT_NE(bytes, NULL);
		memset(bytes, 'x', len);
		while (next_failure(&f)) {
			char *plain;
			struct stat st;
			long ret;

			NEW_OPTED_IN();
			plain = map_file(SHARED_WRITE, self->m.fd, PAGES * page);
			ASSERT_NE(plain, MAP_FAILED);
			EXPECT_SHOWS("abc000");
			if (IS_SHARED_WRITE())
				EXPECT_STREQ("www", put(at(&self->m, FILE_PAGES), 3));
			arm(&f);
			if (i == 0)
				ret = result(ftruncate(self->m.fd, GROWN * page));
			else if (i == 1)
				ret = result(pwrite(self->m.fd, bytes, len, FILE_PAGES * page));
			else
				ret = result(fallocate(self->m.fd, 0, FILE_PAGES * page, len));
			disarm(&f);
			EXPECT_TRUE(is_clean(ret) || ret == -EINTR) TH_LOG("%s: %ld", how[i], ret);
			f.refused += ret < 0;
			ASSERT_EQ(fstat(self->m.fd, &st), 0);
			/* fsnotify does not report a failed call, even if the file has grown. */
			if (ret < 0 && st.st_size != (off_t)self->m.size)
				ASSERT_EQ(ftruncate(self->m.fd, st.st_size), 0);
			/* Stores are not reported. They show if the file's pages are mapped. */
			for (int p = FILE_PAGES; p < st.st_size / (off_t)page; p++)
				memset(plain + p * page, '0' + p, page);
			EXPECT_EQ(differs_from_file(&self->m, IS_SHARED_WRITE()), 0)
				TH_LOG("%s: step %u: %ld", how[i], f.nth, ret);
			EXPECT_STATE("opted in");
			munmap(plain, PAGES * page);
			END();
		}
		REMARK(f, how[i]);
		free(bytes);
	}
}

/* Reads all pages, and writes to them if the class allows it. What the mapping then shows. */
static const char *use(struct side *m, enum class class)
{
	shows(m, m->addr, PAGES);
	put(m->addr, PAGES);
	return class == SHARED_READ ? "abc000" : "ABCwww";
}

TEST_F_TIMEOUT(injected, fork, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	if (variant->backing != MEMFD)
		SKIP(return, "does not depend on the file system");
	while (next_failure(&f)) {
		const char *want;
		int status = 0;
		pid_t pid;

		NEW_OPTED_IN();
		want = use(&self->m, variant->class);
		arm(&f);
		/* Not fork(3): it ignores that its sigprocmask fails, and may block any signal. */
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!pid)
			_exit(strcmp(shows(&self->m, FAR, PAGES), want) ||
			      strcmp(state_of(self->device, variant->class, FAR, PAGES * page),
				     "opted in"));
		if (pid < 0)
			pid = -errno;
		disarm(&f);
		EXPECT_TRUE(pid > 0 || pid == -ENOMEM || pid == -EAGAIN) TH_LOG("%d", pid);
		f.refused += pid < 0;
		if (pid < 0)
			EXPECT_TRUE(f.has_failed) TH_LOG("%d of itself", pid);
		if (pid > 0) {
			ASSERT_EQ(waitpid(pid, &status, 0), pid);
			EXPECT_EQ(status, 0);
		}
		EXPECT_STATE("opted in");
		EXPECT_SHOWS(want);
		EXPECT_EQ(uses(), self->uses + 1);
		END();
	}
	SUMMARY(f, "fork");
}

/* What is done to part of the mapping or to all of it. */
enum what { UNMAP, PROTECT, MOVE, MOVE_PART, DROP };

static const struct {
	const char *name;
	/* What the old address and FAR_AWAY show afterwards, if nothing was written. */
	const char *then, *away;
} changes[] = {
	[UNMAP] = { "munmap of the middle", "a--000", "" },
	[PROTECT] = { "mprotect of the middle", "a--000", "" },
	[MOVE] = { "mremap", "------", "abc000" },
	[MOVE_PART] = { "mremap of the middle", "a--000", "bc" },
	[DROP] = { "madvise", "abc000", "" },
};

static long change(enum what what, struct side *m)
{
	char *middle = at(m, 1);

	switch (what) {
	case UNMAP:
		return result(munmap(middle, 2 * page));
	case PROTECT:
		return result(mprotect(middle, 2 * page, PROT_NONE));
	case MOVE:
		return mremap(m->addr, PAGES * page, PAGES * page, MREMAP_MAYMOVE | MREMAP_FIXED,
			      FAR_AWAY) == MAP_FAILED ? -errno : 0;
	case MOVE_PART:
		return mremap(middle, 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_FIXED,
			      FAR_AWAY) == MAP_FAILED ? -errno : 0;
	default:
		return result(madvise(m->addr, PAGES * page, MADV_DONTNEED));
	}
}

TEST_F_TIMEOUT(injected, change, HARNESS_SECONDS)
{
	for (enum what what = UNMAP; what <= DROP; what++) {
		const char *away = changes[what].away;
		struct failures f = each_failure();

		while (next_failure(&f)) {
			const char *then;
			long ret;

			NEW_OPTED_IN();
			EXPECT_SHOWS("abc000");
			arm(&f);
			ret = change(what, &self->m);
			disarm(&f);
			EXPECT_CLEAN(f, ret);
			/* If mremap() cannot unmap the old range, that stays mapped. */
			then = changes[what].then;
			if (ret || (what == MOVE_PART && f.has_failed && read_byte(at(&self->m, 1)) >= 0))
				then = "abc000";
			EXPECT_SHOWS(then);
			if (ret || what != MOVE)
				EXPECT_STATE("opted in");
			if (!ret && *away) {
				size_t pages = strlen(away);

				EXPECT_STREQ(away, shows(&self->m, FAR_AWAY, pages));
				EXPECT_STREQ("opted in", state_of(self->device, variant->class,
								  FAR_AWAY, pages * page));
			} else {
				EXPECT_EQ(vmas(FAR_AWAY, PAGES), 0);
			}
			EXPECT_EQ(uses(), self->uses + 1);
			ASSERT_EQ(munmap(FAR_AWAY, PAGES * page), 0);
			END();
		}
		if (what != DROP)
			SUMMARY(f, changes[what].name);
		else
			REMARK(f, changes[what].name);
	}
}

/* A reaped task has no fail-nth. The test reads it while the child is a zombie (WNOWAIT). */
TEST_F_TIMEOUT(injected, exit, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	if (variant->backing != MEMFD)
		SKIP(return, "does not depend on the file system");
	while (next_failure(&f)) {
		char path[64];
		siginfo_t info;
		int ready[2], fd;
		pid_t pid;

		ASSERT_EQ(pipe(ready), 0);
		ASSERT_TRUE(make_file(&self->m, variant->backing));
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			struct failures own = each_failure();

			own.nth = f.nth;
			self->m.addr = mmap(FAR, PAGES * page, class_prot(variant->class),
					    class_flags(variant->class) | MAP_FIXED,
					    self->m.fd, 0);
			if (enable(self->device, FAR, PAGES * page))
				_exit(1);
			use(&self->m, variant->class);
			go_on(ready[1]);
			arm(&own);
			_exit(0);
		}
		snprintf(path, sizeof(path), "/proc/%d/task/%d/fail-nth", pid, pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_GE(fd, 0);
		ASSERT_EQ(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
		look_at(&f, fd);
		close(fd);
		ASSERT_EQ(waitpid(pid, NULL, 0), pid);
		EXPECT_EQ(info.si_code, CLD_EXITED);
		EXPECT_EQ(info.si_status, 0);
		wait_for(ready[0]);
		close(ready[0]);
		close(ready[1]);
		END();
	}
	SUMMARY(f, "exit");
}

/* Reads a whole file, shorter than size. Returns its length, or minus errno. */
static long read_all(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = 0, ret;

	if (fd < 0)
		return -errno;
	do {
		ret = result(read(fd, text + len, size - 1 - len));
		if (ret > 0)
			len += ret;
	} while (ret > 0);
	close(fd);
	text[len] = 0;
	return ret < 0 ? ret : len;
}

/* So many VMAs that their list exceeds a page, and the read has to enlarge its buffer. */
#define LISTED	40

/* Reading the lists in fdinfo and debugfs either fails or returns the whole list. */
TEST_F_TIMEOUT(injected, views, HARNESS_SECONDS)
{
	static char before[1 << 16], text[1 << 16];
	char info[64];
	const char * const paths[] = { info, MAPPINGS };

	if (variant->backing != MEMFD)
		SKIP(return, "does not depend on the file system");
	snprintf(info, sizeof(info), "/proc/self/fdinfo/%d", self->device);
	NEW_PLAIN();
	map_at(_metadata, &self->m, variant->class, FAR, LISTED);
	ASSERT_TRUE(split_up(FAR, LISTED));
	ASSERT_EQ(enable(self->device, FAR, LISTED * page), 0);
	for (int i = 0; i < 2; i++) {
		struct failures f = each_failure();

		ASSERT_GT(read_all(paths[i], before, sizeof(before)), (long)page);
		while (next_failure(&f)) {
			long ret;

			arm(&f);
			ret = read_all(paths[i], text, sizeof(text));
			disarm(&f);
			EXPECT_TRUE(is_clean(ret)) TH_LOG("%s: %ld", paths[i], ret);
			f.refused += ret < 0;
			if (ret < 0)
				EXPECT_TRUE(f.has_failed);
			if (ret >= 0)
				EXPECT_STREQ(before, text);
			ASSERT_EQ(read_all(paths[i], text, sizeof(text)), (long)strlen(before));
			EXPECT_STREQ(before, text);
		}
		SUMMARY(f, i ? "debugfs" : "fdinfo");
	}
	ASSERT_EQ(munmap(FAR, LISTED * page), 0);
	END();
}

/*
 * The file system fails a fault inside EOF. Steps of the fault, and of the module's handling of
 * the error, fail as well.
 */
FIXTURE(injected_error) {
	MAPPED_FILE;
	int filler;
	long uses;
	bool broken;
	char *at;
};

FIXTURE_VARIANT(injected_error) {
	const char *name;
	enum backing backing;
	enum class class;
	/* The error that is recorded, its flags, and whether only a write meets it. */
	int error;
	unsigned int error_flags;
	bool writes;
};

#define ERROR(cause, kind, on, of, no, deduced, by_write)			\
	FIXTURE_VARIANT_ADD(injected_error, cause##_##kind) {			\
		.name = #cause " " #kind, .backing = on, .class = of, .error = no,	\
		.error_flags = deduced, .writes = by_write,			\
	}

ERROR(eio, private, DM_EXT4, PRIVATE, EIO, 0, false);
ERROR(eio, private_write, DM_EXT4, PRIVATE, EIO, 0, true);
ERROR(eio, shared_read, DM_EXT4, SHARED_READ, EIO, 0, false);
ERROR(eio, shared_write, DM_EXT4, SHARED_WRITE, EIO, 0, true);
ERROR(tmpfs, private, SMALL_TMPFS, PRIVATE, ENOSPC, 0, false);
ERROR(tmpfs, shared_read, SMALL_TMPFS, SHARED_READ, ENOSPC, 0, false);
ERROR(tmpfs, shared_write, SMALL_TMPFS, SHARED_WRITE, ENOSPC, 0, true);
/* Only the write fails. The page can be read, so the kept page is a copy of it. */
ERROR(ext4, shared_write, SMALL_EXT4, SHARED_WRITE, ENOSPC, NOSIGBUS_ERROR_DEDUCED, true);

FIXTURE_SETUP(injected_error)
{
	bool bad_disk = variant->error == EIO;

	if (geteuid())
		SKIP(return, "it takes root to inject failures");
	if (!can_inject())
		SKIP(return, "this kernel does not inject failures");
	ASSERT_TRUE(set_up_injection()) TH_LOG("%s", strerror(errno));
	set_up_file(_metadata, &self->file, variant->backing, 0, PAGES);
	page = self->page;
	self->uses = uses();
	self->at = FAR + page + PUT_AT;
	ASSERT_EQ(ftruncate(self->fd, self->len), 0);
	if (bad_disk) {
		ASSERT_EQ(fill(self->fd, 'a', 0, PAGES * page), 0);
		ASSERT_TRUE(make_all_cold(self->fd));
		self->broken = true;
		ASSERT_EQ(disk_fails(true), 0);
	} else {
		self->filler = new_file(variant->backing);
		ASSERT_GE(self->filler, 0);
		ASSERT_EQ(fill_up(self->filler), -ENOSPC);
	}
}

FIXTURE_TEARDOWN_PARENT(injected_error)
{
	EXPECT_TRUE(fail_marked(0));
	EXPECT_TRUE(leaks_are_seen());
	if (self->broken)
		EXPECT_EQ(disk_fails(false), 0);
}

/* A mapping of the file, opted in with these flags. */
#define MAP_FAILING(flags) do {							\
	ASSERT_EQ(mmap(FAR, PAGES * page, class_prot(variant->class),		\
		       class_flags(variant->class) | MAP_FIXED, self->fd, 0), FAR);	\
	ASSERT_EQ(enable_with(self->device, FAR, PAGES * page, flags, 0), 0);	\
} while (0)

#define UNMAP_FAILING() do {							\
	ASSERT_EQ(munmap(FAR, PAGES * page), 0);				\
	ASSERT_EQ(uses(), self->uses);						\
} while (0)

/* The access that meets the error: 0, or minus the signal that it has raised. */
#define MEET() (variant->writes ? write_byte(self->at, WRITTEN) : read_byte(self->at))
#define EXPECT_STAND_IN() \
	EXPECT_EQ(read_byte(self->at), variant->writes ? WRITTEN : 0)

/* STATUS returns the error, and the stand-in is still there. */
#define EXPECT_RECORDED(f) do {							\
	struct nosigbus_status _status;						\
										\
	ASSERT_EQ(status_of(self->device, FAR, 0, &_status), 0);		\
	EXPECT_EQ(_status.error, (__u32)variant->error) TH_LOG("step %u", (f).nth); \
	EXPECT_EQ(_status.error_flags, variant->error_flags);			\
	EXPECT_EQ(_status.error_offset, page);					\
	EXPECT_EQ(_status.shadow_pages_held, variant->class == SHARED_WRITE);	\
	/* A private write copies the stand-in. Without memory for that it faults again. */	\
	EXPECT_GE(_status.errors, 1U);						\
	if (variant->class != PRIVATE || !variant->writes)			\
		EXPECT_EQ(_status.errors, 1U);					\
	EXPECT_STAND_IN();							\
} while (0)

TEST_F_TIMEOUT(injected_error, recorded, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	while (next_failure(&f)) {
		int ret;

		MAP_FAILING(NOSIGBUS_RECORD_ERRORS);
		arm(&f);
		ret = MEET();
		disarm(&f);
		EXPECT_EQ(ret, 0) TH_LOG("step %u", f.nth);
		EXPECT_RECORDED(f);
		EXPECT_STREQ("opted in",
			     state_of(self->device, variant->class, FAR, PAGES * page));
		UNMAP_FAILING();
	}
	SUMMARY(f, "error that is recorded");
}

TEST_F_TIMEOUT(injected_error, no_node, HARNESS_SECONDS)
{
	struct failures none = {};

	if (variant->class != SHARED_WRITE)
		SKIP(return, "keeps no pages");
	ASSERT_TRUE(mark_cache(NODES, true) && mark_task("thread-self", true));
	for (int times = 1; times <= NODE_FAILURES; times++) {
		int ret;

		MAP_FAILING(NOSIGBUS_RECORD_ERRORS);
		ASSERT_TRUE(fail_marked(times));
		ret = MEET();
		EXPECT_EQ(number_in(DEBUGFS "failslab/times", ""), 0);
		ASSERT_TRUE(fail_marked(0));
		EXPECT_EQ(ret, 0);
		EXPECT_RECORDED(none);
		UNMAP_FAILING();
	}
	EXPECT_TRUE(mark_cache(NODES, false) && mark_task("thread-self", false));
}

/* Without NOSIGBUS_RECORD_ERRORS the access raises SIGBUS, also if an allocation fails. */
TEST_F_TIMEOUT(injected_error, not_recorded, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	while (next_failure(&f)) {
		struct nosigbus_status status;
		int ret;

		MAP_FAILING(0);
		arm(&f);
		ret = MEET();
		disarm(&f);
		/* If the kernel cannot write the frame for SIGBUS, it sends SIGSEGV instead. */
		if (ret == -SIGSEGV && f.has_failed && last_signal.si_code == SI_KERNEL)
			f.refused++;
		else
			EXPECT_EQ(ret, -SIGBUS) TH_LOG("step %u", f.nth);
		ASSERT_EQ(status_of(self->device, FAR, 0, &status), 0);
		EXPECT_EQ(stand_ins(&status) + status.shadow_pages_held + status.errors, 0U);
		UNMAP_FAILING();
	}
	SUMMARY(f, "error that raises SIGBUS");
}

TEST_F_TIMEOUT(injected_error, cleared, HARNESS_SECONDS)
{
	struct failures f = every_failure();

	while (next_failure(&f)) {
		struct nosigbus_status status;
		int ret;

		MAP_FAILING(NOSIGBUS_RECORD_ERRORS);
		ASSERT_EQ(MEET(), 0);
		arm(&f);
		ret = status_of(self->device, FAR, NOSIGBUS_CLEAR_ERROR, &status);
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		if (ret) {
			EXPECT_RECORDED(f);
		} else {
			EXPECT_EQ(status.error, (__u32)variant->error);
			ASSERT_EQ(status_of(self->device, FAR, 0, &status), 0);
			EXPECT_EQ(status.error, 0U);
			EXPECT_EQ(status.shadow_pages_held, 0U);
		}
		UNMAP_FAILING();
	}
	EXPECT_COPIES(f, 3U);
	SUMMARY(f, "STATUS that clears an error");
}

/* The device, and loading and unloading the module. */
FIXTURE(injected_module) {
	int ko;
};

FIXTURE_SETUP(injected_module)
{
	const char *path = getenv("NOSIGBUS_KO");

	if (geteuid())
		SKIP(return, "it takes root to inject failures");
	if (!can_inject())
		SKIP(return, "this kernel does not inject failures");
	ASSERT_TRUE(set_up_injection()) TH_LOG("%s", strerror(errno));
	page = page_size();
	catch_signals();
	self->ko = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ASSERT_GE(self->ko, 0) TH_LOG("NOSIGBUS_KO: %s", strerror(errno));
	/* Keep KUnit from running the module's tests at insmod, where they would meet failures. */
	write_to("/sys/module/kunit/parameters/filter_glob", "none");
}

/* Runs in the parent process, even if the test has died. */
FIXTURE_TEARDOWN_PARENT(injected_module)
{
	EXPECT_TRUE(leaks_are_seen());
	if (access(MODULE, F_OK))
		EXPECT_EQ(load(), 0);
	write_to("/sys/module/kunit/parameters/filter_glob", "*");
}

TEST_F_TIMEOUT(injected_module, open_and_close, HARNESS_SECONDS)
{
	struct failures opening = each_failure(), closing = each_failure();
	long before = uses();
	int device;

	while (next_failure(&opening)) {
		arm(&opening);
		device = open_device();
		if (device < 0)
			device = -errno;
		disarm(&opening);
		EXPECT_TRUE(is_clean(device)) TH_LOG("%d", device);
		opening.refused += device < 0;
		EXPECT_EQ(uses(), before + (device >= 0));
		if (device >= 0)
			EXPECT_EQ(close(device), 0);
		EXPECT_EQ(uses(), before);
	}
	EXPECT_FAILURES(opening, "open of the device");

	while (next_failure(&closing)) {
		device = open_device();
		ASSERT_GE(device, 0);
		arm(&closing);
		EXPECT_EQ(close(device), 0);
		disarm(&closing);
		EXPECT_EQ(uses(), before);
	}
	TELL_FAILURES(closing, "close of the device");
}

/* Whether the module is loaded and works. The list in debugfs is optional. */
static bool is_there(void)
{
	struct nosigbus_query query;
	int device = open_device();
	bool works = device >= 0 && !ioctl(device, NOSIGBUS_QUERY, &query);

	close(device);
	return works && !uses();
}

static bool is_gone(void)
{
	return access("/dev/nosigbus", F_OK) && access(MODULE, F_OK) &&
		access("/sys/kernel/debug/nosigbus", F_OK) && access("/sys/class/misc/nosigbus", F_OK);
}

/*
 * How many steps of insmod fail, from the last one backwards: those of the module's own init
 * function, and some before it. The kernel's first steps are left out. If one of them fails, the
 * kernel warns, for any module (kernel/jump_label.c). The number of steps varies between loads.
 */
#define INIT_STEPS	140

TEST_F_TIMEOUT(injected_module, load, HARNESS_SECONDS)
{
	struct failures f = each_failure();
	const unsigned int wanted = INIT_STEPS / f.stride;
	unsigned int without_list = 0, steps;

	/* Load it once before counting steps: the file is in the page cache then. */
	ASSERT_EQ(unload(), 0);
	ASSERT_EQ(load_from(self->ko), 0);
	ASSERT_EQ(unload(), 0);
	ASSERT_TRUE(is_gone());
	f.nth = ENDLESS - 1;
	arm(&f);
	EXPECT_EQ(load_from(self->ko), 0);
	steps = steps_taken(&f);
	ASSERT_EQ(unload(), 0);

	for (f.nth = steps - f.offset; f.nth > f.stride && f.injected < wanted; f.nth -= f.stride) {
		int ret;

		arm(&f);
		ret = load_from(self->ko);
		disarm(&f);
		f.refused += ret < 0;
		if (ret) {
			ASSERT_TRUE(f.has_failed) TH_LOG("%d of itself", ret);
			ASSERT_TRUE(is_gone()) TH_LOG("step %u: %d", f.nth, ret);
		} else {
			ASSERT_TRUE(is_there()) TH_LOG("step %u", f.nth);
			without_list += access(MAPPINGS, F_OK) != 0;
			ASSERT_EQ(unload(), 0);
			ASSERT_TRUE(is_gone());
		}
	}
	EXPECT_FAILURES(f, "loading the module");
	EXPECT_EQ(f.injected, wanted);
	/* With a longer stride, the steps that create the list may be left out. */
	if (f.stride == 1)
		EXPECT_GT(without_list, 0U);
	TH_LOG("steps %u to %u, loaded %u times without the list in debugfs", f.nth + 1, steps,
	       without_list);
	ASSERT_EQ(load_from(self->ko), 0);
	EXPECT_TRUE(is_there());
	EXPECT_EQ(access(MAPPINGS, F_OK), 0);
}

TEST_F_TIMEOUT(injected_module, unload, HARNESS_SECONDS)
{
	struct failures f = each_failure();

	while (next_failure(&f)) {
		int ret;

		arm(&f);
		ret = unload();
		disarm(&f);
		EXPECT_CLEAN(f, ret);
		if (ret) {
			ASSERT_TRUE(is_there());
		} else {
			ASSERT_TRUE(is_gone());
			ASSERT_EQ(load_from(self->ko), 0);
		}
	}
	TELL_FAILURES(f, "unloading the module");
	EXPECT_TRUE(is_there());
}

TEST_HARNESS_MAIN
