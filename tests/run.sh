#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make run: sets up what the demo takes, boots Debian's stock kernel with the module, and
# runs samples/demo.sh there. What does not depend on each other is made side by side, and
# no more than that takes.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

cd "$REPO"
release=build/samples/release
# Two that install packages of the host at once would get into each other's way.
tests/toolchain.sh host
make -s "build/$(kernel_name stock)/nosigbus.ko" >&2 &
module=$!
tests/build-samples.sh build --release -p nosigbus-compositor -p nosigbus-hostile || {
	kill $module
	exit 1
}
wait $module
tests/boot.sh -- samples/demo.sh $release build
printf '\nmake run took %d s. %s\n' "$SECONDS" "$(tests/speed.sh)"
