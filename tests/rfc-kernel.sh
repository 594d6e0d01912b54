#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The kernels with the series for linux-mm, built from the tree that make rfc leaves in
# build/rfc/linux. Builds one in build/rfc/KIND, or rebuilds what has changed, and prints that
# directory. boot.sh takes it as BOOT_KERNEL_DIR.
#
#   tests/rfc-kernel.sh debug     all checkers and file systems: tests/kernel/{debug,full}.config
#   tests/rfc-kernel.sh kcsan     looks for data races: tests/kernel/kcsan.config
#   tests/rfc-kernel.sh measured  for the benchmarks: no checkers
#   tests/rfc-kernel.sh plain     the same without the series

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from the kernel's make.
unset MAKEFLAGS MFLAGS MAKELEVEL

kind=${1-}
cd "$REPO/tests/kernel"
case $kind in
debug) configs=(debug.config full.config rfc.config) ;;
kcsan) configs=(debug.config kcsan.config rfc.config) ;;
measured | plain) configs=(debug.config rfc.config measured.config) ;;
*) sed -n 's/^#   tests/usage: tests/p' "$REPO/tests/rfc-kernel.sh" >&2 && exit 2 ;;
esac
fragment=$(fragment "${configs[@]}")
cd "$REPO"
tree=$REPO/build/rfc/linux
dir=$REPO/build/rfc/$kind
build=$dir/build
[[ -e $tree/.git ]] || die "there is no tree with the series" "make rfc"

# A separate checkout, in which git writes only files that have changed. In build/rfc/linux, make
# rfc applies all patches again each time.
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
