// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * wl_shm of a Wayland compositor that no client can kill by shrinking a file. It
 * needs only libwayland-server and ioctl(2). It has no SIGBUS handler, and calls
 * no function before and after an access. Without the nosigbus module it uses
 * plain mappings, and says so. It shows nothing: for each frame it prints how
 * many pixels are drawn.
 *
 * usage: shm-server SOCKET
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nosigbus.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <wayland-server.h>

#define PIXEL sizeof(uint32_t)

/* /dev/nosigbus, or -1 without the module. */
static int device = -1;
static struct wl_list pools;

/* The mapping of a client's file. The pool's resource and its buffers hold it. */
struct pool {
	struct wl_list link;
	/* Errors are posted on it: the client may have destroyed the pool's own resource. */
	struct wl_resource *shm;
	unsigned int holders;
	/* The device reports the pool by this number, which no other pool ever has. */
	uint64_t cookie;
	char *map;
	size_t len;
	bool protected;
};

struct buffer {
	struct pool *pool;
	size_t offset, stride;
	int32_t width, height;
};

struct surface {
	struct wl_resource *attached;
	struct wl_listener attached_gone;
	struct wl_list callbacks;
};

static size_t whole_pages(size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (len + page - 1) / page * page;
}

static void start_protecting(void)
{
	device = open("/dev/nosigbus", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (device < 0)
		fprintf(stderr, "shm-server: /dev/nosigbus: %s: clients can end it by shrinking a file\n",
			strerror(errno));
}

/* Opts a new mapping in. Returns false after an error. */
static bool protect(struct pool *pool)
{
	static uint64_t cookies;
	struct nosigbus_enable enable = {
		.addr = (uintptr_t)pool->map,
		.len = whole_pages(pool->len),
		.flags = NOSIGBUS_EVENTS | NOSIGBUS_RECORD_ERRORS,
		.cookie = ++cookies,
	};

	if (device < 0)
		return true;
	pool->cookie = enable.cookie;
	pool->protected = !ioctl(device, NOSIGBUS_ENABLE, &enable);
	/* The mapping of a file that cannot be opted in stays plain, as without the module. */
	return pool->protected || errno == EOPNOTSUPP;
}

/*
 * Maps the file that the client has sent. The mapping is read-only, so a page
 * that the file does not have costs no memory.
 *
 * Only files on a tmpfs, such as memfds, are mapped. Any other file can be on a
 * file system of the client (FUSE), and then each read, and even fstatfs(2), can
 * wait for ever. F_GET_SEALS asks only the kernel, so it comes first. Besides
 * files on a tmpfs, only files of huge pages have seals. Their mappings are
 * longer than requested.
 */
static bool map_pool(struct pool *pool, int fd)
{
	struct statfs fs;

	if (fcntl(fd, F_GET_SEALS) < 0 || fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC) {
		errno = EOPNOTSUPP;
		return false;
	}
	pool->map = mmap(NULL, pool->len, PROT_READ, MAP_SHARED, fd, 0);
	if (pool->map == MAP_FAILED)
		return false;
	if (!protect(pool)) {
		int error = errno;

		munmap(pool->map, pool->len);
		errno = error;
		return false;
	}
	return true;
}

/*
 * Makes the mapping longer. It stays opted in, and keeps its counts and its error.
 * The kernel does not grow an opted-in mapping in place, and with MREMAP_MAYMOVE
 * alone it does not move a mapping that has room behind it. So mremap is passed a
 * new address.
 */
static bool resize_pool(struct pool *pool, size_t len)
{
	void *place, *map;

	if (!pool->protected) {
		map = mremap(pool->map, pool->len, len, MREMAP_MAYMOVE);
	} else {
		place = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (place == MAP_FAILED)
			return false;
		/*
		 * If this fails, the place must not be unmapped: the kernel may have
		 * unmapped it, and another thread may use it.
		 */
		map = mremap(pool->map, pool->len, len, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	}
	if (map == MAP_FAILED)
		return false;
	pool->map = map;
	pool->len = len;
	return true;
}

/* Returns whether the file was shorter than the client has said, or could not be read. */
static bool has_lied(const struct pool *pool)
{
	struct nosigbus_status status = { .addr = (uintptr_t)pool->map };

	if (!pool->protected)
		return false;
	return ioctl(device, NOSIGBUS_STATUS, &status) || status.error || status.zero_pages;
}

/*
 * Runs when the device is readable. It reads an event first, and then asks for
 * the status of the pool that the event names.
 */
static int send_liars_away(int fd, uint32_t mask, void *data)
{
	struct nosigbus_event event;
	struct wl_client *client;
	struct pool *pool;

	(void)mask;
	(void)data;
	while (read(fd, &event, sizeof(event)) == sizeof(event)) {
		/* If events were lost, they may have named any pool. */
		bool of_any = event.kind == NOSIGBUS_EVENT_OVERFLOW;
again:
		wl_list_for_each(pool, &pools, link) {
			if (!(of_any || pool->cookie == event.cookie) || !has_lied(pool))
				continue;
			client = wl_resource_get_client(pool->shm);
			wl_resource_post_error(pool->shm, WL_SHM_ERROR_INVALID_FD,
					       "the file is shorter than its pool");
			wl_client_flush(client);
			/* This destroys the client's pools too. */
			wl_client_destroy(client);
			printf("a client is sent away\n");
			goto again;
		}
	}
	return 0;
}

static void destroy_resource(struct wl_client *client, struct wl_resource *resource)
{
	(void)client;
	wl_resource_destroy(resource);
}

static void drop_pool(struct pool *pool)
{
	if (--pool->holders)
		return;
	wl_list_remove(&pool->link);
	munmap(pool->map, pool->len);
	free(pool);
}

static void buffer_gone(struct wl_resource *resource)
{
	struct buffer *buffer = wl_resource_get_user_data(resource);

	drop_pool(buffer->pool);
	free(buffer);
}

static const struct wl_buffer_interface buffer_requests = {
	.destroy = destroy_resource,
};

static bool is_inside(const struct pool *pool, int32_t offset, int32_t width, int32_t height,
		      int32_t stride)
{
	if (offset < 0 || width <= 0 || height <= 0 || stride < 0)
		return false;
	/* Each pixel is read as one word. */
	if (offset % PIXEL || stride % PIXEL)
		return false;
	return (size_t)stride >= (size_t)width * PIXEL &&
	       (size_t)offset + (size_t)stride * (size_t)height <= pool->len;
}

static void create_buffer(struct wl_client *client, struct wl_resource *resource, uint32_t id,
			  int32_t offset, int32_t width, int32_t height, int32_t stride,
			  uint32_t format)
{
	struct pool *pool = wl_resource_get_user_data(resource);
	struct wl_resource *created;
	struct buffer *buffer;

	if (format != WL_SHM_FORMAT_ARGB8888 && format != WL_SHM_FORMAT_XRGB8888) {
		wl_resource_post_error(resource, WL_SHM_ERROR_INVALID_FORMAT, "format %#x", format);
		return;
	}
	if (!is_inside(pool, offset, width, height, stride)) {
		wl_resource_post_error(resource, WL_SHM_ERROR_INVALID_STRIDE,
				       "%d x %d pixels, %d bytes a line, from byte %d",
				       width, height, stride, offset);
		return;
	}
	buffer = malloc(sizeof(*buffer));
	created = wl_resource_create(client, &wl_buffer_interface, 1, id);
	if (!buffer || !created) {
		free(buffer);
		wl_client_post_no_memory(client);
		return;
	}
	*buffer = (struct buffer) {
		.pool = pool,
		.offset = (size_t)offset,
		.stride = (size_t)stride,
		.width = width,
		.height = height,
	};
	pool->holders++;
	wl_resource_set_implementation(created, &buffer_requests, buffer, buffer_gone);
}

static void resize(struct wl_client *client, struct wl_resource *resource, int32_t size)
{
	struct pool *pool = wl_resource_get_user_data(resource);

	(void)client;
	if (size < 0 || (size_t)size < pool->len)
		wl_resource_post_error(resource, WL_SHM_ERROR_INVALID_FD, "a pool becomes no shorter");
	else if (!resize_pool(pool, (size_t)size))
		wl_resource_post_error(resource, WL_SHM_ERROR_INVALID_FD, "the pool cannot grow: %s",
				       strerror(errno));
}

static const struct wl_shm_pool_interface pool_requests = {
	.create_buffer = create_buffer,
	.destroy = destroy_resource,
	.resize = resize,
};

static void pool_gone(struct wl_resource *resource)
{
	drop_pool(wl_resource_get_user_data(resource));
}

static void create_pool(struct wl_client *client, struct wl_resource *shm, uint32_t id, int fd,
			int32_t size)
{
	struct wl_resource *created;
	struct pool *pool;

	if (size <= 0) {
		wl_resource_post_error(shm, WL_SHM_ERROR_INVALID_STRIDE, "a pool of %d bytes", size);
		close(fd);
		return;
	}
	pool = calloc(1, sizeof(*pool));
	created = wl_resource_create(client, &wl_shm_pool_interface, 1, id);
	if (!pool || !created) {
		free(pool);
		wl_client_post_no_memory(client);
		close(fd);
		return;
	}
	pool->shm = shm;
	pool->holders = 1;
	pool->len = (size_t)size;
	if (map_pool(pool, fd)) {
		wl_list_insert(&pools, &pool->link);
		wl_resource_set_implementation(created, &pool_requests, pool, pool_gone);
	} else {
		wl_resource_post_error(shm, WL_SHM_ERROR_INVALID_FD, "the file cannot be mapped: %s",
				       strerror(errno));
		free(pool);
	}
	/* Closing a file that is not on a tmpfs can wait for a server: do it in a thread. */
	close(fd);
}

static const struct wl_shm_interface shm_requests = {
	.create_pool = create_pool,
};

static void bind_shm(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	struct wl_resource *shm = wl_resource_create(client, &wl_shm_interface, (int)version, id);

	(void)data;
	if (!shm) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(shm, &shm_requests, NULL, NULL);
	wl_shm_send_format(shm, WL_SHM_FORMAT_ARGB8888);
	wl_shm_send_format(shm, WL_SHM_FORMAT_XRGB8888);
}

/* The client may write to the buffer meanwhile, so each pixel is read once, atomically. */
static void show(const struct buffer *buffer)
{
	size_t drawn = 0;
	int32_t x, y;

	for (y = 0; y < buffer->height; y++) {
		const char *line = buffer->pool->map + buffer->offset + (size_t)y * buffer->stride;
		const uint32_t *pixels = (const uint32_t *)(const void *)line;

		for (x = 0; x < buffer->width; x++)
			drawn += __atomic_load_n(&pixels[x], __ATOMIC_RELAXED) != 0;
	}
	printf("%d x %d pixels, %zu of them drawn\n", buffer->width, buffer->height, drawn);
}

static void detach(struct surface *surface)
{
	if (surface->attached)
		wl_list_remove(&surface->attached_gone.link);
	surface->attached = NULL;
}

static void attached_gone(struct wl_listener *listener, void *data)
{
	struct surface *surface = wl_container_of(listener, surface, attached_gone);

	(void)data;
	detach(surface);
}

static void attach(struct wl_client *client, struct wl_resource *resource,
		   struct wl_resource *buffer, int32_t x, int32_t y)
{
	struct surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	(void)x;
	(void)y;
	detach(surface);
	if (!buffer)
		return;
	surface->attached = buffer;
	surface->attached_gone.notify = attached_gone;
	wl_resource_add_destroy_listener(buffer, &surface->attached_gone);
}

static void callback_gone(struct wl_resource *resource)
{
	wl_list_remove(wl_resource_get_link(resource));
}

static void frame(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct surface *surface = wl_resource_get_user_data(resource);
	struct wl_resource *callback = wl_resource_create(client, &wl_callback_interface, 1, id);

	if (!callback) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(callback, NULL, NULL, callback_gone);
	wl_list_insert(surface->callbacks.prev, wl_resource_get_link(callback));
}

static void commit(struct wl_client *client, struct wl_resource *resource)
{
	struct surface *surface = wl_resource_get_user_data(resource);
	struct wl_resource *callback, *next;

	(void)client;
	if (surface->attached) {
		show(wl_resource_get_user_data(surface->attached));
		wl_buffer_send_release(surface->attached);
	}
	wl_resource_for_each_safe(callback, next, &surface->callbacks) {
		wl_callback_send_done(callback, 0);
		wl_resource_destroy(callback);
	}
}

static void damage(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y,
		   int32_t width, int32_t height)
{
	(void)client;
	(void)resource;
	(void)x;
	(void)y;
	(void)width;
	(void)height;
}

static void set_region(struct wl_client *client, struct wl_resource *resource,
		       struct wl_resource *region)
{
	(void)client;
	(void)resource;
	(void)region;
}

static void set_number(struct wl_client *client, struct wl_resource *resource, int32_t number)
{
	(void)client;
	(void)resource;
	(void)number;
}

static const struct wl_surface_interface surface_requests = {
	.destroy = destroy_resource,
	.attach = attach,
	.damage = damage,
	.frame = frame,
	.set_opaque_region = set_region,
	.set_input_region = set_region,
	.commit = commit,
	.set_buffer_transform = set_number,
	.set_buffer_scale = set_number,
	.damage_buffer = damage,
};

static void surface_gone(struct wl_resource *resource)
{
	struct surface *surface = wl_resource_get_user_data(resource);
	struct wl_resource *callback, *next;

	detach(surface);
	wl_resource_for_each_safe(callback, next, &surface->callbacks)
		wl_resource_destroy(callback);
	free(surface);
}

static void create_surface(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct surface *surface = calloc(1, sizeof(*surface));
	struct wl_resource *created;

	created = wl_resource_create(client, &wl_surface_interface,
				     wl_resource_get_version(resource), id);
	if (!surface || !created) {
		free(surface);
		wl_client_post_no_memory(client);
		return;
	}
	wl_list_init(&surface->callbacks);
	wl_resource_set_implementation(created, &surface_requests, surface, surface_gone);
}

static void change_region(struct wl_client *client, struct wl_resource *resource, int32_t x,
			  int32_t y, int32_t width, int32_t height)
{
	damage(client, resource, x, y, width, height);
}

static const struct wl_region_interface region_requests = {
	.destroy = destroy_resource,
	.add = change_region,
	.subtract = change_region,
};

static void create_region(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct wl_resource *created = wl_resource_create(client, &wl_region_interface, 1, id);

	(void)resource;
	if (!created) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(created, &region_requests, NULL, NULL);
}

static const struct wl_compositor_interface compositor_requests = {
	.create_surface = create_surface,
	.create_region = create_region,
};

static void bind_compositor(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	struct wl_resource *resource;

	(void)data;
	resource = wl_resource_create(client, &wl_compositor_interface, (int)version, id);
	if (!resource) {
		wl_client_post_no_memory(client);
		return;
	}
	wl_resource_set_implementation(resource, &compositor_requests, NULL, NULL);
}

int main(int argc, char *argv[])
{
	struct wl_display *display;

	if (argc != 2) {
		fprintf(stderr, "usage: shm-server SOCKET\n");
		return EXIT_FAILURE;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	wl_list_init(&pools);
	start_protecting();

	display = wl_display_create();
	if (!display || wl_display_add_socket(display, argv[1])) {
		perror("shm-server: no socket");
		return EXIT_FAILURE;
	}
	/* Not version 2: with that a client could destroy the wl_shm that errors are posted on. */
	if (!wl_global_create(display, &wl_shm_interface, 1, NULL, bind_shm) ||
	    !wl_global_create(display, &wl_compositor_interface, 4, NULL, bind_compositor) ||
	    (device >= 0 && !wl_event_loop_add_fd(wl_display_get_event_loop(display), device,
						 WL_EVENT_READABLE, send_liars_away, NULL))) {
		perror("shm-server");
		return EXIT_FAILURE;
	}
	wl_display_run(display);
	wl_display_destroy(display);
	return EXIT_SUCCESS;
}
