/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A FUSE server with one file. The test may change the size and the content at any time. While
 * content is 0, the server fails the reads of one thread and never answers those of others.
 */
#ifndef _NOSIGBUS_FUSE_SERVER_H
#define _NOSIGBUS_FUSE_SERVER_H

#include "nosigbus_test.h"

#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define FUSE_FILE	"file"

struct fuse_server {
	/* The file's size in bytes, and the value of each byte; 0: no content. */
	volatile long size;
	volatile char content;
	/* Whether the kernel keeps what is written to the file, and decides about its size. */
	bool keeps_writes_back;
	/* The thread whose reads the server fails, 0.3 seconds after they arrive. */
	volatile pid_t refused;
	/* How many reads of that thread have arrived, and how many of others, left unanswered. */
	volatile int reads, unanswered;
};

static inline void fuse_reply(int device, const struct fuse_in_header *to, int error,
			      const void *body, size_t len)
{
	struct fuse_out_header header = {
		.len = sizeof(header) + len, .error = error, .unique = to->unique,
	};
	struct iovec both[] = { { &header, sizeof(header) }, { (void *)body, len } };

	/* ENOENT: the task that sent the request may have been killed. */
	if (writev(device, both, 2) < 0 && errno != ENOENT)
		_exit(1);
}

static inline void fuse_serve(struct fuse_server *server, int device)
{
	const struct fuse_init_out init = {
		.major = 7, .minor = 31, .max_background = 16, .congestion_threshold = 12,
		.max_write = 1 << 16, .time_gran = 1,
		.flags = server->keeps_writes_back ? FUSE_WRITEBACK_CACHE : 0,
	};
	struct fuse_attr_out attributes = {
		.attr = { .ino = 2, .mode = S_IFREG | 0666, .nlink = 1, .blksize = 4096 },
	};
	struct fuse_entry_out entry = { .nodeid = 2, .entry_valid = ~0U };
	const struct fuse_open_out opened = { .fh = 1 };
	static union {
		struct fuse_in_header header;
		char bytes[1 << 18];
	} request;
	static char bytes[1 << 17];
	const struct fuse_in_header *in = &request.header;

	while (read(device, &request, sizeof(request)) >= (ssize_t)sizeof(*in)) {
		attributes.attr.size = server->size;
		/* With content, the kernel must ask for the attributes each time. */
		attributes.attr_valid = entry.attr_valid = server->content ? 0 : ~0U;
		entry.attr = attributes.attr;
		switch (in->opcode) {
		case FUSE_INIT:
			fuse_reply(device, in, 0, &init, sizeof(init));
			break;
		case FUSE_LOOKUP:
			fuse_reply(device, in, 0, &entry, sizeof(entry));
			break;
		case FUSE_GETATTR:
			fuse_reply(device, in, 0, &attributes, sizeof(attributes));
			break;
		case FUSE_OPEN:
			fuse_reply(device, in, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			if (server->content) {
				const struct fuse_read_in *wanted = (const void *)(in + 1);
				size_t len = wanted->size < sizeof(bytes) ? wanted->size : sizeof(bytes);

				memset(bytes, server->content, len);
				fuse_reply(device, in, 0, bytes, len);
				break;
			}
			if ((pid_t)in->pid != server->refused) {
				server->unanswered++;
				break;
			}
			server->reads++;
			usleep(300000);
			fuse_reply(device, in, -EIO, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			fuse_reply(device, in, -EOPNOTSUPP, NULL, 0);
		}
	}
	_exit(0);
}

/*
 * Mounts the file system at directory and forks a child that serves it. Returns the child's PID,
 * or -1. The caller unmounts with umount2(MNT_DETACH). When the child dies, all requests that
 * wait for an answer end.
 */
static inline pid_t start_fuse_server(struct fuse_server *server, const char *directory)
{
	char options[64];
	pid_t pid;
	int device;

	/* This fails where FUSE is built in, too: /dev/fuse says whether there is FUSE. */
	(void)!system("modprobe -q fuse");
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return -1;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
	if (mount("test", directory, "fuse", MS_NOSUID | MS_NODEV, options)) {
		close(device);
		return -1;
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fuse_serve(server, device);
	}
	close(device);
	return pid;
}

/*
 * Makes a directory of the template, and starts a server there that begins with this state. Sets
 * path to its file, and pid to the server. Skips the test if there is no FUSE.
 */
static inline struct fuse_server *set_up_fuse(struct __test_metadata *_metadata,
					      struct fuse_server state, char *template,
					      char path[PATH_MAX], pid_t *pid)
{
	struct fuse_server *server = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(server, MAP_FAILED);
	*server = state;
	ASSERT_NE(mkdtemp(template), NULL);
	snprintf(path, PATH_MAX, "%s/" FUSE_FILE, template);
	*pid = start_fuse_server(server, template);
	if (*pid < 0)
		rmdir(template);
	skip_if(_metadata, *pid < 0 ? "takes FUSE" : NULL);
	return server;
}

#endif /* _NOSIGBUS_FUSE_SERVER_H */
