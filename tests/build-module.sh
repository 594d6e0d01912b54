#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Builds build/KERNEL/nosigbus.ko for a kernel of tests/kernel.sh, inside the
# toolchain root.
#
# usage: build-module.sh stock|debug|full|kcsan [MAKE-ARGUMENT...]

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# The kernel's make is not to see what ours was given.
unset MAKEFLAGS MFLAGS MAKELEVEL

kernel=$1
shift
dir=$("$REPO/tests/kernel.sh" "$kernel")
out=${OUT:-$REPO/build/$kernel}
mapfile -t args < <(xargs -n1 <"$dir/make-args")

step "Module: building it for $kernel kernel $(cat "$dir/release")"
mkdir -p "$out"
logged "module-$kernel" "$REPO/tests/toolchain.sh" run make -C "$dir/build" "${args[@]}" \
	"KERNELRELEASE=$(cat "$dir/release")" "M=$REPO" "MO=$out" "-j$(nproc)" "$@" modules ||
	die "the module did not build" "mend what the compiler complains of"
# Warnings are for those who change the module to see.
grep -A9 -E '^(warning|error)|: warning:' "$CURRENT_LOG" >&2 || true
