#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# How each compositor is started without a screen (source it, do not run it), in the root
# that tests/toolchain.sh compositors makes.

# shellcheck disable=SC2034 # for those who source this
bus='' host=''
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# set_command COMPOSITOR: its $environment and $command.
set_command() {
	environment=()
	case $1 in
	sway) command=(sway --config "$configs/sway.conf") ;;
	labwc) command=(labwc -C "$configs/labwc") ;;
	# It is for one program, and each ends with the other. This one has no keyboard: foot dies of a
	# virtual one without a keymap.
	cage) command=(cage -- nosigbus-hostile paint) ;;
	phoc) command=(phoc -C "$configs/phoc.ini") ;;
	weston)
		command=(weston --backend=headless --renderer=pixman --width=800 --height=600
			--shell=desktop "--config=$configs/../guest/weston.ini" --debug --socket=wayland-0)
		;;
	kwin)
		environment=(KWIN_COMPOSE=Q KDE_DEBUG=1)
		command=(kwin_wayland --virtual --width 800 --height 600 --no-lockscreen --no-global-shortcuts
			--no-kactivities)
		;;
	mutter) command=(mutter --headless --wayland --no-x11 --virtual-monitor 800x600) ;;
	mir)
		command=(miral-shell --platform-display-libs=mir:wayland "--wayland-host=$XDG_RUNTIME_DIR/host/wayland-0"
			--platform-rendering-libs=mir:egl-generic --add-wayland-extensions=all)
		;;
	*) return 1 ;;
	esac
	case $1 in
	sway | labwc | cage | phoc)
		environment+=(WLR_BACKENDS=headless WLR_RENDERER=pixman)
		;;
	esac
}

# start_compositor COMPOSITOR DIRECTORY [COMMAND...]: in the background, as process $compositor,
# by that command, with that directory for its socket and its log.
start_compositor() {
	local environment command directory=$2
	[[ -z ${bus-} ]] || stop_others
	rm -rf "$directory"
	mkdir -m 700 "$directory"
	mkdir "$directory/home"
	XDG_RUNTIME_DIR=$directory
	set_command "$1"
	[[ $1 != mir ]] || start_host
	shift 2
	dbus-daemon --session --nofork --nosyslog "--address=unix:path=$directory/bus" &>"$directory/bus.log" &
	bus=$!
	env -u WAYLAND_DISPLAY -u DISPLAY "HOME=$directory/home" "XDG_RUNTIME_DIR=$directory" \
		"DBUS_SESSION_BUS_ADDRESS=unix:path=$directory/bus" LIBGL_ALWAYS_SOFTWARE=1 LC_ALL=C.UTF-8 \
		"${environment[@]}" "$@" "${command[@]}" &>"$directory/log" &
	compositor=$!
}

# start_host: the compositor that has Mir's screen as a window, as process $host.
start_host() {
	mkdir -m 700 "$XDG_RUNTIME_DIR/host"
	XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR/host weston --backend=headless --renderer=pixman --width=800 --height=600 \
		--shell=kiosk "--config=$configs/../guest/weston.ini" --socket=wayland-0 &>"$XDG_RUNTIME_DIR/host.log" &
	host=$!
	await test -S "$XDG_RUNTIME_DIR/host/wayland-0"
}

# find_socket: sets $WAYLAND_DISPLAY, once there is one.
find_socket() {
	local socket
	for socket in "$XDG_RUNTIME_DIR"/wayland-*; do
		if [[ -S $socket ]]; then
			WAYLAND_DISPLAY=${socket##*/}
			return
		fi
	done
	return 1
}

# stop_compositor [SIGNAL]: and what was started with it.
stop_compositor() {
	kill "-${1-TERM}" "$compositor" 2>/dev/null || true
	await has_ended "$compositor" || kill -KILL "$compositor" || true
	wait "$compositor" || true
	compositor=
	stop_others
}

stop_others() {
	kill "$bus" ${host:+"$host"} || true
	wait "$bus" ${host:+"$host"} || true
	bus='' host=''
}

has_ended() { # PROCESS
	! kill -0 "$1"
}
