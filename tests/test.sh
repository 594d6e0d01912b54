#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Every test, in two lanes at a time: one has what needs no kernel and the stock
# kernel, the other the debug kernel. The last line reads "N passed, N failed, N
# skipped".

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

results=build/results
cd "$REPO"
rm -rf "$results"
mkdir -p "$results"
stock=$(tests/kernel.sh stock)
make -s build/stock/nosigbus.ko
make -s build/samples/release/nosigbus{,-compositor,-hostile,-writer} build/crate build/programs

step "Selftests: building them"
for bits in '' 32; do
	rm -rf "build/selftests$bits"
	mkdir -p "build/selftests$bits"
	# The harness is the one of the stock kernel's own selftests.
	logged "selftests$bits" tests/toolchain.sh run make -C tests/selftests CC=gcc-14 \
		"OUT=$REPO/build/selftests$bits" "M32=$bits" "KSRC=$stock/build" ||
		die "the selftests did not build" "mend what the compiler complains of"
done

logs=()

# one_test NAME LABEL STATUS [WHY]: a test that is one exit status, as TAP and for the
# report, after WHY as its diagnostics.
one_test() {
	local ok='not ok'
	(($3 != 0)) || ok=ok
	{
		printf 'TAP version 13\n1..1\n'
		[[ -z ${4-} ]] || printf '# %s\n' "${4//$'\n'/$'\n'# }"
		printf '%s 1 %s (status %d)\n' "$ok" "$2" "$3"
	} >"$results/$1.tap"
	logs+=("$2=$results/$1.tap")
}

# on_host NAME LABEL SCRIPT...: a script that prints TAP.
on_host() {
	step "$2"
	"${@:3}" >"$results/$1.tap" 2>&1 || note "failed, see below"
	logs+=("$2=$results/$1.tap")
}

# guest_ended KERNEL NAME LABEL STATUS: boot.sh fails if its command did, if the guest did
# not come to an end or if the kernel complained, and that is a test as well.
guest_ended() {
	local why=
	# The next guest overwrites the log.
	(($4 == 0)) || why=$(tests/klog-check.sh "build/boot/console-$1.log") || true
	one_test "$2-boot" "$3: clean end and clean kernel log" "$4" "$why"
}

# in_guest KERNEL NAME COMMAND...: what COMMAND's tests found is in the logs it leaves
# in $results/NAME.
in_guest() {
	local name=$2 status=0 log
	mkdir -p "$results/$name"
	BOOT_ENV=FUZZ_CALLS BOOT_TIMEOUT=3600 tests/boot.sh --kernel "$1" -- "${@:3}" || status=$?
	for log in "$results/$name"/*.tap; do
		logs+=("$name $(basename "$log" .tap)=$log")
	done
	guest_ended "$1" "$name" "$name" "$status"
}

# in_kernel KERNEL [RUN-ARGUMENT...]: the selftests and the samples.
in_kernel() {
	step "Selftests and samples: in the $1 kernel"
	# shellcheck disable=SC2016 # for the shell in the guest
	in_guest "$1" "$1" bash -c '
		status=0
		tests/guest/selftests.sh "${@:2}" build/selftests "$1" || status=$?
		tests/guest/samples.sh build/samples/release "$1" || status=$?
		exit $status
	' guest "$results/$1" "${@:2}"
}

# in_kernel_32 KERNEL [PROGRAM...]: the selftests as 32-bit programs, those or all.
# What is particular to these does not depend on the file system.
in_kernel_32() {
	step "Selftests: in the $1 kernel, as 32-bit programs"
	in_guest "$1" "${1}32" tests/guest/selftests.sh --root --few build/selftests32 \
		"$results/${1}32" "${@:2}"
}

# What people use, in the stock kernel.
in_user_space() {
	step "User space: the crate, the command nosigbus, compositors"
	# shellcheck disable=SC2016 # for the shell in the guest
	in_guest stock user-space bash -c '
		status=0
		tests/guest/crate.sh build/crate "$1" || status=$?
		tests/guest/programs.sh "$1" || status=$?
		tests/guest/wayland.sh build/samples/release "$1" || status=$?
		exit $status
	' guest "$results/user-space"
}

stock_lane() {
	on_host kdir "Build trees: what plain make says of good and bad ones" tests/host/kdir.sh "$stock"
	on_host header "Header: in C, in C++, installed" tests/host/header.sh
	on_host man "Man page: format, the header's names, the example" tests/host/man.sh
	on_host crate-test "Crate: builds, documentation, publishing" tests/host/crate.sh
	on_host bench-test "Benchmarks: what is marked and recorded" tests/host/bench-table.sh
	in_user_space
	FUZZ_CALLS=100000 in_kernel stock
	FUZZ_CALLS=100000 in_kernel_32 stock

	step "Demo: in the stock kernel"
	local status=0
	tests/boot.sh -- samples/demo.sh build/samples/release build || status=$?
	one_test demo demo "$status"

	step "Model: faults and size changes, all interleavings (some minutes)"
	make -s model >/dev/null || note "failed, see below"
	logs+=("model=$results/model.tap")
}

debug_lane() {
	tests/kernel.sh debug >/dev/null
	make -s build/debug/nosigbus.ko
	# What an unprivileged user may do does not depend on the kernel.
	in_kernel debug --root
	cp build/boot/console-debug.log "$results/kunit.log"
	logs+=("debug KUnit=$results/kunit.log")
	# There it is no reason to skip anything.
	local status=0 injected=$results/debug/injected.tap
	[[ -s $injected ]] && ! grep -q 'does not inject failures' "$injected" || status=1
	one_test injection "the debug kernel injects failures" "$status"

	step "Stress: a minute in the debug kernel"
	status=0
	STRESS_SECONDS=60 tests/stress.sh debug "$results/stress" >/dev/null || status=$?
	logs+=("stress=$results/stress/stress.tap")
	guest_ended debug stress stress "$status"
	# Those about the uAPI. What a system call does to a mapping does not depend on who
	# calls it.
	FUZZ_CALLS=100000 in_kernel_32 debug abi disable errors eventfd fuzz status
}

# lane NAME: runs NAME_lane, says of each line whose it is, and leaves what the report
# is to read. One that does not come to its end is a failed test.
lane() {
	local status=0 name=$1
	{
		(
			trap 'printf "%s\n" "${logs[@]}" >"$results/$name.logs"' EXIT
			"$1_lane"
		) &
		# So that set -e holds in there.
		wait $! || status=$?
		((status == 0)) || note "the $1 lane ended here"
		one_test "$1-lane" "$1 lane came to its end" "$status"
		printf '%s\n' "${logs[@]}" >>"$results/$1.logs"
	} 2>&1 | sed -u "s/^/[$1] /" >&2
}

lane debug &
lane stock
wait

step "Results"
mapfile -t logs < <(grep . -h "$results"/{stock,debug}.logs)
tests/toolchain.sh run tests/report.py "$stock/build" "${logs[@]}"
