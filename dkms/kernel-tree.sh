#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes a tree to build modules in Rust against, for one of Debian's kernels. The packages with
# Debian's headers lack the metadata of the kernel's Rust crates. This makes them from the source of
# the same version, in linux-source, and the configuration, in linux-headers. DKMS runs this before
# it builds the module.
#
# usage: kernel-tree.sh RELEASE
#
# The tree is /var/cache/nosigbus/RELEASE. If it is there already, nothing is done. If the headers
# have the metadata, the tree is a link to them. Trees of kernels that are no longer installed are
# removed.
#
# If something is missing, the last line says what, and the exit status is 1. It is 77, with which
# DKMS skips a kernel, if the source is that of a newer kernel: Debian keeps only the newest.

set -euo pipefail
umask 022

release=$1
directory=/var/cache/nosigbus
tree=$directory/$release
headers=/lib/modules/$release/build
metadata=$(cd "$(dirname "$0")/.." && pwd -P)/tests/kernel/rustc-metadata.sh

# lacks WHAT [STATUS]
lacks() {
	printf 'nosigbus: kernel %s: %s\n' "$release" "$1" >&2
	exit "${2:-1}"
}

# setting NAME: prints it as the kernel's configuration has it, without quotes.
setting() {
	sed -nE "s/^CONFIG_$1=\"?([^\"]*)\"?\$/\1/p" "$headers/.config"
}

version() { # PACKAGE
	dpkg-query -W -f '${source:Version}' "$1" 2>/dev/null
}

for other in "$directory"/*; do
	[[ -d /lib/modules/${other##*/} ]] || rm -rf "$other"
done
[[ ! -e $tree/rust/libkernel.rmeta ]] || exit 0
[[ -e $headers/.config ]] || lacks "no headers: apt install linux-headers-$release"
headers=$(realpath "$headers")
mkdir -p "$directory"
if [[ -e $headers/rust/libkernel.rmeta ]]; then
	ln -sfnT "$headers" "$tree"
	exit
fi

# Crates that another compiler has made cannot be linked with those of the kernel.
rustc=$(rustc --version 2>/dev/null) || lacks "no rustc: apt install rustc"
[[ $rustc == "$(setting RUSTC_VERSION_TEXT)" ]] ||
	lacks "built with \"$(setting RUSTC_VERSION_TEXT)\", here is \"$rustc\": install that version of the package rustc"
[[ -e $(rustc --print sysroot)/lib/rustlib/src/rust/library/core/src/lib.rs ]] ||
	lacks "no source of Rust's library: apt install rust-src"
cc=$(setting CC_VERSION_TEXT | cut -d' ' -f1)
for tool in bc bindgen bison flex make pahole python3 xz "$cc"; do
	command -v "$tool" >/dev/null || lacks "no $tool: install the package that has it"
done

common=$(sed -n 's,^include \(.*\)/Makefile$,\1,p' "$headers/Makefile")
if [[ -z $common ]] || ! type dpkg-query &>/dev/null; then
	lacks "headers that are not Debian's: run 'make modules_prepare' in its source tree, and let $headers be a link to that"
fi
package=linux-source-$(grep -oE '^[0-9]+\.[0-9]+' <<<"$release")
archive=/usr/src/$package.tar.xz
want=$(version "linux-headers-$release") || lacks "headers that are not from a package: apt install linux-headers-$release"
have=$(version "$package") || have=''
[[ -n $have && -e $archive ]] || lacks "no source: apt install $package=$want"
if [[ $have != "$want" ]]; then
	status=1
	! dpkg --compare-versions "$have" gt "$want" || status=77
	lacks "its source is $want, and $package is $have: boot the newest kernel, or apt install $package=$want" $status
fi

part=$directory/$release.part
trap 'rm -rf "$part"' EXIT
rm -rf "$part"
mkdir -p "$part"/{source,build}
# Kconfig files, Makefiles and headers are needed, of the code only little.
tar -xJf "$archive" -C "$part/source" --strip-components=1 --wildcards \
	--exclude='linux-source-*/Documentation/*/*' --exclude='linux-source-*/drivers/*.c' \
	--exclude='linux-source-*/drivers/gpu/*.h' --exclude='linux-source-*/sound/*.c' \
	--exclude='linux-source-*/arch/*.dts*' --exclude='linux-source-*/tools/testing/*' ||
	lacks "$archive cannot be unpacked into $directory: the lines above say why"
# .kernelvariables has the release. It has the compiler, too, but with a space before its name.
cp "$headers"/{.config,.kernelvariables,Module.symvers} "$part/build"
make -C "$part/source" "O=$part/build" "CC=$cc" "RUSTC=$metadata" "-j$(nproc)" modules_prepare ||
	lacks "'make modules_prepare' failed: the lines above say why"
grep -qx CONFIG_RUST=y "$part/build/include/config/auto.conf" ||
	lacks "CONFIG_RUST got lost: 'make rustavailable' in a tree of $package says why"

# From now on, linux-headers has the source. The metadata, and what was built to go with them, stay.
rm -rf "$tree" "$part/build/source"
find "$part/build" -name '*.o' -delete
printf 'export KBUILD_OUTPUT = %s\ninclude %s/Makefile\n' "$tree" "$common" >"$part/build/Makefile"
mv -T "$part/build" "$tree"
