// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lists for debugging a compositor: fdinfo of the device, and the list of all opted-in mappings
 * in debugfs, which takes root.
 */

#include "mapped_file.h"
#include "status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>

#define MAPPINGS	"/sys/kernel/debug/nosigbus/mappings"
#define PAGES		4

FIXTURE(views) {
	MAPPED_FILE;
};

FIXTURE_SETUP(views)
{
	set_up_file(_metadata, &self->file, MEMFD, 0, PAGES);
	set_up_mapping(_metadata, &self->file, SHARED_WRITE);
}

FIXTURE_TEARDOWN(views)
{
	tear_down(&self->file);
}

/* All of a file, to be freed; NULL if it cannot be read. */
static char *contents(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!file)
		return NULL;
	/* No byte is 0. */
	if (getdelim(&text, &size, 0, file) < 0) {
		free(text);
		text = strdup("");
	}
	fclose(file);
	return text;
}

static char *info_of(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return contents(path);
}

/* How many lines contain this. Copies the last of them to line, if line is not NULL. */
static int lines_with(const char *text, const char *what, char *line, size_t size)
{
	int lines = 0;

	while (*text) {
		size_t len = strcspn(text, "\n");
		char copy[1024];

		snprintf(copy, sizeof(copy), "%.*s", (int)len, text);
		if (strstr(copy, what)) {
			lines++;
			if (line)
				snprintf(line, size, "%s", copy);
		}
		text += len + (text[len] == '\n');
	}
	return lines;
}

/* The expected line, without the process, for a mapping of the file from its start. */
static void expected_line(char *text, size_t size, int device, int fd, const char *addr,
			  size_t len, const char *class)
{
	struct nosigbus_status s;
	int failed = status_of(device, addr, 0, &s);
	const struct { const char *name; unsigned long long value; } counts[] = {
		{ "zero_pages", s.zero_pages }, { "private_pages", s.private_pages },
		{ "shadow_pages", s.shadow_pages }, { "shadow_pages_held", s.shadow_pages_held },
		{ "given_back", s.given_back }, { "errors", s.errors }, { "error", s.error },
		{ "error_offset", s.error_offset },
	};
	struct stat st;

	if (failed || fstat(fd, &st)) {
		snprintf(text, size, "no status: %d", failed);
		return;
	}
	len = snprintf(text, size, "class=%s file=%02x:%02x:%llu offset=0 length=%zu flags=0x%x",
		       class, major(st.st_dev), minor(st.st_dev), (unsigned long long)st.st_ino,
		       len, s.flags);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		len += snprintf(text + len, size - len, " %s=%llu", counts[i].name,
				counts[i].value);
	snprintf(text + len, size - len, " error_flags=0x%x", s.error_flags);
}

TEST_F(views, fdinfo_lists_what_was_opted_in_through_it)
{
	const struct { enum class class; const char *name; } classes[] = {
		{ PRIVATE, "private" }, { SHARED_READ, "shared-read" },
		{ SHARED_WRITE, "shared-write" },
	};
	char line[1024], expected[1024], *text;
	int other = open_device();

	ASSERT_GE(other, 0);
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		char *addr = map_file(classes[i].class, self->fd, self->len);

		ASSERT_NE(addr, MAP_FAILED);
		text = info_of(self->device);
		EXPECT_EQ(lines_with(text, "nosigbus:", NULL, 0), 0);
		free(text);

		ASSERT_EQ(enable(self->device, addr, self->len), 0);
		EXPECT_EQ(read_byte(addr), 0);
		if (classes[i].class != SHARED_READ)
			EXPECT_EQ(write_byte(addr + self->page, 1), 0);
		expected_line(expected, sizeof(expected), self->device, self->fd, addr, self->len,
			      classes[i].name);
		text = info_of(self->device);
		EXPECT_EQ(lines_with(text, "nosigbus:\t", line, sizeof(line)), 1);
		EXPECT_NE(strstr(line, expected), NULL) TH_LOG("%s\n# %s", line, expected);
		snprintf(expected, sizeof(expected), "nosigbus:\tpid=%d class=", getpid());
		EXPECT_EQ(strncmp(line, expected, strlen(expected)), 0) TH_LOG("%s", line);
		free(text);
		text = info_of(other);
		EXPECT_EQ(lines_with(text, "nosigbus:", NULL, 0), 0);
		free(text);

		/* The line has to go after DISABLE, and after munmap() alone. */
		if (i & 1)
			EXPECT_EQ(disable(self->device, addr, self->len), 0);
		munmap(addr, self->len);
	}
	text = info_of(self->device);
	EXPECT_EQ(lines_with(text, "nosigbus:", NULL, 0), 0);
	free(text);
	close(other);
}

/* A mapping stays in the list while a part of it is mapped. */
TEST_F(views, fdinfo_follows_the_mapping)
{
	char expected[64], *text;

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	ASSERT_EQ(munmap(self->addr + self->page, self->page), 0);
	ASSERT_EQ(munmap(self->addr, self->page), 0);
	/* The length is that at the time of opting in. */
	snprintf(expected, sizeof(expected), " offset=0 length=%zu ", self->len);
	text = info_of(self->device);
	EXPECT_EQ(lines_with(text, expected, NULL, 0), 1);
	free(text);
	ASSERT_EQ(munmap(self->addr + 2 * self->page, 2 * self->page), 0);
	text = info_of(self->device);
	EXPECT_EQ(lines_with(text, expected, NULL, 0), 0);
	free(text);
}

/*
 * fdinfo lists the mappings in the order of opting in, many more than fit in a page of text. After
 * LISTED mappings it only says how many more there are.
 */
TEST_F_TIMEOUT(views, fdinfo_lists_many, 120)
{
	enum { LISTED = 4096, MORE = 3, MANY = LISTED + MORE };
	static char *addrs[MANY];
	char expected[64], *text, *at;

	for (int i = 0; i < MANY; i++) {
		addrs[i] = mmap(NULL, self->page, PROT_READ, MAP_PRIVATE, self->fd,
				(off_t)i * self->page);
		ASSERT_NE(addrs[i], MAP_FAILED);
		ASSERT_EQ(enable(self->device, addrs[i], self->page), 0);
	}
	text = info_of(self->device);
	EXPECT_EQ(lines_with(text, "nosigbus:", NULL, 0), LISTED);
	snprintf(expected, sizeof(expected), "nosigbus_more:\t%d\n", MORE);
	EXPECT_NE(strstr(text, expected), NULL);
	at = text;
	for (size_t i = 0; i < LISTED; i++) {
		snprintf(expected, sizeof(expected), " offset=%zu length=%zu ", i * self->page,
			 self->page);
		at = strstr(at, expected);
		ASSERT_NE(at, NULL) TH_LOG("%zu", i);
	}
	free(text);

	/* When some mappings are unmapped, the next ones get into the list. */
	for (int i = 0; i < MORE; i++)
		munmap(addrs[i], self->page);
	text = info_of(self->device);
	EXPECT_EQ(lines_with(text, "nosigbus:", NULL, 0), LISTED);
	EXPECT_EQ(strstr(text, "nosigbus_more"), NULL);
	free(text);
	for (int i = MORE; i < MANY; i++)
		munmap(addrs[i], self->page);
}

static int is_denied_to_users(void *arg)
{
	(void)arg;
	if (!geteuid() && setuid(65534))
		return 1;
	return open(MAPPINGS, O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES;
}

/* fdinfo has no addresses: the device may have been passed on to another process. */
TEST_F(views, fdinfo_tells_no_addresses)
{
	char *text;

	ASSERT_EQ(enable(self->device, self->addr, self->len), 0);
	text = info_of(self->device);
	EXPECT_EQ(lines_with(text, "nosigbus:", NULL, 0), 1);
	EXPECT_EQ(strstr(text, "range="), NULL);
	free(text);
}

TEST_F(views, debugfs_is_for_root)
{
	EXPECT_EQ(in_child(is_denied_to_users, NULL), 0);
}

FIXTURE(debugfs) {
	MAPPED_FILE;
};

FIXTURE_SETUP(debugfs)
{
	if (geteuid())
		SKIP(return, "debugfs is for root");
	set_up_file(_metadata, &self->file, MEMFD, 0, PAGES);
}

FIXTURE_TEARDOWN(debugfs)
{
	tear_down(&self->file);
}

TEST_F(debugfs, lists_all_of_all_processes)
{
	char line[1024], expected[1024], *addr = map_file(SHARED_WRITE, self->fd, self->len), *text;

	ASSERT_NE(addr, MAP_FAILED);
	ASSERT_EQ(prctl(PR_SET_NAME, "a \"b\"\nc=d"), 0);
	ASSERT_EQ(enable(self->device, addr, self->len), 0);
	EXPECT_EQ(write_byte(addr, 1), 0);
	expected_line(expected, sizeof(expected), self->device, self->fd, addr, self->len,
		      "shared-write");
	close(self->device);
	self->device = -1;

	text = contents(MAPPINGS);
	ASSERT_NE(text, NULL) TH_LOG("%s: %s", MAPPINGS, strerror(errno));
	EXPECT_EQ(lines_with(text, expected, line, sizeof(line)), 1) TH_LOG("%s", text);
	/* The name that a process gives itself cannot forge a line or a field. */
	snprintf(expected, sizeof(expected),
		 "pid=%d comm=\"a \\\"b\\\"\\nc=d\" range=%lx-%lx class=", getpid(),
		 (unsigned long)addr, (unsigned long)addr + self->len);
	EXPECT_EQ(strncmp(line, expected, strlen(expected)), 0) TH_LOG("%s", line);
	free(text);

	munmap(addr, self->len);
	text = contents(MAPPINGS);
	ASSERT_NE(text, NULL);
	EXPECT_EQ(lines_with(text, expected, NULL, 0), 0);
	free(text);
}

static atomic_bool stop;

static void *opt_in_and_out(void *arg)
{
	int *fds = arg;
	size_t len = PAGES * page_size();

	while (!atomic_load(&stop)) {
		char *addr = map_file(SHARED_WRITE, fds[1], len);

		if (addr == MAP_FAILED || enable(fds[0], addr, len) || write_byte(addr, 1))
			return "could not opt in";
		munmap(addr, len);
	}
	return NULL;
}

/* Mappings come and go during the read. Each line is still complete. */
TEST_F_TIMEOUT(debugfs, reading_races_with_all_else, 120)
{
	int fds[] = { self->device, self->fd };
	pthread_t threads[4];
	int lines = 0;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, opt_in_and_out, fds), 0);
	for (int i = 0; i < 500; i++) {
		char *text = contents(MAPPINGS), *info = info_of(self->device);

		ASSERT_NE(text, NULL);
		EXPECT_EQ(lines_with(text, "", NULL, 0), lines_with(text, "error_flags=", NULL, 0));
		lines += lines_with(text, "pid=", NULL, 0);
		lines += lines_with(info, "nosigbus:\tpid=", NULL, 0);
		free(text);
		free(info);
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *failed;

		ASSERT_EQ(pthread_join(threads[i], &failed), 0);
		EXPECT_EQ(failed, NULL) TH_LOG("%s", (char *)failed);
	}
	/* The reads have found some mappings. */
	EXPECT_GE(lines, 100);
}

TEST_HARNESS_MAIN
