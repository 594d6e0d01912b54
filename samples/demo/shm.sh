#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs a hostile client against a Wayland compositor that maps its file, and against
# the same compositor with its mappings opted in. Needs the nosigbus module and
# Weston's demo clients. Exits 1 if a step does not go as expected.
#
# usage: shm.sh BINDIR PICTUREDIR
#
# BINDIR has nosigbus-compositor and nosigbus-hostile. The script writes pictures of the
# screen to PICTUREDIR: demo-plain-last-frame.png, demo-protected-before.png and
# demo-protected-after.png.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

work=$(mktemp -d)
frames=$work/frames
mkdir -p "$2" "$frames"
pictures=$(realpath "$2")/demo
rm -f "$pictures"-*.png
cp "$1"/nosigbus-{compositor,hostile} "$work"
cd "$work"
PATH=$work:$PATH
export XDG_RUNTIME_DIR=$work WAYLAND_DISPLAY=demo
ulimit -c 0
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

COLOR=22aa44 WIDTH=300 HEIGHT=260
HOSTILE_COLOR=cc2222 HOSTILE_WIDTH=240 HOSTILE_HEIGHT=200

# begin ARGUMENT...: starts the compositor, three clients that keep to the rules, and the
# hostile client. The compositor shows the hostile client for a second before it attacks.
begin() {
	rm -f demo "$frames"/*
	nosigbus-compositor --socket demo --pictures "$frames" "$@" &>compositor.log &
	compositor=$!
	await "the compositor" test -S demo
	nosigbus-hostile --color $COLOR --size ${WIDTH}x$HEIGHT paint &>paint.log &
	clients=($!)
	await "the first client" grep -q shown paint.log
	WAYLAND_DEBUG=client weston-simple-shm &>shm.log &
	clients+=($!)
	await "weston-simple-shm" grep -q 'wl_buffer.*release' shm.log
	WAYLAND_DEBUG=client weston-flower &>flower.log &
	clients+=($!)
	await "weston-flower" grep -q 'wl_surface.*attach' flower.log
	nosigbus-hostile --color $HOSTILE_COLOR --size ${HOSTILE_WIDTH}x$HOSTILE_HEIGHT \
		--hold 25 shrink >hostile.log &
	hostile=$!
	await "the hostile client" has_ended $hostile
}

shows() { # COLOR FILE PIXELS
	[[ $(nosigbus-hostile --color "$1" pixels "$2") == "$3" ]]
}

# keep_before NAME: keeps the last frame that shows the hostile client. It must show the other
# clients too.
keep_before() {
	local file
	for file in $(printf '%s\n' "$frames"/*.png | tac); do
		if shows $HOSTILE_COLOR "$file" $((HOSTILE_WIDTH * HOSTILE_HEIGHT)); then
			shows $COLOR "$file" $((WIDTH * HEIGHT)) || fail "$file does not show the others"
			cp "$file" "$pictures-$1.png"
			return
		fi
	done
	fail "no frame shows the hostile client"
}

echo "A Wayland compositor maps the files of its four clients. One of the clients shrinks its"
echo "file to nothing while it is shown."
echo
echo "1. A plain compositor:"
begin
await "the end of the plain compositor" has_ended $compositor
status=0
wait $compositor || status=$?
((status == BUS)) || fail "it should have died of SIGBUS, and ended with status $status: $(<compositor.log)"
echo "   compositor: killed by signal 7 (SIGBUS)"
wait "${clients[@]}" || true
keep_before plain-last-frame
echo "   its clients: gone with it"
echo
echo "2. The same compositor, with the mappings opted in (--protect):"
begin --protect
grep -q '^told: error 2: ' hostile.log || fail "the hostile client is not told: $(<hostile.log)"
sed 's/^nosigbus-//; s/^/   /' compositor.log
sed -n 's/^told: /   hostile client: told by the compositor: /p' hostile.log
nosigbus-hostile capture "$pictures-protected-after.png" || fail "no capture"
shows $COLOR "$pictures-protected-after.png" $((WIDTH * HEIGHT)) || fail "not all is shown"
shows $HOSTILE_COLOR "$pictures-protected-after.png" 0 || fail "the hostile client is still shown"
for client in "${clients[@]}"; do
	kill -0 "$client" || fail "another client is gone"
done
echo "   compositor: goes on; the others are shown as before, also in a screen capture"
keep_before protected-before
kill "${clients[@]}" $compositor
wait "${clients[@]}" $compositor || true
echo
echo "Pictures: $pictures-*.png"
rm -rf "$work"
