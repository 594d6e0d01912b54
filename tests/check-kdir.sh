#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Says in one line what a kernel tree lacks to build the module against.
#
# usage: check-kdir.sh KDIR
set -eu

kdir=$1
oldest=7.3

lacks() {
	echo "nosigbus: KDIR=$kdir $1" >&2
	exit 1
}

[ -e "$kdir/Makefile" ] ||
	lacks "is not a kernel tree: give KDIR= the build tree of the kernel to build for"
[ -e "$kdir/include/config/kernel.release" ] ||
	lacks "is not prepared: run 'make modules_prepare' in it"
release=$(cat "$kdir/include/config/kernel.release")
[ "$(printf '%s\n' "$oldest" "${release%%[-+]*}" | sort -V | head -n 1)" = "$oldest" ] ||
	lacks "is Linux $release: the module needs $oldest or newer"
grep -qsx CONFIG_RUST=y "$kdir/include/config/auto.conf" ||
	lacks "has no CONFIG_RUST=y: enable it ('make rustavailable' says what that takes)"
grep -qsx CONFIG_MMU=y "$kdir/include/config/auto.conf" ||
	lacks "has no CONFIG_MMU=y: there is no SIGBUS to prevent without"
[ -e "$kdir/rust/libkernel.rmeta" ] ||
	lacks "has no Rust metadata (rust/libkernel.rmeta): Ubuntu has it in linux-lib-rust-$release; for a kernel of Debian, dkms/kernel-tree.sh makes a tree; for others, unpack the source of the same kernel, copy .config and Module.symvers into it, run 'make modules_prepare', and give that as KDIR"
# Crates that different compilers have made cannot be linked.
rustc=$("${RUSTC:-rustc}" --version 2>/dev/null) || rustc=missing
made=$(LC_ALL=C grep -aom 1 'rustc [0-9][^ ]* ([^)]*)' "$kdir/rust/libcore.rmeta" 2>/dev/null | head -n 1)
case $rustc in
"$made"*) ;;
*) lacks "was made with $made, and ${RUSTC:-rustc} is $rustc: give RUSTC= the same version" ;;
esac
