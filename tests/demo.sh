#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make demo: prepares everything, boots Debian's stock kernel with the module and with the root of
# Debian's compositors, and runs samples/demo/desktop.sh there.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

cd "$REPO"
BOOT_ROOT=$(tests/toolchain.sh compositors)
export BOOT_ROOT
make -s "build/$(kernel_name stock)/nosigbus.ko" >&2
tests/build-samples.sh
tests/boot.sh -- samples/demo/desktop.sh build/samples/release build/pictures
printf '\nmake demo took %d s. %s\n' "$SECONDS" "$(tests/speed.sh)"
