#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make kcsan: runs the tests in which processes and threads race, in a kernel with
# KCSAN. A race that involves the module is a failure. Other races are only counted:
# KCSAN_STRICT also reports races in the kernel's own code.
#
# usage: kcsan.sh [PROGRAM...]    of tests/selftests
#
# RACE_SECONDS (10) and FUZZ_CALLS (20000) limit the programs race and fuzz.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$REPO"
tests/toolchain.sh all >/dev/null
results=build/results/kcsan log=build/boot/console-kcsan.log
# few: programs that run on a few file systems only. all: programs in which all kinds of mappings
# matter more.
few=(race growth io_errors_kept_pages status eventfd io_errors_recorded fuzz)
all=(abi concurrency module shadow fdinfo_debugfs)
if (($#)); then
	few=("$@") all=()
fi
rm -rf "$results"
mkdir -p "$results" build/selftests
stock=$(tests/kernel.sh stock)
make -s build/kcsan/nosigbus.ko

step "Selftests: building them"
logged selftests tests/toolchain.sh run make -C tests/selftests CC=gcc-14 \
	"OUT=$REPO/build/selftests" "KSRC=$stock/source" ||
	die "the selftests did not build" "mend what the compiler complains of"

# KCSAN sees only accesses that the compiler has instrumented.
for object in nosigbus helpers/helpers; do
	calls=$(tests/toolchain.sh run llvm-objdump-19 -dr "build/kcsan/rust/$object.o" |
		grep -cE '__tsan_(unaligned_|volatile_)?(read|write)') || true
	((calls)) || die "rust/$object.o is not instrumented" \
		"see what Kbuild asks for if CONFIG_KCSAN is set"
	note "rust/$object.o: KCSAN is told of accesses in $calls places"
done

step "Selftests: in the kernel with KCSAN"
status=0
# shellcheck disable=SC2016 # for the shell in the guest
RACE_SECONDS=${RACE_SECONDS:-10} FUZZ_CALLS=${FUZZ_CALLS:-20000} \
	BOOT_ENV='RACE_SECONDS FUZZ_CALLS' BOOT_TIMEOUT=${BOOT_TIMEOUT:-3600} \
	tests/boot.sh --kernel kcsan -- bash -c '
		status=0
		results=$1 few=($2) all=($3)
		tests/guest/selftests.sh build/selftests "$results" "${few[@]/%/,few}" "${all[@]}" || status=$?
		cat /sys/kernel/debug/kcsan >"$results/counters"
		exit $status
	' guest "$results" "${few[*]}" "${all[*]}" || status=$?

step "Results"
reports() { # KIND: titles, with how often each
	tests/klog-check.sh --kcsan "$1" "$log" |
		sed -n 's/.*BUG: KCSAN: //p' | LC_ALL=C sort | uniq -c | sort -rn
}
for kind in ours native others; do
	tests/klog-check.sh --kcsan $kind "$log" >"$results/$kind"
done
mapfile -t ours < <(reports ours)
mapfile -t native < <(reports native)
mapfile -t others < <(reports others)
# KCSAN's self-test has passed: otherwise the kernel would not have booted.
watchpoints=$(sed -n 's/^setup_watchpoints: *//p' "$results/counters") || true
printf '%s accesses watched\n' "${watchpoints:-no}"
printf '%d reports without the module, %d different ones:\n' \
	"$(grep -c 'BUG: KCSAN:' "$results/others")" "${#others[@]}"
printf '%s\n' "${others[@]}"
printf '%d reports of what core code does for it, %d different ones:\n' \
	"$(grep -c 'BUG: KCSAN:' "$results/native")" "${#native[@]}"
printf '%s\n' "${native[@]}"
printf '%d reports with it, %d different ones:\n' \
	"$(grep -c 'BUG: KCSAN:' "$results/ours")" "${#ours[@]}"
printf '%s\n' "${ours[@]}"
((${watchpoints:-0})) || die "KCSAN has watched nothing" "see $log"
logs=("kcsan KUnit=$log")
for program in "$results"/*.tap; do
	logs+=("kcsan $(basename "$program" .tap)=$program")
done
tests/toolchain.sh run tests/report.py "$stock/source" "${logs[@]}" || status=1
exit "$status"
