#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Every test: what a developer's own make says, the model, the selftests in the
# stock kernel, then KUnit and the selftests in the debug kernel. The last line
# reads "N passed, N failed, N skipped".

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

results=build/results
cd "$REPO"
rm -rf "$results"
mkdir -p "$results"
stock=$(tests/kernel.sh stock)
make -s build/stock/nosigbus.ko
make -s build/samples/release/nosigbus-demo

step "Selftests: building them"
rm -rf build/selftests
mkdir -p build/selftests
# The harness is the one of the stock kernel's own selftests.
logged selftests tests/toolchain.sh run make -C tests/selftests CC=gcc-14 \
	"OUT=$REPO/build/selftests" "KSRC=$stock/build" ||
	die "the selftests did not build" "mend what the compiler complains of"

# one_test NAME LABEL STATUS: a test that is one exit status, as TAP and for the report.
one_test() {
	local ok='not ok'
	(($3 != 0)) || ok=ok
	printf 'TAP version 13\n1..1\n%s 1 %s (status %d)\n' "$ok" "$2" "$3" >"$results/$1.tap"
	logs+=("$2=$results/$1.tap")
}

step "Build trees: what plain make says of good and bad ones"
tests/kdir-test.sh "$stock" >"$results/kdir.tap" 2>&1 || note "failed, see below"
logs=("make KDIR=$results/kdir.tap")

step "Model: faults and size changes, all interleavings (some minutes)"
make -s model >/dev/null || note "failed, see below"
logs+=("model=$results/model.tap")

# in_kernel KERNEL: the selftests in a guest. What they found is in their logs;
# boot.sh itself fails if run.sh did, if the guest did not come to an end or if the
# kernel complained, and that is a test as well.
in_kernel() {
	local kernel=$1 status=0 log
	step "Selftests: in the $kernel kernel"
	mkdir -p "$results/$kernel"
	BOOT_TIMEOUT=2400 tests/boot.sh --kernel "$kernel" -- \
		tests/selftests/run.sh build/selftests "$results/$kernel" || status=$?
	for log in "$results/$kernel"/*.tap; do
		logs+=("$kernel $(basename "$log" .tap)=$log")
	done
	one_test "$kernel-boot" "$kernel clean end and clean kernel log" "$status"
}

in_kernel stock

step "Demo: in the stock kernel"
status=0
tests/boot.sh -- build/samples/release/nosigbus-demo --png build/demo.png || status=$?
one_test demo demo "$status"

tests/kernel.sh debug >/dev/null
make -s build/debug/nosigbus.ko
in_kernel debug
logs+=("debug KUnit=build/boot/console-debug.log")

step "Results"
tests/toolchain.sh run tests/report.py "$stock/build" "${logs[@]}"
