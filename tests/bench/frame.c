// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cost per frame of a compositor that reads a client's buffer, frame after frame. The buffer is
 * intact, or the client has truncated it. The compositor uses one of several protections against
 * SIGBUS.
 */

#include "handler.h"

#define ROUNDS	5
#define FRAMES	2

enum approach {
	/* No precautions. */
	PLAIN,
	OPTED_IN,
	/* Signal handlers that map anonymous memory: over one page; over the whole pool. */
	HANDLER_PAGE, HANDLER_POOL,
	/* No mapping: each frame is read into memory of the compositor's own. */
	PREAD,
	/* Each frame checks whether the file can shrink (if so, it would have to make a copy). */
	SEALS,
};

struct buffer {
	enum approach approach;
	bool truncated;
	/* The first frame, or those that follow. */
	bool first;
};

static u64 sum;

static void frame(const struct buffer *b, int fd)
{
	if (b->approach == PREAD)
		MUST(pread(fd, pool, BUFFER, 0));
	if (b->approach == SEALS && !(MUST(fcntl(fd, F_GET_SEALS)) & F_SEAL_SHRINK))
		abort();
	sum += read_all(pool, BUFFER);
}

static double per_frame(const void *arg)
{
	const struct buffer *b = arg;
	int fd = new_file(MEMFD, BUFFER), frames = b->first ? 1 : FRAMES;
	u64 start;

	if (b->approach == SEALS)
		MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	pool = b->approach == PREAD ? map(ANONYMOUS, PRIVATE, -1, BUFFER)
		: map(MEMFD, SHARED_READ, fd, BUFFER);
	if (b->approach == OPTED_IN)
		opt_in(pool, BUFFER);
	handler_maps = b->approach == HANDLER_POOL ? BUFFER : PAGE;
	if (b->truncated)
		MUST(ftruncate(fd, 0));
	if (!b->first)
		frame(b, fd);

	start = now();
	for (int i = 0; i < frames; i++)
		frame(b, fd);
	start = now() - start;
	MUST(munmap(pool, BUFFER));
	close(fd);
	return (double)start / frames;
}

#define SUBJECT(name, ...) { name, per_frame, &(const struct buffer){ __VA_ARGS__ } }

int main(void)
{
	handle_sigbus();
	contest("frame-first", ROUNDS, (const struct subject []){
		SUBJECT("plain", PLAIN, .first = true),
		SUBJECT("opted-in", OPTED_IN, .first = true),
		SUBJECT("pread", PREAD, .first = true),
		SUBJECT("seals", SEALS, .first = true),
		{},
	});
	contest("frame", ROUNDS, (const struct subject []){
		SUBJECT("plain", PLAIN),
		SUBJECT("opted-in", OPTED_IN),
		SUBJECT("pread", PREAD),
		SUBJECT("seals", SEALS),
		{},
	});
	contest("truncated-frame-first", ROUNDS, (const struct subject []){
		SUBJECT("opted-in", OPTED_IN, true, true),
		SUBJECT("handler-page", HANDLER_PAGE, true, true),
		SUBJECT("handler-pool", HANDLER_POOL, true, true),
		SUBJECT("pread", PREAD, true, true),
		{},
	});
	contest("truncated-frame", ROUNDS, (const struct subject []){
		SUBJECT("opted-in", OPTED_IN, true),
		SUBJECT("handler-page", HANDLER_PAGE, true),
		SUBJECT("handler-pool", HANDLER_POOL, true),
		SUBJECT("pread", PREAD, true),
		{},
	});
	return 0;
}
