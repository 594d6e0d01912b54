// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fuzzer of the ioctls. Threads of several processes call them with good arguments, edge cases
 * and bad arguments, while mappings and files change. Each thread has an arena of its own. It knows
 * what is mapped there, and therefore what each call has to return and each access to show. All
 * threads of a process share another arena. There a call may return any documented error.
 *
 * FUZZ_CALLS is the number of calls. SEED, which is printed, repeats what each thread does, but not
 * how the threads interleave.
 */

#include "commands.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>

#define PROCESSES	2
#define THREADS		3
#define FILES		4
/* An arena has PLACES places of PAGES pages each. There is a hole before and after each place. */
#define PLACES		4
#define PAGES		4
#define STRIDE		(PAGES + 1)
#define ARENA_PAGES	(PLACES * STRIDE + 1)
/* The maximum size of a file. */
#define MAX_FILE_PAGES	8
/* How many steps a forked child does. */
#define CHILD_STEPS	100

static size_t page;

/* What all processes share. */
struct shared {
	atomic_long calls[COMMANDS], succeeded[COMMANDS], unknown_calls, accesses, forks;
	atomic_bool stop;
	atomic_flag complained;
	char complaint[400];
};

/* What a thread knows of a page of its arena. */
struct spot {
	bool mapped, eligible, writable, opted_in;
	/* Adjacent spots with the same number are in the same VMA. */
	unsigned int vma;
	enum class class;
	int file;
	long offset;
	/* The flags of the last ENABLE, and the result of the last STATUS. */
	unsigned int flags;
	struct nosigbus_status last;
};

/* What the threads of a process share. */
struct process {
	struct shared *shared;
	int index, device, files[FILES], dev_zero, efds[2];
	char *common;
	long quota;
	unsigned int seed;
	pthread_barrier_t start;
};

struct thread {
	struct process *process;
	struct shared *shared;
	int index;
	unsigned int seed, last_vma;
	long calls, steps;
	char *arena;
	struct spot spots[ARENA_PAGES];
	/* A page for requests, followed by a PROT_NONE page; and two mappings of one more page. */
	char *memory, *writable_alias, *read_only_alias;
};

/* A number below n. */
static unsigned int any(struct thread *t, unsigned int n)
{
	return rand_r(&t->seed) % n;
}

static bool chance(struct thread *t, unsigned int percent)
{
	return any(t, 100) < percent;
}

/* Stops all threads. Only the first complaint is kept. */
static void __printf(2, 3) complain(struct thread *t, const char *format, ...)
{
	struct shared *shared = t->shared;
	size_t size = sizeof(shared->complaint), len;
	va_list args;

	if (!atomic_flag_test_and_set(&shared->complained)) {
		len = snprintf(shared->complaint, size, "process %d, thread %d, step %ld: ",
			       t->process->index, t->index, t->steps);
		va_start(args, format);
		vsnprintf(shared->complaint + len, size - len, format, args);
		va_end(args);
	}
	atomic_store(&shared->stop, true);
}

static u64 address_of(const struct thread *t, long spot)
{
	return (unsigned long)t->arena + spot * page;
}

/* The first spot of the VMA that contains spot; vma_end(): the spot after its last one. */
static long vma_start(const struct thread *t, long spot)
{
	while (t->spots[spot - 1].mapped && t->spots[spot - 1].vma == t->spots[spot].vma)
		spot--;
	return spot;
}

static long vma_end(const struct thread *t, long spot)
{
	while (t->spots[spot].mapped && t->spots[spot + 1].mapped &&
	       t->spots[spot + 1].vma == t->spots[spot].vma)
		spot++;
	return spot + 1;
}

/* Whether the start of this spot is inside a VMA: not a boundary of it. */
static bool inside_a_vma(const struct thread *t, long spot)
{
	return spot > 0 && spot < ARENA_PAGES && t->spots[spot].mapped &&
		vma_start(t, spot) != spot;
}

/* The errors that a command may return for this range. */
static unsigned int errors_of_range(const struct thread *t, enum command cmd, u64 addr, u64 len)
{
	u64 end = addr + len, arena_end = address_of(t, ARENA_PAGES);
	unsigned int errors = 0;
	long from, to;

	if (!len || addr % page || len % page || end < addr)
		return ERRNO(EINVAL);
	/* Outside the arena, after the holes at its ends, anything may be mapped. */
	if (addr < address_of(t, 0) || end > arena_end)
		return documented[cmd] & ~(ERRNO(EFAULT) | ERRNO(EBADF) | ERRNO(EINTR));
	from = (addr - address_of(t, 0)) / page;
	to = (end - address_of(t, 0)) / page;
	if (inside_a_vma(t, from) || inside_a_vma(t, to))
		errors |= ERRNO(EINVAL);
	for (long i = from; i < to; i++) {
		const struct spot *spot = &t->spots[i];

		if (!spot->mapped)
			errors |= ERRNO(ENOMEM);
		else if (cmd == DISABLE && !spot->opted_in)
			errors |= ERRNO(ENOENT);
		else if (cmd == ENABLE && !spot->eligible)
			errors |= ERRNO(EOPNOTSUPP);
		else if (cmd == ENABLE && spot->opted_in)
			errors |= ERRNO(EBUSY);
	}
	return errors;
}

static unsigned int errors_of_address(const struct thread *t, u64 addr)
{
	const struct spot *spot;

	if (addr < address_of(t, 0) || addr >= address_of(t, ARENA_PAGES))
		return ERRNO(ENOMEM);
	spot = &t->spots[(addr - address_of(t, 0)) / page];
	return !spot->mapped ? ERRNO(ENOMEM) : !spot->opted_in ? ERRNO(ENOENT) : 0;
}

/* The errors that a command may return for its other fields, whatever is mapped. */
static unsigned int errors_of_fields(const struct thread *t, enum command cmd,
			       const union request *request)
{
	int efd = request->enable.eventfd;
	unsigned int errors = 0;

	for (size_t i = commands[cmd].reserved; i < commands[cmd].reserved_end; i++)
		if (request->bytes[i])
			errors |= ERRNO(EINVAL);
	if (cmd == STATUS && request->status.request & ~NOSIGBUS_CLEAR_ERROR)
		errors |= ERRNO(EINVAL);
	if (cmd != ENABLE)
		return errors;
	if (request->enable.flags & ~(NOSIGBUS_RECORD_ERRORS | NOSIGBUS_EVENTFD | NOSIGBUS_EVENTS))
		errors |= ERRNO(EINVAL);
	if (request->enable.cookie && !(request->enable.flags & NOSIGBUS_EVENTS))
		errors |= ERRNO(EINVAL);
	if (!(request->enable.flags & NOSIGBUS_EVENTFD))
		return efd ? errors | ERRNO(EINVAL) : errors;
	if (efd == t->process->efds[0] || efd == t->process->efds[1])
		return errors;
	if (efd == t->process->device || efd == t->process->files[0])
		return errors | ERRNO(EINVAL);
	/* Descriptor 0 may be open (EINVAL, it is no eventfd) or not (EBADF). */
	return errors | ERRNO(EBADF) | (efd ? 0 : ERRNO(EINVAL));
}

/* Chooses a page for which the command can succeed. After some tries it takes any page. */
static long choose_spot(struct thread *t, enum command cmd)
{
	long spot = 0;

	for (int try = 0; try < 8; try++) {
		const struct spot *s;

		spot = 1 + any(t, PLACES) * STRIDE + any(t, PAGES);
		s = &t->spots[spot];
		if (s->mapped && s->eligible && s->opted_in == (cmd != ENABLE))
			break;
	}
	return spot;
}

/* A request that succeeds, if the mapping at spot allows that. */
static union request good_request(struct thread *t, enum command cmd, long spot)
{
	union request request;

	if (cmd == STATUS) {
		request = request_of(STATUS, address_of(t, spot) + any(t, page), 0);
		request.status.request = chance(t, 20) ? NOSIGBUS_CLEAR_ERROR : 0;
		return request;
	}
	if (t->spots[spot].mapped) {
		long from = vma_start(t, spot), to = vma_end(t, spot);

		/* Sometimes the range has two VMAs. */
		if (chance(t, 20) && t->spots[to].mapped)
			to = vma_end(t, to);
		request = request_of(cmd, address_of(t, from), (to - from) * page);
	} else {
		request = request_of(cmd, address_of(t, spot), page);
	}
	if (cmd == ENABLE) {
		request.enable.flags = any(t, 8);
		if (request.enable.flags & NOSIGBUS_EVENTS)
			request.enable.cookie = any(t, 3);
		if (request.enable.flags & NOSIGBUS_EVENTFD)
			request.enable.eventfd = t->process->efds[any(t, 2)];
	}
	return request;
}

/* Changes one field of the request to an edge case or a bad value. */
static void spoil(struct thread *t, enum command cmd, union request *request)
{
	const int bad_efds[] = {
		-1, INT_MIN, INT_MAX, 1000, t->process->device, t->process->files[0], 0,
	};
	size_t reserved = commands[cmd].reserved_end - commands[cmd].reserved;
	u64 *addr = (u64 *)request->bytes, *len = addr + 1;

	switch (any(t, 8)) {
	case 0:
		*addr = edges[any(t, ARRAY_SIZE(edges))];
		break;
	case 1:
		*addr += any(t, 2) ? page : any(t, page);
		break;
	case 2:
		*addr -= any(t, 2) ? page : any(t, page);
		break;
	case 3:
		if (reserved)
			request->bytes[commands[cmd].reserved + any(t, reserved)] ^=
				1 << any(t, 8);
		break;
	case 4:
		if (cmd == STATUS)
			request->status.request ^= 1U << any(t, 32);
		else
			*len = edges[any(t, ARRAY_SIZE(edges))];
		break;
	case 5:
		if (cmd != STATUS)
			*len += any(t, 2) ? page : any(t, page);
		break;
	case 6:
		if (cmd != STATUS)
			*len -= any(t, 2) ? page : any(t, page);
		break;
	case 7:
		if (cmd == ENABLE && any(t, 2))
			request->enable.flags ^= 1U << any(t, 32);
		else if (cmd == ENABLE)
			request->enable.eventfd = bad_efds[any(t, ARRAY_SIZE(bad_efds))];
	}
}

/* The kind of memory that the request is in. */
enum memory { GOOD, READ_ONLY, PARTLY, WILD };

static void *place_request(struct thread *t, enum memory where, enum command cmd,
			   const union request *request)
{
	size_t size = commands[cmd].size, part = any(t, size), at;
	u64 wild;

	switch (where) {
	case GOOD:
		at = any(t, page - size + 1);
		memcpy(t->memory + at, request, size);
		return t->memory + at;
	case READ_ONLY:
		memcpy(t->writable_alias, request, size);
		return t->read_only_alias;
	case PARTLY:
		memcpy(t->memory + page - part, request, part);
		return t->memory + page - part;
	default:
		do
			wild = edges[any(t, ARRAY_SIZE(edges))];
		while (wild > ULONG_MAX);
		return (void *)(unsigned long)wild;
	}
}

/* Records what a successful call has changed in the arena. */
static void note_success(struct thread *t, enum command cmd, const union request *request)
{
	u64 addr = cmd == ENABLE ? request->enable.addr : request->disable.addr;
	u64 len = cmd == ENABLE ? request->enable.len : request->disable.len;
	struct spot *spot = &t->spots[(addr - address_of(t, 0)) / page];

	for (; len; len -= page, spot++) {
		spot->opted_in = cmd == ENABLE;
		spot->flags = request->enable.flags;
		spot->last = (struct nosigbus_status){};
	}
}

/* Whether the result of STATUS is possible for this page. */
static bool is_plausible(const struct spot *spot, const union request *request,
			 const struct nosigbus_status *s)
{
	const struct nosigbus_status *last = &spot->last;
	bool shadow = spot->class == SHARED_WRITE;

	for (size_t i = 0; i < ARRAY_SIZE(s->reserved); i++)
		if (s->reserved[i])
			return false;
	return s->addr == request->status.addr && s->request == request->status.request &&
		s->flags == spot->flags && !s->errors && !s->error && !s->error_offset &&
		!s->error_flags && s->zero_pages >= last->zero_pages &&
		s->private_pages >= last->private_pages && s->shadow_pages >= last->shadow_pages &&
		s->given_back >= last->given_back && (!shadow || !s->zero_pages) &&
		(spot->class == PRIVATE || !s->private_pages) &&
		(shadow || (!s->shadow_pages && !s->shadow_pages_held && !s->given_back));
}

static void check_answer(struct thread *t, enum command cmd, const union request *request,
			 const void *answer)
{
	if (cmd == QUERY) {
		const struct nosigbus_query *query = answer;

		if (query->version != NOSIGBUS_VERSION)
			complain(t, "QUERY: version %u", query->version);
	} else if (cmd == STATUS) {
		struct spot *spot = &t->spots[(request->status.addr - address_of(t, 0)) / page];
		struct nosigbus_status s;

		memcpy(&s, answer, sizeof(s));
		if (!is_plausible(spot, request, &s))
			complain(t,
				 "STATUS: class %d, flags %x (%x), zero %llu (%llu), private %llu (%llu), shadow %llu (%llu), held %llu, back %llu (%llu), error %u (%llu)",
				 spot->class, s.flags, spot->flags, s.zero_pages,
				 spot->last.zero_pages, s.private_pages, spot->last.private_pages,
				 s.shadow_pages, spot->last.shadow_pages, s.shadow_pages_held,
				 s.given_back, spot->last.given_back, s.error, s.errors);
		spot->last = s;
	}
}

static enum command choose_command(struct thread *t)
{
	unsigned int n = any(t, 100);

	return n < 15 ? QUERY : n < 32 ? ENABLE : n < 48 ? DISABLE : STATUS;
}

static int count_call(struct thread *t, enum command cmd, const void *request)
{
	int result = call(t->process->device, cmd, request);

	t->calls++;
	atomic_fetch_add(&t->shared->calls[cmd], 1);
	if (!result)
		atomic_fetch_add(&t->shared->succeeded[cmd], 1);
	return result;
}

/* A call for this thread's own arena. Its result must be one of the errors that apply, or 0. */
static void call_own(struct thread *t)
{
	enum command cmd = choose_command(t);
	union request request = good_request(t, cmd, choose_spot(t, cmd));
	enum memory where = chance(t, 92) ? GOOD : 1 + any(t, 3);
	unsigned int errors;
	void *at;
	int result;

	if (chance(t, cmd == STATUS ? 25 : 55))
		spoil(t, cmd, &request);
	errors = errors_of_fields(t, cmd, &request);
	if (cmd == STATUS)
		errors |= errors_of_address(t, request.status.addr);
	else if (cmd != QUERY)
		errors |= errors_of_range(t, cmd, request.enable.addr, request.enable.len);
	if (where == PARTLY || where == WILD)
		errors = ERRNO(EFAULT);
	else if (where == READ_ONLY && commands[cmd].writes)
		errors |= ERRNO(EFAULT);

	at = place_request(t, where, cmd, &request);
	result = count_call(t, cmd, at);
	if (!one_of(result, errors))
		complain(t, "%s %#llx, %#llx, %x, %d, memory %d: %s, expected %#x (arena %p)",
			 commands[cmd].name, request.enable.addr, request.enable.len,
			 request.enable.flags, request.enable.eventfd, where, strerror(-result),
			 errors, t->arena);
	else if (!result && (cmd == ENABLE || cmd == DISABLE))
		note_success(t, cmd, &request);
	else if (!result)
		check_answer(t, cmd, &request, at);
}

/* A call for the shared arena, which all threads change. It may return any documented error. */
static void call_common(struct thread *t)
{
	enum command cmd = choose_command(t);
	u64 from = 1 + any(t, PLACES) * STRIDE, pages = PAGES;
	unsigned int wrong, possible = documented[cmd] & ~(ERRNO(EFAULT) | ERRNO(EBADF) | ERRNO(EINTR));
	union request request;
	int result;

	if (chance(t, 20)) {
		from += any(t, PAGES);
		pages = 1 + any(t, PAGES);
	}
	request = request_of(cmd, (unsigned long)t->process->common + from * page, pages * page);
	if (cmd == ENABLE && chance(t, 30)) {
		request.enable.flags = NOSIGBUS_EVENTFD;
		request.enable.eventfd = t->process->efds[0];
	}
	if (chance(t, 10))
		spoil(t, cmd, &request);
	wrong = errors_of_fields(t, cmd, &request);
	result = count_call(t, cmd, place_request(t, GOOD, cmd, &request));
	if (result ? !one_of(result, possible | wrong) : wrong)
		complain(t, "%s %#llx, %#llx in common: %s", commands[cmd].name,
			 request.enable.addr, request.enable.len, strerror(-result));
}

static void call_unknown(struct thread *t)
{
	unsigned int number;

	do
		number = _IOC(any(t, 4), NOSIGBUS_IOC_MAGIC, any(t, 6), 16 * any(t, 10));
	while (number == NOSIGBUS_QUERY || number == NOSIGBUS_ENABLE ||
	       number == NOSIGBUS_DISABLE || number == NOSIGBUS_STATUS);
	t->calls++;
	atomic_fetch_add(&t->shared->unknown_calls, 1);
	if (ioctl(t->process->device, number, t->memory) != -1 || errno != ENOTTY)
		complain(t, "command %#x: %s", number, strerror(errno));
}

/* Whether a mapping of the file from offset could merge with the mapping before or after it. */
static bool continues(const struct thread *t, long from, long to, int file, long offset)
{
	const struct spot *before = &t->spots[from - 1], *behind = &t->spots[to];

	return (before->mapped && before->file == file &&
		before->offset + 1 == offset) ||
		(behind->mapped && behind->file == file && behind->offset == offset + to - from);
}

/* Maps something over a place: a file over a part of it or all, anything else over all of it. */
static void map_own(struct thread *t)
{
	long place = 1 + any(t, PLACES) * STRIDE, from = place, to = place + PAGES, offset = 0;
	struct process *process = t->process;
	enum class class = any(t, 3);
	int fd = -1, file = -1, flags = class_flags(class), prot = class_prot(class);
	char *addr;

	if (chance(t, 80)) {
		file = any(t, FILES);
		fd = process->files[file];
		if (chance(t, 30)) {
			from += any(t, PAGES);
			to = from + 1 + any(t, place + PAGES - from);
		}
		do
			offset = any(t, 4);
		while (continues(t, from, to, file, offset));
	} else if (any(t, 2)) {
		flags |= MAP_ANONYMOUS;
	} else {
		fd = process->dev_zero;
	}

	addr = (char *)t->arena + from * page;
	if (mmap(addr, (to - from) * page, prot, flags | MAP_FIXED, fd, offset * page) != addr) {
		complain(t, "mmap: %s", strerror(errno));
		return;
	}
	t->last_vma++;
	for (long i = from; i < to; i++)
		t->spots[i] = (struct spot){
			.mapped = true, .eligible = file >= 0, .writable = prot & PROT_WRITE,
			.vma = t->last_vma, .class = class, .file = file,
			.offset = offset + i - from,
		};
}

static void unmap_own(struct thread *t, long from, long to)
{
	if (munmap(t->arena + from * page, (to - from) * page))
		complain(t, "munmap: %s", strerror(errno));
	memset(&t->spots[from], 0, (to - from) * sizeof(t->spots[0]));
}

static void unmap_some(struct thread *t)
{
	long place = 1 + any(t, PLACES) * STRIDE, from = place + any(t, PAGES);

	unmap_own(t, from, from + 1 + any(t, place + PAGES - from));
}

/* Moves one VMA to another place, after unmapping everything there. */
static void move_own(struct thread *t)
{
	long spot = choose_spot(t, DISABLE), from, to, source, target;
	char *addr;

	if (!t->spots[spot].mapped)
		return;
	from = vma_start(t, spot);
	to = vma_end(t, spot);
	source = spot - (spot - 1) % STRIDE;
	target = 1 + any(t, PLACES) * STRIDE;
	if (target == source)
		return;
	unmap_own(t, target, target + PAGES);
	target += from - source;
	addr = t->arena + target * page;
	if (mremap(t->arena + from * page, (to - from) * page, (to - from) * page,
		   MREMAP_MAYMOVE | MREMAP_FIXED, addr) != addr) {
		complain(t, "mremap: %s", strerror(errno));
		return;
	}
	memcpy(&t->spots[target], &t->spots[from], (to - from) * sizeof(t->spots[0]));
	memset(&t->spots[from], 0, (to - from) * sizeof(t->spots[0]));
}

static void change_common(struct thread *t)
{
	char *common = t->process->common + page;
	char *at = common + any(t, PLACES) * STRIDE * page;
	char *other = common + any(t, PLACES) * STRIDE * page;
	size_t part = any(t, PAGES) * page, len = PAGES * page;
	enum class class = any(t, 3);

	switch (any(t, 8)) {
	default:
		if (mmap(at, len, class_prot(class), class_flags(class) | MAP_FIXED,
			 t->process->files[any(t, FILES)], 0) != at)
			complain(t, "mmap in common: %s", strerror(errno));
		break;
	case 0:
		if (munmap(at + part, page))
			complain(t, "munmap in common: %s", strerror(errno));
		break;
	/* The following calls fail if there is a hole. */
	case 1:
		if (at != other)
			mremap(at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, other);
		break;
	case 2:
		mprotect(at + part, page, any(t, 2) ? PROT_READ : PROT_READ | PROT_WRITE);
		break;
	case 3:
		madvise(at, len, MADV_DONTNEED);
	}
}

static void access_own(struct thread *t)
{
	long i = choose_spot(t, chance(t, 80) ? DISABLE : ENABLE);
	const struct spot *spot = &t->spots[i];
	char *p = t->arena + i * page + any(t, page);
	bool writes = any(t, 2);
	int result = writes ? write_byte(p, 1) : read_byte(p);
	bool fine = result >= 0;

	atomic_fetch_add(&t->shared->accesses, 1);
	if (!spot->mapped || (writes && !spot->writable))
		fine = result == -SIGSEGV;
	else if (spot->eligible && !spot->opted_in && result == -SIGBUS)
		fine = true;
	if (!fine)
		complain(t, "%s of a %s mapping of class %d: %d", writes ? "write" : "read",
			 spot->opted_in ? "opted-in" : spot->mapped ? "plain" : "missing",
			 spot->class, result);
	if (spot->opted_in && chance(t, 10))
		madvise(t->arena + i * page, page, MADV_DONTNEED);
}

static void access_common(struct thread *t)
{
	char *p = t->process->common + (1 + any(t, ARENA_PAGES - 1)) * page;

	/* Other threads change this arena, so any result is fine. */
	if (any(t, 2))
		read_byte(p);
	else
		write_byte(p, 1);
}

static void resize(struct thread *t)
{
	/* The last file is on a disk, and so is slow. */
	int file = chance(t, 90) ? any(t, FILES - 1) : FILES - 1, fd = t->process->files[file];
	off_t size = any(t, MAX_FILE_PAGES * page + 1);
	char byte = 0x5a;

	if (chance(t, 70) ? ftruncate(fd, size - (any(t, 2) ? size % page : 0)) :
			    pwrite(fd, &byte, 1, size) != 1)
		complain(t, "resizing: %s", strerror(errno));
}

static void step(struct thread *t, bool may_fork);

/* The child has a copy of the arena and of what is known about it. It shares the counters. */
static void fork_child(struct thread *t)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		t->seed = ~t->seed;
		for (int i = 0; i < CHILD_STEPS && !atomic_load(&t->shared->stop); i++)
			step(t, false);
		_exit(0);
	}
	atomic_fetch_add(&t->shared->forks, 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		complain(t, "fork: %s", strerror(errno));
	else if (status)
		complain(t, "a child ended with %#x", status);
}

static void step(struct thread *t, bool may_fork)
{
	unsigned int n = any(t, 10000);

	/* Far more calls than changes, because a change takes a hundred times as long. */
	t->steps++;
	if (n < 6700)
		call_own(t);
	else if (n < 8900)
		call_common(t);
	else if (n < 9100)
		call_unknown(t);
	else if (n < 9560)
		access_own(t);
	else if (n < 9620)
		access_common(t);
	else if (n < 9780)
		map_own(t);
	else if (n < 9830)
		unmap_some(t);
	else if (n < 9880)
		move_own(t);
	else if (n < 9950)
		change_common(t);
	else if (n < 9998)
		resize(t);
	else if (may_fork)
		fork_child(t);
}

static void *fuzz_thread(void *arg)
{
	struct thread *t = arg;

	/* From here on only the functions above map anything. */
	pthread_barrier_wait(&t->process->start);
	munmap(t->arena, ARENA_PAGES * page);
	while (t->calls < t->process->quota && !atomic_load(&t->shared->stop))
		step(t, true);
	return NULL;
}

static char *reserve(size_t pages, int prot)
{
	return mmap(NULL, pages * page, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Allocates the memory of a thread; false if that fails. */
static bool prepare(struct thread *t)
{
	int fd = memfd_create("request", MFD_CLOEXEC);

	t->arena = reserve(ARENA_PAGES, PROT_NONE);
	t->memory = reserve(2, PROT_READ | PROT_WRITE);
	if (fd < 0 || ftruncate(fd, page) || t->arena == MAP_FAILED || t->memory == MAP_FAILED ||
	    mprotect(t->memory + page, page, PROT_NONE))
		return false;
	t->writable_alias = map_file(SHARED_WRITE, fd, page);
	t->read_only_alias = map_file(SHARED_READ, fd, page);
	close(fd);
	return t->writable_alias != MAP_FAILED && t->read_only_alias != MAP_FAILED;
}

/* What each process does: its exit status. */
static int fuzz_process(struct process *process)
{
	static struct thread threads[THREADS];
	pthread_t ids[THREADS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	process->common = reserve(ARENA_PAGES, PROT_NONE);
	if (process->common == MAP_FAILED ||
	    pthread_barrier_init(&process->start, NULL, THREADS))
		return 1;
	for (int i = 0; i < THREADS; i++) {
		struct thread *t = &threads[i];

		t->process = process;
		t->shared = process->shared;
		t->index = i;
		t->seed = process->seed + 0x9e3779b9U * (THREADS * process->index + i + 1);
		if (!prepare(t))
			return 2;
	}
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&ids[i], NULL, fuzz_thread, &threads[i]))
			return 3;
	for (int i = 0; i < THREADS; i++)
		pthread_join(ids[i], NULL);
	return 0;
}

FIXTURE(fuzz) {
	struct shared *shared;
	struct process process;
	long calls;
};

FIXTURE_SETUP(fuzz)
{
	const enum backing backings[FILES] = { MEMFD, MEMFD, TMPFS, EXT4 };
	struct process *process = &self->process;
	unsigned int seed = 0;

	for (int i = 0; i < FILES; i++)
		need_backing(_metadata, backings[i]);
	page = page_size();
	catch_signals();
	ASSERT_EQ(getrandom(&seed, sizeof(seed), 0), (ssize_t)sizeof(seed));
	process->seed = number_of("SEED", seed);
	self->calls = number_of("FUZZ_CALLS", 1000000);
	process->quota = self->calls / (PROCESSES * THREADS) + 1;
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->shared, MAP_FAILED);
	process->shared = self->shared;
	process->device = open_device();
	ASSERT_GE(process->device, 0) TH_LOG("/dev/nosigbus: %s", strerror(errno));
	process->dev_zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	ASSERT_GE(process->dev_zero, 0);
	for (int i = 0; i < FILES; i++) {
		process->files[i] = new_file(backings[i]);
		ASSERT_GE(process->files[i], 0) TH_LOG("new file: %s", strerror(errno));
	}
	for (int i = 0; i < 2; i++) {
		process->efds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ASSERT_GE(process->efds[i], 0);
	}
}

FIXTURE_TEARDOWN(fuzz)
{
	munmap(self->shared, sizeof(*self->shared));
}

TEST_F_TIMEOUT(fuzz, every_answer_is_documented, 3600)
{
	struct shared *shared = self->shared;
	double start = seconds(), took;
	long calls = 0, succeeded = 0;
	pid_t pids[PROCESSES];

	TH_LOG("SEED=%#x", self->process.seed);
	for (int i = 0; i < PROCESSES; i++) {
		self->process.index = i;
		pids[i] = fork();
		ASSERT_GE(pids[i], 0);
		if (!pids[i])
			_exit(fuzz_process(&self->process));
	}
	for (int i = 0; i < PROCESSES; i++) {
		int status;

		ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
		EXPECT_EQ(status, 0) TH_LOG("process %d", i);
	}
	took = seconds() - start;

	EXPECT_FALSE(shared->stop) TH_LOG("SEED=%#x: %s", self->process.seed, shared->complaint);
	for (int i = 0; i < COMMANDS; i++) {
		TH_LOG("%s: %ld calls, %ld succeeded", commands[i].name, shared->calls[i],
		       shared->succeeded[i]);
		calls += shared->calls[i];
		succeeded += shared->succeeded[i];
		/* A command that hardly ever succeeds has not been tested. */
		EXPECT_GE(shared->succeeded[i] * 10, shared->calls[i]);
	}
	calls += shared->unknown_calls;
	TH_LOG("%ld calls in %.0f s, %.0f a second, %ld succeeded; %ld accesses, %ld forks", calls,
	       took, calls / took, succeeded, shared->accesses, shared->forks);
	EXPECT_GE(calls, self->calls);
	EXPECT_GE(succeeded * 3, calls);
}

TEST_HARNESS_MAIN
