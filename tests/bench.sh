#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/bench.sh [--record]
#
# Builds the benchmarks (tests/bench) and the module, and runs the benchmarks in two guests with the
# stock kernel. tests/bench.py then prints a table of the results, and writes build/bench/bench.json
# and build/bench/performance.svg. --record: also writes the table and the chart to Documentation,
# and the figures to tests/bench/previous.json. The next run prints these beside its own figures.
#
# In the first guest the clock counts instructions (BOOT_ICOUNT), so that figures do not depend on
# the machine and its load. The second guest has two CPUs and a wall clock.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

record=
case ${1-} in
--record)
	record=yes
	[[ -z $(git -C "$REPO" status --porcelain) ]] ||
		die "what is recorded has to be of a commit" "commit, or put away, what git status shows"
	;;
'') ;;
*) sed -n '4s/^# /usage: /p' "$0" >&2 && exit 2 ;;
esac

out=build/bench
cd "$REPO"
make -s build/stock/nosigbus.ko
mkdir -p "$out"
step "Benchmarks: building them"
logged bench tests/toolchain.sh run make -C tests/bench CC=gcc-14 "OUT=$REPO/$out" ||
	die "the benchmarks did not build" "mend what the compiler complains of"

failed() {
	tail -n 5 "$1" >&2
	die "a benchmark failed" "see $1"
}

commit=$(git describe --always --dirty --abbrev=12 2>/dev/null) || commit=unknown
step "Benchmarks: in a guest whose clock counts instructions"
BOOT_ICOUNT=yes tests/boot.sh -- tests/guest/bench.sh "$out" faults sigbus frame calls disconnect memory \
	>"$out/instructions.txt" || failed "$out/instructions.txt"
step "Benchmarks: in a guest with two CPUs"
tests/boot.sh -- tests/guest/bench.sh "$out" scaling >"$out/time.txt" || failed "$out/time.txt"

# make rfc_kernel builds the kernel with the series, which takes long.
series=()
if [[ -e build/rfc/measured/release ]]; then
	step "Benchmarks: of the series for linux-mm, in a guest whose clock counts instructions"
	mkdir -p "$out/core"
	logged bench inside make -C tests/bench CC=gcc-14 CORE_MM=1 "OUT=$REPO/$out/core" ||
		die "the benchmarks did not build for the series" "mend what the compiler complains of"
	BOOT_ICOUNT=yes BOOT_KERNEL_DIR=$REPO/build/rfc/measured tests/boot.sh --no-module -- \
		tests/guest/bench.sh "$out/core" faults sigbus frame calls memory >"$out/series.txt" ||
		failed "$out/series.txt"
	series=(--series "$out/series.txt")
	if [[ -e build/rfc/plain/release ]]; then
		for kernel in measured plain; do
			step "Benchmarks: plain mappings in the $kernel kernel"
			BENCH_PLAIN=yes BOOT_ENV=BENCH_PLAIN BOOT_ICOUNT=yes BOOT_KERNEL_DIR=$REPO/build/rfc/$kernel \
				tests/boot.sh --no-module -- tests/guest/bench.sh "$out/core" faults frame calls \
				>"$out/$kernel.txt" || failed "$out/$kernel.txt"
		done
		series+=(--untouched "$out"/{measured,plain}.txt)
	fi
else
	note "the column for the series is left out: make rfc && make rfc_kernel"
fi

step "Benchmarks: what came out"
inside python3 tests/bench.py --commit "$commit" --previous tests/bench/previous.json \
	--json "$out/bench.json" --chart "$out/performance.svg" \
	${record:+--document Documentation/performance.rst} "${series[@]}" \
	"$out/instructions.txt" "$out/time.txt"
if [[ -n $record ]]; then
	cp "$out/performance.svg" Documentation/performance.svg
	cp "$out/bench.json" tests/bench/previous.json
fi
