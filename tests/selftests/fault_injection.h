/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Failures that the kernel injects (its Documentation/fault-injection): of memory
 * allocations, of copies to and from user space, and of functions that may be told to fail.
 */
#ifndef _NOSIGBUS_FAULT_INJECTION_H
#define _NOSIGBUS_FAULT_INJECTION_H

#include "sys_files.h"

#include <sys/rseq.h>
#include <sys/syscall.h>

#define DEBUGFS		"/sys/kernel/debug/"

/* No operation here takes so many steps that can fail. */
#define ENDLESS		20000
/* One that is done again may take a step more, or less. */
#define LAST_ROUNDS	3

/*
 * An operation that is done again and again: with its first step failing, then with its
 * second, and so on, until it comes through without any having failed, some times in a
 * row.
 */
struct failures {
	/* The function that fails; NULL: all of those that the thread meets, by fail-nth. */
	const char *function;
	int fd;
	bool ready;
	/* The step that is to fail, how far it is from one to the next, and whether it has. */
	unsigned int nth, stride, offset;
	bool has_failed;
	/* Rounds since one has. */
	unsigned int idle;
	/* How often one has, how often the operation then said so, and how often with EFAULT. */
	unsigned int injected, refused, faulted;
};

static inline bool can_inject(void)
{
	return !access("/proc/thread-self/fail-nth", W_OK) && !access(DEBUGFS "failslab", F_OK) &&
		!access(DEBUGFS "fail_page_alloc", F_OK) &&
		!access(DEBUGFS "fail_usercopy", F_OK) && !access(DEBUGFS "fail_function", F_OK);
}

/*
 * A thread that has moved to another CPU is told so when it returns to user space
 * (kernel/rseq.c), and ended by SIGSEGV if there is no memory for that, as after fork(),
 * when the page has to be copied. Have the calling thread not be told.
 */
static inline bool leave_rseq(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	/* glibc may have registered more than it says that it uses. */
	for (unsigned int size = __rseq_size; size && size <= 1024; size++)
		if (!syscall(SYS_rseq, area, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
			return true;
	return !__rseq_size;
}

/*
 * Every allocation may fail, those that can wait for memory as well. Where each of them
 * is, INJECTED_VERBOSE=2 has the kernel log say.
 */
static inline bool set_up_injection(void)
{
	static const char * const kinds[] = {
		"failslab", "fail_page_alloc", "fail_usercopy", "fail_function",
		"fail_make_request", "fail_mempool_alloc", "fail_mempool_alloc_bulk",
	};
	const char *verbose = getenv("INJECTED_VERBOSE") ?: "0";
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(path, sizeof(path), DEBUGFS "%s/verbose_ratelimit_interval_ms", kinds[i]);
		write_to(path, "0");
		snprintf(path, sizeof(path), DEBUGFS "%s/verbose", kinds[i]);
		/* A kernel may lack some. */
		if (!access(path, F_OK) && !write_to(path, verbose))
			return false;
	}
	return leave_rseq() && write_to(DEBUGFS "failslab/ignore-gfp-wait", "N") &&
		write_to(DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N") &&
		write_to(DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N") &&
		write_to(DEBUGFS "fail_page_alloc/min-order", "0");
}

/*
 * As FAILURES_STRIDE (1) says, each so many-th step only, after the first one, and as
 * FAILURES_OFFSET (0) says, which of these: tests/test.sh takes another one each day.
 */
static inline struct failures failures_by_stride(void)
{
	unsigned int stride = number_of("FAILURES_STRIDE", 1) ?: 1;

	return (struct failures) {
		.fd = -1, .stride = stride, .offset = number_of("FAILURES_OFFSET", 0) % stride,
	};
}

/* Of the calling thread. */
static inline struct failures each_failure(void)
{
	struct failures f = failures_by_stride();

	f.fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	f.ready = f.fd >= 0;
	return f;
}

/* The same, of an operation with so few steps that none is left out. */
static inline struct failures every_failure(void)
{
	struct failures f = each_failure();

	f.stride = 1;
	f.offset = 0;
	return f;
}

/* No function fails any more. */
static inline bool spare_functions(void)
{
	return write_to(DEBUGFS "fail_function/inject", "\n") &&
		write_to(DEBUGFS "fail_function/probability", "0");
}

/* Of calls of a function, by whoever, which then return minus error. */
static inline struct failures each_failure_of(const char *function, int error)
{
	struct failures f = failures_by_stride();
	char path[PATH_MAX], value[32];

	f.function = function;
	snprintf(path, sizeof(path), DEBUGFS "fail_function/%s/retval", function);
	/* As the kernel has it, whose words are longer than those of a 32-bit program. */
	snprintf(value, sizeof(value), "%#llx", (unsigned long long)-(long long)error);
	f.ready = write_to(DEBUGFS "fail_function/times", "0") &&
		write_to(DEBUGFS "fail_function/probability", "100") &&
		write_to(DEBUGFS "fail_function/inject", function) && write_to(path, value);
	return f;
}

/* Whether there is one more to be tried. */
static inline bool next_failure(struct failures *f)
{
	f->idle = f->has_failed ? 0 : f->idle + !!f->nth;
	if (!f->ready || f->nth >= ENDLESS || f->idle == LAST_ROUNDS) {
		close(f->fd);
		return false;
	}
	f->nth += !f->nth ? 1 : f->nth == 1 ? f->offset + 1 : f->stride;
	f->has_failed = false;
	return true;
}

/* From here on to disarm() the nth step fails. */
static inline void arm(struct failures *f)
{
	char text[16];
	bool armed;

	snprintf(text, sizeof(text), "%u", f->nth);
	/* Where that counts no calls but their sizes, those of functions are 1. */
	if (f->function)
		armed = write_to(DEBUGFS "fail_function/space", text) &&
			write_to(DEBUGFS "fail_function/times", "1");
	else
		armed = pwrite(f->fd, text, strlen(text), 0) == (ssize_t)strlen(text);
	if (!armed)
		abort();
}

static inline void disarm(struct failures *f)
{
	char left[16] = "";
	ssize_t len;

	if (f->function) {
		f->has_failed = !number_in(DEBUGFS "fail_function/times", "");
		if (!write_to(DEBUGFS "fail_function/times", "0"))
			abort();
	} else {
		/* What has not failed may do so now, here and below. */
		len = pread(f->fd, left, sizeof(left) - 1, 0);
		f->has_failed = len > 0 && !atoi(left);
		while (pwrite(f->fd, "0", 1, 0) != 1)
			;
	}
	f->injected += f->has_failed;
}

/* How many steps an operation has that is done now, when it has been armed so late that none fails. */
static inline unsigned int steps_taken(struct failures *f)
{
	char left[16] = "";

	if (pread(f->fd, left, sizeof(left) - 1, 0) <= 0)
		abort();
	disarm(f);
	return f->nth - atoi(left);
}

/* What is left of a task that has been armed and has ended: whether its step has failed. */
static inline void look_at(struct failures *f, int fail_nth)
{
	char left[16] = "";

	f->has_failed = pread(fail_nth, left, sizeof(left) - 1, 0) > 0 && !atoi(left);
	f->injected += f->has_failed;
}

/* At the end: says how many there were. */
#define TELL_FAILURES(f, what) do {						\
	EXPECT_TRUE((f).ready);							\
	EXPECT_LT((f).nth, ENDLESS);						\
	TH_LOG("%s: %u failures injected, %u of them refused with an error",	\
	       what, (f).injected, (f).refused);				\
} while (0)

/* The same, if there have to be some. */
#define EXPECT_FAILURES(f, what) do {						\
	EXPECT_GT((f).injected, 0U);						\
	TELL_FAILURES(f, what);							\
} while (0)

/*
 * From now on allocations from the caches that are marked (mark_cache()) by the tasks that
 * are (mark_task()) fail: so many times, always for -1, or no more for 0. This is for the
 * second of two that only together make a difference.
 */
static inline bool fail_marked(int times)
{
	char text[16];
	bool done = true;

	snprintf(text, sizeof(text), "%d", times ?: 1);
	/* Not for a moment without a filter: all tasks would meet failures. */
	if (!times)
		done &= write_to(DEBUGFS "failslab/probability", "0");
	done &= write_to(DEBUGFS "failslab/cache-filter", times ? "Y" : "N");
	done &= write_to(DEBUGFS "failslab/task-filter", times ? "Y" : "N");
	done &= write_to(DEBUGFS "failslab/times", text);
	if (times)
		done &= write_to(DEBUGFS "failslab/probability", "100");
	return done;
}

static inline bool mark_cache(const char *cache, bool mark)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/failslab", cache);
	return write_to(path, mark ? "1" : "0");
}

static inline bool mark_task(const char *pid, bool mark)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%s/make-it-fail", pid);
	return write_to(path, mark ? "1" : "0");
}

/*
 * kmemleak remembers each allocation, for which it allocates itself: it gives up when
 * it has no memory left for that, which would hide whatever is lost.
 */
static inline bool leaks_are_seen(void)
{
	const char *kmemleak = DEBUGFS "kmemleak";

	/* There is nothing at that address, and it says so if it is at work. */
	return access(kmemleak, F_OK) || write_to(kmemleak, "dump=0x1") || errno != EPERM;
}

#endif /* _NOSIGBUS_FAULT_INJECTION_H */
