#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The kernels with the series for linux-mm, of the tree that make rfc has left in build/rfc/linux.
# Builds one, or what has changed of it, in build/rfc/KIND, and prints that directory: boot.sh takes
# it as BOOT_KERNEL_DIR.
#
#   tests/rfc-kernel.sh debug     all checkers and file systems: tests/kernel/{debug,full}.config
#   tests/rfc-kernel.sh measured  for the benchmarks: no checkers
#   tests/rfc-kernel.sh plain     the same without the series

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# The kernel's make is not to see what ours was given.
unset MAKEFLAGS MFLAGS MAKELEVEL

kind=${1-}
cd "$REPO/tests/kernel"
case $kind in
debug) configs=(debug.config full.config rfc.config) ;;
measured | plain) configs=(debug.config rfc.config measured.config) ;;
*) sed -n 's/^#   tests/usage: tests/p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
fragment=$(fragment "${configs[@]}")
cd "$REPO"
tree=$REPO/build/rfc/linux
dir=$REPO/build/rfc/$kind
build=$dir/build
[[ -e $tree/.git ]] || die "there is no tree with the series" "make rfc"

# A checkout of its own, in which git writes no file that has not changed: make rfc goes
# through all patches each time.
source=$REPO/build/rfc/source-$kind
commit=$(git -C "$tree" rev-parse "$([[ $kind == plain ]] && echo base || echo series)")
if ! git -C "$source" checkout -q -f --detach "$commit" 2>/dev/null; then
	step "RFC, $kind kernel: checking out its source"
	rm -rf "$source"
	git -C "$tree" worktree prune
	git -C "$tree" worktree add -q -f --detach "$source" "$commit"
fi

make=(inside make -C "$source" "O=$build" CC=gcc-14 "-j$(nproc)")
if [[ ! -e $build/.config || $(cat "$dir/fragment" 2>/dev/null) != "$fragment" ]]; then
	step "RFC, $kind kernel: configuring it"
	configure "rfc-$kind-config" "$build" "$fragment" "${make[@]}"
	printf '%s\n' "$fragment" >"$dir/fragment"
fi
step "RFC, $kind kernel: building it (from nothing: $([[ $kind == debug ]] && echo 2700 || echo 1800) lines)"
logged "rfc-$kind-build" "${make[@]}" bzImage || die "the $kind kernel did not build"
ln -sfnT "$source" "$dir/source"
ln -sfnT build/arch/x86/boot/bzImage "$dir/vmlinuz"
cp "$build/include/config/kernel.release" "$dir/release"
printf '%s\n' "$dir"
