#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/profile.sh [CONTEST...]
#
# Shows which functions execute the instructions that tests/bench.sh counts. A QEMU plugin
# (tests/profile) counts each instruction while the benchmarks measure those contests.
# tests/profile.py then prints a table for each contest: instructions per page or per call, by
# function. build/profile/profile.txt has the tables too.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=build/profile
contests=("$@")
if ((!$#)); then
	contests=(inside-memfd-read inside-memfd-private-read inside-memfd-write inside-memfd-private-write
		isolated-read read first-access write sigbus enable-disable-untouched write-below-memfd)
fi

cd "$REPO"
make -s build/stock/nosigbus.ko
mkdir -p "$out"
step "Profile: building it"
logged bench inside make -C tests/bench CC=gcc-14 "OUT=$REPO/$out" ||
	die "the benchmarks did not build" "mend what the compiler complains of"
# QEMU 9 refuses plugins of API version 1. The functions that this plugin uses have not changed.
qemu=$(inside qemu-system-x86_64 --version | sed -En '1s/.* version ([0-9]+)\..*/\1/p')
logged profile inside gcc-14 -O2 -Wall -Wextra -Werror -shared -fPIC \
	"-DQEMU_PLUGIN_VERSION=$((qemu < 9 ? 1 : 2))" \
	-o "$REPO/$out/plugin.so" "$REPO/tests/profile/plugin.c" ||
	die "the plugin did not build" "mend what the compiler complains of"

step "Profile: in a guest whose clock counts instructions"
# Spaces around each, for bench.h.
BENCH_PROFILE=" ${contests[*]} " BOOT_ENV=BENCH_PROFILE BOOT_ICOUNT=yes \
	BOOT_PLUGIN="$out/plugin.so,out=$out/counts" \
	tests/boot.sh -- tests/guest/bench.sh "$out" faults sigbus calls >"$out/values.txt"

for contest in "${contests[@]}"; do
	grep -q "^value $contest " "$out/values.txt" ||
		die "no benchmark has a contest $contest" "take one of tests/bench/{faults,sigbus,calls}.c"
done

inside c++filt <"$out/kallsyms" >"$out/symbols"
inside python3 tests/profile.py "$out/values.txt" "$out/counts" "$out/symbols" | tee "$out/profile.txt"
