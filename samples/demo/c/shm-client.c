// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A Wayland client that needs only wl_shm and wl_compositor. It shows a frame,
 * and can change the file of the frame. At the end it prints the error that the
 * compositor has sent, or that there was none.
 *
 * usage: shm-client draw|grow|shrink|empty|file PATH
 *
 * draw    shows a frame
 * grow    shows a frame, makes file and pool longer, and shows the new part
 * shrink  shows a frame, shrinks the file to nothing, and shows the frame again
 * empty   shows a frame of a file that is empty
 * file    shows a frame of the file PATH
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wayland-client.h>

#define WIDTH 640
#define HEIGHT 480
#define STRIDE (WIDTH * (int)sizeof(uint32_t))
#define FRAME (STRIDE * HEIGHT)

static struct wl_display *display;
static struct wl_shm *shm;
static struct wl_compositor *compositor;

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

/* Exits. Prints the error that the compositor has sent, or why the connection has failed. */
static void ended(void)
{
	const struct wl_interface *interface = NULL;
	uint32_t code;

	if (wl_display_get_error(display) != EPROTO)
		die("shm-client: the connection");
	code = wl_display_get_protocol_error(display, &interface, NULL);
	printf("told: %s, error %u\n", interface ? interface->name : "an object that is gone", code);
	exit(EXIT_SUCCESS);
}

static void roundtrip(void)
{
	if (wl_display_roundtrip(display) < 0)
		ended();
}

/*
 * Waits for an error, and sends nothing meanwhile. After a request that fails
 * because the compositor has closed the connection, libwayland reads no error.
 */
static void await_error(void)
{
	struct pollfd readable = { .fd = wl_display_get_fd(display), .events = POLLIN };

	if (wl_display_flush(display) < 0)
		ended();
	while (poll(&readable, 1, 30000) > 0)
		if (wl_display_dispatch(display) < 0)
			ended();
}

static void global(void *data, struct wl_registry *registry, uint32_t name, const char *interface,
		   uint32_t version)
{
	(void)data;
	(void)version;
	if (!strcmp(interface, wl_shm_interface.name))
		shm = wl_registry_bind(registry, name, &wl_shm_interface, 1);
	else if (!strcmp(interface, wl_compositor_interface.name))
		compositor = wl_registry_bind(registry, name, &wl_compositor_interface, 1);
}

static void global_gone(void *data, struct wl_registry *registry, uint32_t name)
{
	(void)data;
	(void)registry;
	(void)name;
}

static const struct wl_registry_listener globals = {
	.global = global,
	.global_remove = global_gone,
};

static void done(void *data, struct wl_callback *callback, uint32_t time)
{
	(void)time;
	*(bool *)data = true;
	wl_callback_destroy(callback);
}

static const struct wl_callback_listener frame_listener = { .done = done };

static void show(struct wl_surface *surface, struct wl_buffer *buffer)
{
	bool shown = false;

	wl_surface_attach(surface, buffer, 0, 0);
	wl_surface_damage(surface, 0, 0, WIDTH, HEIGHT);
	wl_callback_add_listener(wl_surface_frame(surface), &frame_listener, &shown);
	wl_surface_commit(surface);
	while (!shown) {
		if (wl_display_dispatch(display) < 0)
			ended();
	}
}

static void draw(int fd, off_t offset)
{
	static uint32_t pixels[FRAME / sizeof(uint32_t)];
	size_t i;

	for (i = 0; i < FRAME / sizeof(uint32_t); i++)
		pixels[i] = 0xff22aa44;
	if (pwrite(fd, pixels, FRAME, offset) != FRAME)
		die("shm-client: pwrite");
}

static struct wl_buffer *buffer_at(struct wl_shm_pool *pool, int offset)
{
	return wl_shm_pool_create_buffer(pool, offset, WIDTH, HEIGHT, STRIDE,
					 WL_SHM_FORMAT_XRGB8888);
}

int main(int argc, char *argv[])
{
	const char *mode = argc > 1 ? argv[1] : "";
	struct wl_registry *registry;
	struct wl_surface *surface;
	struct wl_shm_pool *pool;
	struct wl_buffer *buffer;
	bool file = !strcmp(mode, "file");
	int fd;

	if (argc != (file ? 3 : 2)) {
		fprintf(stderr, "usage: shm-client draw|grow|shrink|empty|file PATH\n");
		return EXIT_FAILURE;
	}
	display = wl_display_connect(NULL);
	if (!display)
		die("shm-client: no compositor (is WAYLAND_DISPLAY set?)");
	registry = wl_display_get_registry(display);
	wl_registry_add_listener(registry, &globals, NULL);
	roundtrip();
	if (!shm || !compositor) {
		fprintf(stderr, "shm-client: the compositor lacks wl_shm or wl_compositor\n");
		return EXIT_FAILURE;
	}

	fd = file ? open(argv[2], O_RDWR | O_CLOEXEC) : memfd_create("wl_shm", MFD_CLOEXEC);
	if (fd < 0)
		die("shm-client: the file");
	if (!file && strcmp(mode, "empty"))
		draw(fd, 0);
	pool = wl_shm_create_pool(shm, fd, FRAME);
	buffer = buffer_at(pool, 0);
	surface = wl_compositor_create_surface(compositor);
	show(surface, buffer);

	if (!strcmp(mode, "grow")) {
		draw(fd, FRAME);
		wl_shm_pool_resize(pool, 2 * FRAME);
		show(surface, buffer_at(pool, FRAME));
	} else if (!strcmp(mode, "shrink")) {
		if (ftruncate(fd, 0))
			die("shm-client: ftruncate");
	}
	/*
	 * The compositor reads the frame again, and finds out that the file has changed.
	 * That a file is empty it knows already: see await_error().
	 */
	if (strcmp(mode, "empty"))
		show(surface, buffer);
	if (strcmp(mode, "draw") && strcmp(mode, "grow"))
		await_error();
	else
		roundtrip();
	printf("nothing was told\n");
	return EXIT_SUCCESS;
}
