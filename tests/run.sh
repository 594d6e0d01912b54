#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make run: prepares what the demo needs and nothing else, boots Debian's stock kernel with the
# module, and runs samples/demo/shm.sh there. Independent parts are built side by side.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

cd "$REPO"
release=build/samples/release
# First, because two processes cannot install host packages at once.
tests/toolchain.sh host
make -s "build/$(kernel_name stock)/nosigbus.ko" >&2 &
module=$!
tests/build-samples.sh build --release -p nosigbus-compositor -p nosigbus-hostile || {
	kill $module
	exit 1
}
wait $module
tests/boot.sh -- samples/demo/shm.sh $release build
printf '\nmake run took %d s. %s\n' "$SECONDS" "$(tests/speed.sh)"
