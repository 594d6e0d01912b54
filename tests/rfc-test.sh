#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make test_rfc: boots the debug kernel with the series for linux-mm. Runs those of the module's
# selftests that apply to it (tests/rfc/cases), the selftest of the series, and the stress program
# for STRESS_SECONDS (60). T=PROGRAM...: only these selftests.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$REPO"
results=build/results/rfc
programs=build/rfc/selftests
tests/toolchain.sh all >/dev/null
kernel=$(tests/rfc-kernel.sh debug)
read -ra only <<<"${T-}"
mapfile -t run < <(inside python3 tests/rfc/cases.py tests/rfc/cases)
((${#only[@]} == 0)) || run=("${only[@]}")

step "RFC: building the selftests for it"
rm -rf "$results"
mkdir -p "$programs" build/rfc/module "$results"
build() { # OUT [VARIABLE...]
	logged rfc-selftests inside make -C tests/selftests "-j$(nproc)" CC=gcc-14 M32= \
		"KSRC=$kernel/source" "OUT=$REPO/$1" "${@:2}" ||
		die "the selftests did not build" "mend what the compiler complains of"
}
build "$programs" CORE_MM=1 "${run[@]/#/$REPO/$programs/}"
((${#only[@]})) || build build/rfc/module
own=tools/testing/selftests/mm/nosigbus.c
inside gcc-14 -std=gnu11 -O2 -Wall -Wextra -I "$kernel/source/tools/testing/selftests" \
	-o "$programs/nosigbus" "$kernel/source/$own"

logged rfc-stress inside make -C tests/stress CC=gcc-14 CORE_MM=1 "KSRC=$kernel/source" "OUT=$REPO/$programs" ||
	die "the stress program did not build" "mend what the compiler complains of"

{
	if ((${#only[@]} == 0)); then
		# On ext4, which supports all ways to move ranges.
		printf 'truncate -s 64M /tmp/ext4.img && mkfs.ext4 -q -F /tmp/ext4.img && mkdir /tmp/ext4 && '
		printf 'mount -o loop /tmp/ext4.img /tmp/ext4 && { (cd /tmp/ext4 && %q) >%q 2>&1; umount /tmp/ext4; }\n' \
			"$REPO/$programs/nosigbus" "$REPO/$results/nosigbus.tap"
		printf 'tests/guest/stress.sh %s/stress %s\n' "$programs" "$results"
	fi
	printf 'tests/guest/selftests.sh %s %s %s\n' "$programs" "$results" "${run[*]/%/,some}"
} >"$results/commands"
status=0
STRESS_SECONDS=${STRESS_SECONDS:-60} BOOT_ENV="STRESS_SECONDS SEED RACE_SECONDS" BOOT_KERNEL_DIR=$kernel \
	BOOT_TIMEOUT=${BOOT_TIMEOUT:-3600} \
	tests/boot.sh --kernel debug --no-module -- tests/guest/run.sh "$results" || status=$?
cp build/boot/console-debug.log "$results/kernel.log"
if ((${#only[@]})); then
	! grep -h '^not ok' "$results"/*.tap || status=1
	exit "$status"
fi
{
	printf 'TAP version 13\n1..1\n'
	((status == 0)) || tests/klog-check.sh "$results/kernel.log" | sed 's/^/# /' || true
	printf '%s 1 clean-end-and-kernel-log (status %d)\n' "$( ((status)) && echo not ok || echo ok)" "$status"
} >"$results/guest.tap"
status=0
inside python3 tests/rfc/cases.py tests/rfc/cases "$results" build/rfc/module >"$results/report" || status=$?
cat "$results/report"
exit "$status"
