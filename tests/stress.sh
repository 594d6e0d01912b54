#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The stress test: builds it, and runs it in a guest.
#
# usage: stress.sh KERNEL RESULTDIR
#
# STRESS_SECONDS is how long it is to take (1200), SEED what to repeat. The result is
# RESULTDIR/stress.tap. Exit statuses as of boot.sh.

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
# Setting up, the end of all processes, and the search for leaks take their time as well.
BOOT_ENV="STRESS_SECONDS STRESS_MEMORY SEED" BOOT_TIMEOUT=$((STRESS_SECONDS + 900)) \
	tests/boot.sh --kernel "$kernel" -- tests/guest/stress.sh build/stress/stress "$results"
