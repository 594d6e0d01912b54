#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Builds build/KERNEL/nosigbus.ko for a kernel of tests/kernel.sh, inside the
# toolchain root; build/stock-FLAVOUR/nosigbus.ko for a flavour of the stock kernel.
#
# usage: build-module.sh stock|debug|full|kcsan [MAKE-ARGUMENT...]
#
# OUT: a directory to use in place of build/KERNEL. SOURCE: the module's source, in place of this
# checkout. LOG: a name for the log, in place of module-KERNEL.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from the kernel's make.
unset MAKEFLAGS MFLAGS MAKELEVEL

kernel=$1
shift
dir=$("$REPO/tests/kernel.sh" "$kernel")
out=${OUT:-$REPO/build/$(kernel_name "$kernel")}
source=${SOURCE:-$REPO}
mapfile -t args < <(xargs -n1 <"$dir/make-args")

step "Module: building it for $kernel kernel $(cat "$dir/release")"
mkdir -p "$out"
logged "${LOG:-module-$(kernel_name "$kernel")}" "$REPO/tests/toolchain.sh" run make -C "$dir/build" "${args[@]}" \
	"KERNELRELEASE=$(cat "$dir/release")" "M=$source" "MO=$out" "-j$(nproc)" "$@" modules ||
	die "the module did not build" "mend what the compiler complains of"
# Show warnings to developers of the module.
grep -A9 -E '^(warning|error)|: warning:' "$CURRENT_LOG" >&2 || true
