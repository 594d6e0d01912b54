#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests a kernel developer's plain "make KDIR=...". It builds with a good tree, and says in one line
# what a bad tree lacks. "make install" installs all files, and "make uninstall" removes them. Prints
# TAP.
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

# good_make ARGUMENT...: make in the copy, with a good tree.
good_make() {
	"$REPO/tests/toolchain.sh" run env TOOLCHAIN=host make -C "$work" KDIR="$good/build" "${args[@]}" \
		"KERNELRELEASE=$(cat "$good/release")" "$@"
}

# The files below DESTDIR, with their modes, but for the lists of depmod.
installed() {
	(cd "$work/dest" && find . -type f -not -name 'modules.*' -printf '%m %P\n' | sort -k2)
}

wanted() {
	cat <<-EOF
		644 lib/modules/$(cat "$good/release")/updates/nosigbus.ko.xz
		755 opt/bin/nosigbus
		644 opt/include/linux/nosigbus.h
		644 opt/lib/libnosigbus_preload.so
		644 opt/lib/modules-load.d/nosigbus.conf
		644 opt/lib/udev/rules.d/60-nosigbus.rules
		644 opt/share/doc/nosigbus/examples/compositor.conf
		644 opt/share/man/man1/nosigbus.1
		644 opt/share/man/man4/nosigbus.4
		644 opt/share/pkgconfig/nosigbus.pc
	EOF
}

echo "TAP version 13"
echo "1..9"
rm -rf "$work"
mkdir -p "$work"

# A copy, as plain make builds in the source tree.
status=0
git -C "$REPO" ls-files -z --cached --others --exclude-standard |
	(cd "$REPO" && xargs -0 cp --parents -t "$work" 2>/dev/null) || true
read -ra args <"$good/make-args"
good_make >"$work/log" 2>&1 || status=1
[[ -s $work/nosigbus.ko ]] || status=1
((status == 0)) || comment <"$work/log"
result "$status" "builds with a good tree"

status=0
good_make install "DESTDIR=$work/dest" prefix=/opt >"$work/log" 2>&1 || status=1
[[ $(installed) == "$(wanted)" ]] || status=1
((status == 0)) || (installed && cat "$work/log") | comment
result "$status" "make install puts all below one prefix"
status=0
good_make uninstall "DESTDIR=$work/dest" prefix=/opt >"$work/log" 2>&1 || status=1
[[ -z $(installed) ]] || status=1
((status == 0)) || (installed && cat "$work/log") | comment
result "$status" "make uninstall removes them"

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
