#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Builds samples/ into build/samples, inside the toolchain root. With MACHINE=arm64, builds them into
# build/samples-arm64.
#
# usage: build-samples.sh [CARGO-SUBCOMMAND ARGUMENT...]

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if (($# == 0)); then
	set -- build --release
fi
step "Samples: cargo $*"
cd "$REPO/samples"
logged samples "$REPO/tests/toolchain.sh" run env "${CARGO_SETTINGS[@]}" cargo "$@" ||
	die "cargo $1 failed" "see the log; if it is the network, run this again"
