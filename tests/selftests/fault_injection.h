/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fault injection (the kernel's Documentation/fault-injection). It makes memory allocations,
 * copies to and from user space, and calls of some kernel functions fail.
 */
#ifndef _NOSIGBUS_FAULT_INJECTION_H
#define _NOSIGBUS_FAULT_INJECTION_H

#include "sys_files.h"

#include <sys/rseq.h>
#include <sys/syscall.h>

#define DEBUGFS		"/sys/kernel/debug/"

/* A "step" is a point at which an operation can fail. No operation here has so many steps. */
#define ENDLESS		20000
/* An operation that is repeated may take a step more or less than before. */
#define LAST_ROUNDS	3

/*
 * An operation that is repeated in rounds. In the first round its first step fails, in the next
 * round its second, and so on. It ends after LAST_ROUNDS rounds in a row without a failed step.
 */
struct failures {
	/* The function whose calls fail. NULL: fail-nth, which counts all steps of one thread. */
	const char *function;
	int fd;
	bool ready;
	/*
	 * nth: the step that fails in this round. stride: the distance to that of the next round.
	 * offset: how many steps to skip after the first. has_failed: step nth has failed.
	 */
	unsigned int nth, stride, offset;
	bool has_failed;
	/* The number of rounds since a step last failed. */
	unsigned int idle;
	/* Steps that failed; operations that then returned an error; those that returned EFAULT. */
	unsigned int injected, refused, faulted;
};

static inline bool can_inject(void)
{
	return !access("/proc/thread-self/fail-nth", W_OK) && !access(DEBUGFS "failslab", F_OK) &&
		!access(DEBUGFS "fail_page_alloc", F_OK) &&
		!access(DEBUGFS "fail_usercopy", F_OK) && !access(DEBUGFS "fail_function", F_OK);
}

/*
 * Unregisters the calling thread's rseq area. When a thread has moved to another CPU, the kernel
 * writes the CPU number to that area on return to user space (kernel/rseq.c). After fork() the
 * write needs a copy of the page. If there is no memory for it, the kernel sends SIGSEGV.
 */
static inline bool leave_rseq(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	/* glibc may have registered more bytes than __rseq_size, and the length must match. */
	for (unsigned int size = __rseq_size; size && size <= 1024; size++)
		if (!syscall(SYS_rseq, area, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
			return true;
	return !__rseq_size;
}

/*
 * Lets every allocation fail, including those that may wait for memory. With INJECTED_VERBOSE=2
 * the kernel logs a stack trace of each failure.
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
 * The first step fails, and after it only each FAILURES_STRIDE-th (default 1: all of them).
 * FAILURES_OFFSET (default 0) chooses which of them; tests/test.sh passes another offset each day.
 */
static inline struct failures failures_by_stride(void)
{
	unsigned int stride = number_of("FAILURES_STRIDE", 1) ?: 1;

	return (struct failures) {
		.fd = -1, .stride = stride, .offset = number_of("FAILURES_OFFSET", 0) % stride,
	};
}

/* The steps of the calling thread, by stride. */
static inline struct failures each_failure(void)
{
	struct failures f = failures_by_stride();

	f.fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	f.ready = f.fd >= 0;
	return f;
}

/* The same for an operation with few steps: none of them is left out. */
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

/* The calls of a kernel function by any task, by stride. A call that fails returns minus error. */
static inline struct failures each_failure_of(const char *function, int error)
{
	struct failures f = failures_by_stride();
	char path[PATH_MAX], value[32];

	f.function = function;
	snprintf(path, sizeof(path), DEBUGFS "fail_function/%s/retval", function);
	/* 64 bits, as in the kernel, also if this is a 32-bit program. */
	snprintf(value, sizeof(value), "%#llx", (unsigned long long)-(long long)error);
	f.ready = write_to(DEBUGFS "fail_function/times", "0") &&
		write_to(DEBUGFS "fail_function/probability", "100") &&
		write_to(DEBUGFS "fail_function/inject", function) && write_to(path, value);
	return f;
}

/* Starts the next round; false if there is none. */
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

/* Makes the nth step between here and disarm() fail. */
static inline void arm(struct failures *f)
{
	char text[16];
	bool armed;

	snprintf(text, sizeof(text), "%u", f->nth);
	/* "space" is a budget from which each call takes its size. A function call has size 1. */
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
		/* If step nth has not been reached, this pread() or a pwrite() may reach it. */
		len = pread(f->fd, left, sizeof(left) - 1, 0);
		f->has_failed = len > 0 && !atoi(left);
		while (pwrite(f->fd, "0", 1, 0) != 1)
			;
	}
	f->injected += f->has_failed;
}

/*
 * Disarms and returns how many steps there have been since arm(). For this, nth has to be so high
 * that no step failed.
 */
static inline unsigned int steps_taken(struct failures *f)
{
	char left[16] = "";

	if (pread(f->fd, left, sizeof(left) - 1, 0) <= 0)
		abort();
	disarm(f);
	return f->nth - atoi(left);
}

/* Reads from fail-nth of an armed task that has exited whether its nth step failed. */
static inline void look_at(struct failures *f, int fail_nth)
{
	char left[16] = "";

	f->has_failed = pread(fail_nth, left, sizeof(left) - 1, 0) > 0 && !atoi(left);
	f->injected += f->has_failed;
}

/* After the last round: logs how many failures there were. */
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
 * Makes the next allocations fail that marked tasks (mark_task()) make from marked slab caches
 * (mark_cache()). times: how many; -1: all; 0: none any more. It is for code that tries an
 * allocation twice: the failure of the first try alone changes nothing.
 */
static inline bool fail_marked(int times)
{
	char text[16];
	bool done = true;

	snprintf(text, sizeof(text), "%d", times ?: 1);
	/* Without the filters and with a probability, allocations of all tasks would fail. */
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
 * Whether kmemleak still works, if the kernel has it. It allocates memory to record each
 * allocation. When that fails, it disables itself, and leaks would go unnoticed.
 */
static inline bool leaks_are_seen(void)
{
	const char *kmemleak = DEBUGFS "kmemleak";

	/* There is no object at that address: "dump" fails, with EPERM if kmemleak is disabled. */
	return access(kmemleak, F_OK) || write_to(kmemleak, "dump=0x1") || errno != EPERM;
}

#endif /* _NOSIGBUS_FAULT_INJECTION_H */
