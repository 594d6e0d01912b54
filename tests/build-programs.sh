#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Builds the programs that tests/guest/programs.sh runs, into build/programs, or with MACHINE=arm64
# into build/programs-arm64.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

out=$REPO/build/programs$OF_MACHINE
mkdir -p "$out"
cd "$REPO"
tests/toolchain.sh run make -s -C tests/programs "CC=$GUEST_CC" "OUT=$out"
