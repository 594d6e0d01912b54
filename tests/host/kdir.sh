#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests a kernel developer's plain "make KDIR=...". It builds with a good tree, and says in one line
# what a bad tree lacks. Prints TAP.
#
# usage: kdir.sh [KERNEL-DIRECTORY]    as tests/kernel.sh prints it; the stock one

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL

good=${1:-$("$REPO/tests/kernel.sh" stock)}
work=$REPO/build/kdir-test
number=0

comment() {
	sed 's/^/# /'
}

result() { # STATUS NAME
	number=$((number + 1))
	if (($1 == 0)); then
		echo "ok $number $2"
	else
		echo "not ok $number $2"
	fi
}

# expect_refusal NAME TEXT KDIR: make fails, and its first line has TEXT in it.
expect_refusal() {
	local output status=0
	output=$(make -s -C "$REPO" KDIR="$3" 2>&1) && status=1
	[[ $(head -n 1 <<<"$output") == "nosigbus: KDIR=$3 "*"$2"* ]] || status=1
	((status == 0)) || comment <<<"$output"
	result "$status" "$1"
}

# A tree that looks like a good one, to take something away from.
tree() {
	rm -rf "$work/tree"
	mkdir -p "$work/tree/include/config" "$work/tree/rust"
	touch "$work/tree/Makefile" "$work/tree/rust/libkernel.rmeta"
	echo 7.3.0 >"$work/tree/include/config/kernel.release"
	printf 'CONFIG_RUST=y\nCONFIG_MMU=y\n' >"$work/tree/include/config/auto.conf"
}

echo "TAP version 13"
echo "1..8"
rm -rf "$work"
mkdir -p "$work"

# A copy, as plain make builds in the source tree.
status=0
git -C "$REPO" ls-files -z --cached --others --exclude-standard |
	(cd "$REPO" && xargs -0 cp --parents -t "$work" 2>/dev/null) || true
read -ra args <"$good/make-args"
"$REPO/tests/toolchain.sh" run make -C "$work" KDIR="$good/build" "${args[@]}" \
	"KERNELRELEASE=$(cat "$good/release")" >"$work/log" 2>&1 || status=1
[[ -s $work/nosigbus.ko ]] || status=1
((status == 0)) || comment <"$work/log"
result "$status" "builds with a good tree"

expect_refusal "no tree" "is not a kernel tree" "$work/nowhere"
tree
rm "$work/tree/include/config/kernel.release"
expect_refusal "not prepared" "make modules_prepare" "$work/tree"
tree
echo 6.12.9-amd64 >"$work/tree/include/config/kernel.release"
expect_refusal "too old" "needs 7.3" "$work/tree"
tree
echo CONFIG_MMU=y >"$work/tree/include/config/auto.conf"
expect_refusal "no CONFIG_RUST" "has no CONFIG_RUST=y" "$work/tree"
tree
echo CONFIG_RUST=y >"$work/tree/include/config/auto.conf"
expect_refusal "no CONFIG_MMU" "has no CONFIG_MMU=y" "$work/tree"
tree
rm "$work/tree/rust/libkernel.rmeta"
expect_refusal "no Rust metadata" "has no Rust metadata" "$work/tree"
tree
printf 'rust\0rustc 1.90.0 (0123456789 2026-01-01)\0' >"$work/tree/rust/libcore.rmeta"
export RUSTC=$work/rustc
printf '#!/bin/sh\necho "rustc 1.91.0 (abcdef 2026-02-02)"\n' >"$RUSTC"
chmod +x "$RUSTC"
expect_refusal "another Rust compiler" "was made with rustc 1.90.0 (0123456789 2026-01-01), and $RUSTC is rustc 1.91.0" "$work/tree"
