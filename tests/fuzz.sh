#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make fuzz: Debian's trinity against /dev/nosigbus and the memory calls around
# it (tests/fuzz), as an unprivileged user in the stock kernel.
#
# FUZZ_CALLS (1000000): the number of calls. FUZZ_SEED (1): the seed of trinity's first run.
# FUZZ_KERNEL: another kernel of tests/kernel.sh.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$REPO"
tests/toolchain.sh all >/dev/null
kernel=${FUZZ_KERNEL:-stock} results=build/results/fuzz
rm -rf "$results"
mkdir -p "$results" build/fuzz
stock=$(tests/kernel.sh stock)
make -s "build/$kernel/nosigbus.ko"
step "Fuzzing: building what trinity is to know of the device"
logged fuzz tests/toolchain.sh run gcc-14 -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared \
	-I include/uapi -o build/fuzz/trinity.so tests/fuzz/trinity.c ||
	die "tests/fuzz/trinity.c did not build" "mend what the compiler complains of"

step "Fuzzing: ${FUZZ_CALLS:-1000000} calls in the $kernel kernel"
status=0
BOOT_TIMEOUT=${BOOT_TIMEOUT:-14400} tests/boot.sh --kernel "$kernel" -- \
	tests/guest/fuzz.sh build/fuzz/trinity.so "$results" "${FUZZ_CALLS:-1000000}" "${FUZZ_SEED:-1}" \
	>"$results/fuzz.tap" || status=$?
cat "$results/fuzz.tap" "$results/runs" || true
tests/toolchain.sh run tests/report.py "$stock/source" "fuzz=$results/fuzz.tap" || status=1
exit "$status"
