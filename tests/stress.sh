#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The stress test: builds it, and runs it in a guest.
#
# usage: stress.sh KERNEL RESULTDIR
#
# STRESS_SECONDS: the duration (1200). SEED: the seed of a run to repeat. The result is
# RESULTDIR/stress.tap. The exit statuses are those of boot.sh.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kernel=$1
results=$2
cd "$REPO"
tests/toolchain.sh all >/dev/null
step "Stress: building it"
logged stress make build/stress || die "the stress test did not build" "mend what the compiler complains of"

export STRESS_SECONDS=${STRESS_SECONDS:-1200}
# Setting up, ending all processes, and the leak scan also take time.
BOOT_ENV="STRESS_SECONDS STRESS_MEMORY SEED" BOOT_TIMEOUT=$((STRESS_SECONDS + 900)) \
	tests/boot.sh --kernel "$kernel" -- tests/guest/stress.sh build/stress/stress "$results"
