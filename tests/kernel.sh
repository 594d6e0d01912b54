#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The kernels that the module is built for and tested in. Makes one if need be
# and prints a directory that holds:
#
#   vmlinuz    the bootable image
#   build      the tree to build modules against (KDIR)
#   source     the kernel's source, which kernels of one version share
#   make-args  the arguments that make needs for modules of that tree
#   release    the kernel's release
#   modules    the kernel's own modules, as modules/lib/modules/RELEASE (Debian's)
#
#   tests/kernel.sh stock   Debian's own kernel, unmodified: the one that linux-image-amd64
#       of trixie-backports depends on, or KERNEL_VERSION= 7.3.4, 7.3 (the newest 7.3) or
#       7.3.4+deb13-amd64. KERNEL_FLAVOUR=rt: the kernel of linux-image-rt-amd64
#       (PREEMPT_RT). KERNEL_FLAVOUR=cloud: the kernel of linux-image-cloud-amd64.
#       MACHINE=arm64: the kernel of linux-image-arm64; with KERNEL_FLAVOUR=16k that of
#       linux-image-arm64-16k (pages of 16 KiB)
#   tests/kernel.sh debug   tests/kernel/debug.config, built from the newest
#       linux-source of trixie-backports, or DEBUG_KERNEL_VERSION= 7.3 or 7.3.4
#   tests/kernel.sh full    the same with tests/kernel/full.config on top
#   tests/kernel.sh kcsan   the same with tests/kernel/kcsan.config on top
#   tests/kernel.sh whole   not a kernel: all of that linux-source, unpacked
#
# Everything comes through apt, which checks the archive's signatures. Nothing is
# compiled that modules or tests do not need.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from the kernel's make.
unset MAKEFLAGS MFLAGS MAKELEVEL

OLDEST=7.3
DEBUG_ARGS=LLVM=-19
CONFIGS=$REPO/tests/kernel
METADATA=$REPO/tests/kernel/rustc-metadata.sh

# Files of linux-source that no kernel here needs: two thirds of it. Kconfig files and Makefiles
# stay, because make reads all of them.
OTHER_ARCHITECTURES=('linux-source-*/arch/[!x]*/*.[chS]' 'linux-source-*/arch/xtensa/*.[chS]')
if on_arm64; then
	# This machine's tools are built as well.
	OTHER_ARCHITECTURES=('linux-source-*/arch/'{'[!ax]*',alpha,arc,arm,xtensa}'/*.[chS]')
fi
NOT_NEEDED=(
	'linux-source-*/Documentation/*/*'
	"${OTHER_ARCHITECTURES[@]}"
	'linux-source-*/arch/[!x]*/*.dts*'
	'linux-source-*/drivers/gpu/*.[ch]'
	'linux-source-*/drivers/infiniband/*.[ch]'
	'linux-source-*/drivers/media/*.[ch]'
	'linux-source-*/drivers/net/ethernet/*.[ch]'
	'linux-source-*/drivers/net/wireless/*.[ch]'
	'linux-source-*/drivers/staging/*.[ch]'
	'linux-source-*/sound/*.[ch]'
	'linux-source-*/tools/perf/*'
	'linux-source-*/tools/testing/selftests/*/*'
)

at_least() {
	[[ $(printf '%s\n' "$1" "$2" | sort -V | sed -n 1p) == "$1" ]]
}

# archive COMMAND...: runs the host's apt-get or apt-cache with separate package lists, those of the
# suites that kernels come from. So this script can download a kernel while tests/toolchain.sh makes
# the toolchain root.
archive() {
	"$1" -o "Dir::Etc::SourceList=$APT/sources.list" -o "Dir::Etc::SourceParts=$APT/none" \
		-o "Dir::Etc::Preferences=$APT/none" -o "Dir::Etc::PreferencesParts=$APT/none" \
		-o "Dir::State=$APT" -o "Dir::State::status=$APT/status" -o "Dir::Cache=$APT/cache" \
		-o "APT::Architecture=$MACHINE" -o "APT::Architectures=$MACHINE" -o APT::Sandbox::User=root "${@:2}"
}

# Updates the lists at most once a day. Keeps the old ones if the archive cannot be reached.
update_lists() {
	local stamp=$APT/updated lock suite uri
	exec {lock}>"$APT.lock"
	flock "$lock"
	if [[ -z $(find "$stamp" -mtime -1 2>/dev/null) ]]; then
		step "Kernel: asking the Debian archive what is new (apt-get update)"
		mkdir -p "$APT"/{none,lists/partial,cache/archives/partial}
		touch "$APT/status"
		uri=$("$REPO/tests/toolchain.sh" mirror)
		for suite in trixie trixie-backports; do
			printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
				"$uri" "$suite"
		done >"$APT/sources.list"
		if logged "apt-update-archive-$MACHINE" archive apt-get -o APT::Update::Error-Mode=any update; then
			touch "$stamp"
		else
			note "the archive cannot be reached (log: $CURRENT_LOG): going on with what it had last time"
		fi
	fi
	exec {lock}>&-
}

# field PACKAGE NAME: a field of the package's first (newest) record.
field() {
	{ archive apt-cache show "$1" 2>/dev/null || true; } | sed -n "s/^$2: //p" | sed -n 1p
}

# Versions of package $1 in trixie-backports, newest first.
versions() {
	archive apt-cache madison "$1" | awk -F' *[|] *' '$3 ~ /-backports\// { print $2 }'
}

# Prints the archive's releases of this flavour that are not too old, oldest first. The archive has
# a new version unsigned first, and signed later.
releases() {
	local release pattern='[0-9][0-9.]*\+deb[0-9]+'"-$KIND"
	{
		archive apt-cache pkgnames linux-image-
		archive apt-cache pkgnames linux-binary-unsigned-
	} | sed -nE "s/^linux-(image|binary-unsigned)-($pattern)\$/\2/p" |
		sort -Vu | while read -r release; do
		if at_least "$OLDEST" "$release"; then
			printf '%s\n' "$release"
		fi
	done
}

# Prints the release that $1 selects: KERNEL_VERSION, or nothing.
stock_release() {
	local want=$1 release found='' version name
	if [[ -z $want ]]; then
		name=linux-image-$KIND
		version=$(versions "$name" | sed -n 1p)
		field "$name=$version" Depends | sed -n 's/.*linux-image-\([^ ,]*\).*/\1/p'
		return
	fi
	for release in $(releases); do
		case $release in
		"$want" | "$want"+* | "$want".*) found=$release ;;
		esac
	done
	printf '%s\n' "$found"
}

download() { # DIR PACKAGE...
	local dir=$1
	shift
	mkdir "$dir"
	(cd "$dir" && logged "download-$1" archive apt-get download "$@") ||
		{
			CURRENT_LOG=$CACHE/log/download-$1.log
			# The archive may have moved on.
			rm -f "$APT/updated"
			die "could not download $*" "if it is the network, run this again"
		}
}

# source_of PACKAGE VERSION: prints the directory of that kernel source, as it is unpacked.
source_of() {
	local dir
	dir=$KERNELS/source-${2%%-*}-$(key "$2" "${NOT_NEEDED[@]}")
	cache_entry "$dir" make_source "$@"
	printf '%s\n' "$dir"
}

make_source() { # PACKAGE VERSION [all] DIR
	local package=$1 version=$2 dir=${*: -1} pattern exclude=()
	step "Kernel source $version: downloading and unpacking it (160 MB)"
	download "$dir/debs" "$package=$version"
	if [[ $3 != all ]]; then
		for pattern in "${NOT_NEEDED[@]}"; do
			exclude+=(--exclude="$pattern")
		done
	fi
	dpkg-deb --fsys-tarfile "$dir/debs/$package"_*.deb | tar -xO --wildcards '*/linux-source-*.tar.xz' |
		xz -dc -T0 | tar -x -C "$dir" --strip-components=1 --wildcards "${exclude[@]}"
	rm -r "$dir/debs"
}

# unpacked RELEASE VERSION: prints a directory with Debian's packages of that kernel, unpacked.
unpacked() {
	local dir
	dir=$KERNELS/debian-$1-$(key "$2" "recipe 1")
	cache_entry "$dir" make_unpacked "$@"
	printf '%s\n' "$dir"
}

make_unpacked() { # RELEASE VERSION DIR
	local release=$1 version=$2 dir=$3 image packages deb
	image=linux-image-$release
	if [[ -z $(field "$image" Version) ]]; then
		image=linux-binary-unsigned-$release
		note "Debian has not signed $release yet: taking the unsigned image"
	fi
	# The image may be split: take those parts that belong to this release.
	mapfile -t packages < <(
		printf '%s\n' "$image" "linux-modules-$release" "linux-headers-$release"
		field "$image" Depends | sed 's,[\,|],\n,g' | awk '{ print $1 }' | grep -F -- "-$release"
	)
	mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
	step "Kernel $release: downloading and unpacking image, modules and headers (190 MB)"
	download "$dir/debs" "${packages[@]/%/=$version}"
	for deb in "$dir"/debs/*; do
		case $deb in
		*/linux-headers-*) dpkg-deb -x "$deb" "$dir/headers" ;;
		*) dpkg-deb -x "$deb" "$dir/modules" ;;
		esac
	done
	rm -r "$dir/debs"
	# Debian has /lib in /usr.
	[[ -e $dir/modules/lib ]] || ln -s usr/lib "$dir/modules/lib"
	ln -s "$(cd "$dir" && find modules -name 'vmlinuz*' | sed -n 1p)" "$dir/vmlinuz"
	mkdir "$dir/build"
	cp "$dir/headers/usr/src/linux-headers-$release"/{.config,Module.symvers} "$dir/build"
	rm -r "$dir/headers"
}

# source_package RELEASE: the package with the source of that kernel.
source_package() {
	printf 'linux-source-%s\n' "$(sed -E 's/^([0-9]+\.[0-9]+).*/\1/' <<<"$1")"
}

make_stock() { # RELEASE VERSION DIR
	local release=$1 version=$2 dir=$3 unpacked source cc
	unpacked=$(unpacked "$release" "$version")
	cp -al "$unpacked/." "$dir"
	source=$(source_of "$(source_package "$release")" "$version")
	ln -s "$source" "$dir/source"
	inside depmod -b "$dir/modules" "$release"
	[[ -e $dir/vmlinuz && -e $dir/modules/lib/modules/$release/modules.dep ]] ||
		die "no vmlinuz or no modules in the packages of $release" \
			"their layout may have changed: compare make_unpacked() in tests/kernel.sh"
	cc=$(sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\) .*/\1/p' "$dir/build/.config")
	inside which "$cc" >/dev/null ||
		die "$release was built with $cc, which the toolchain root lacks" \
			"add it to PACKAGES in tests/toolchain.sh"

	step "Kernel $release: preparing its source to build modules with Rust (a minute)"
	logged "prepare-$release" inside make -C "$source" "O=$dir/build" "CC=$cc" "${CROSS[@]}" \
		"KERNELRELEASE=$release" "RUSTC=$METADATA" "-j$(nproc)" modules_prepare ||
		die "modules_prepare failed for $release"
	grep -qx 'CONFIG_RUST=y' "$dir/build/include/config/auto.conf" ||
		die "CONFIG_RUST got lost: the toolchain root does not fit $release" \
			"run 'make rustavailable' in $dir/build (tests/toolchain.sh run ...)"
	output_is "$dir"
	printf '%s\n' "CC=$cc" "${CROSS[@]}" >"$dir/make-args"
	printf '%s\n' "$release" >"$dir/release"
}

# output_is DIR: sets the build directory in the Makefile to its final name. Until the cache entry
# is complete, that name has .part in it (cache_entry).
output_is() {
	sed -i "s,^export KBUILD_OUTPUT = .*,export KBUILD_OUTPUT = ${1%.part}/build," "$1/build/Makefile"
}

make_debug() { # PACKAGE VERSION KIND CONFIG... DIR
	local package=$1 version=$2 kind=$3 dir=${*: -1} lines=2700
	[[ $kind == full ]] || lines=1800
	local build=$dir/build source make fragment
	source=$(source_of "$package" "$version")
	make=(inside make -C "$source" "O=$build" "$DEBUG_ARGS" "-j$(nproc)")
	fragment=$(fragment "${@:4:$#-4}")
	step "${kind^} kernel: configuring it"
	ln -s "$source" "$dir/source"
	configure "$kind-config" "$build" "$fragment" "${make[@]}"
	step "${kind^} kernel: building it (minutes; about $lines lines)"
	logged "$kind-build" "${make[@]}" bzImage modules || die "the $kind kernel did not build"
	# Delete 2 GB of files that modules do not need.
	find "$build" -type f \( -name '*.o' -o -name '*.a' -o -name vmlinux.unstripped \) \
		-not -path "$build/scripts/*" -not -path "$build/tools/*" -delete
	output_is "$dir"
	ln -s build/arch/x86/boot/bzImage "$dir/vmlinuz"
	cp "$build/include/config/kernel.release" "$dir/release"
	printf '%s\n' "$DEBUG_ARGS" >"$dir/make-args"
}

# current LINK: prints the kernel that LINK points to, if it exists and was looked up less than a
# day ago.
current() {
	if [[ -e $1/release && -n $(find "$1" -maxdepth 0 -mtime -1) ]]; then
		realpath "$1"
	fi
}

# what_is_stock: sets release and version to those of the archive's package. release is empty if the
# archive has no such package.
what_is_stock() {
	update_lists
	release=$(stock_release "${KERNEL_VERSION-}")
	version=$(field "linux-headers-${release:-none}" Version)
	[[ -n $version ]] || release=''
}

stock() {
	local want=${KERNEL_VERSION-} link dir release version
	link=$KERNELS/$(kernel_name stock).${want:-newest}.$TOOLS
	dir=$(current "$link")
	if [[ -z $dir ]]; then
		what_is_stock
		if [[ -z $release ]]; then
			if [[ -e $link/release ]]; then
				note "the archive no longer has it: taking $(cat "$link/release") from the cache"
				realpath "$link"
				return
			fi
			die "the archive has no kernel ${want:-at all} that will do ($OLDEST or newer)" \
				"KERNEL_VERSION= one of: $(releases | tr '\n' ' ')"
		fi
		at_least "$OLDEST" "$release" || die "kernel $release is too old" \
			"the module needs $OLDEST; KERNEL_VERSION= one of: $(releases | tr '\n' ' ')"
		dir=$KERNELS/stock-$release-$(key "$version" "$TOOLS" "$(<"$METADATA")" "recipe 2")
		cache_entry "$dir" make_stock "$release" "$version"
		ln -sfnT "$dir" "$link"
	fi
	printf '%s\n' "$dir"
}

# Downloads what a stock kernel needs, while tests/toolchain.sh makes the toolchain root.
fetch_ahead() {
	local release version
	what_is_stock
	if [[ -n $release ]]; then
		unpacked "$release" "$version"
		source_of "$(source_package "$release")" "$version"
	fi
}

# find_source WANT: sets package and version to those of the newest linux-source that WANT selects.
find_source() {
	local want=$1 candidate
	package='' version=''
	update_lists
	package=$(archive apt-cache pkgnames linux-source- | sort -V |
		grep -E '^linux-source-[0-9]+\.[0-9]+$' |
		{ if [[ -n $want ]]; then grep -xF "linux-source-$(cut -d. -f1,2 <<<"$want")"; else tail -n 1; fi; }) || true
	if [[ -n $package ]]; then
		for candidate in $(versions "$package"); do
			case $candidate in
			"$want"[-.]* | "${want:-$candidate}") version=$candidate && break ;;
			esac
		done
	fi
	if [[ -z $version ]]; then
		die "the archive has no source of kernel ${want:-7.x}" \
			"DEBUG_KERNEL_VERSION= one of: $(releases | tr '\n' ' ' | sed 's/+[^ ]*//g')"
	fi
	at_least "$OLDEST" "$version" || die "kernel $version is too old" "the module needs $OLDEST"
}

whole() {
	local package version dir
	find_source "${DEBUG_KERNEL_VERSION-}"
	dir=$KERNELS/whole-${version%%-*}-$(key "$version")
	cache_entry "$dir" make_source "$package" "$version" all
	printf '%s\n' "$dir"
}

# debug KIND CONFIG...
debug() {
	local kind=$1 want=${DEBUG_KERNEL_VERSION-} config link dir package version
	config=$(key "$(cat "${@:2}")" "$DEBUG_ARGS" "recipe 2")
	link=$KERNELS/$kind.${want:-newest}.$config.$TOOLS
	dir=$(current "$link")
	if [[ -z $dir ]]; then
		find_source "$want"
		dir=$KERNELS/$kind-${version%%-*}-$(key "$version" "$TOOLS" "$config")
		cache_entry "$dir" make_debug "$package" "$version" "$@"
		ln -sfnT "$dir" "$link"
	fi
	printf '%s\n' "$dir"
}

case ${1-} in
stock | debug | full | kcsan | whole) ;;
*)
	printf 'usage: tests/kernel.sh stock|debug|full|kcsan|whole\n' >&2
	exit 2
	;;
esac
FLAVOUR=${KERNEL_FLAVOUR-}
# How the names of Debian's packages end.
case $MACHINE-$FLAVOUR in
arm64-16k) KIND=arm64-16k ;;
*) KIND=${FLAVOUR:+$FLAVOUR-}$MACHINE ;;
esac
CROSS=()
if on_arm64; then
	CROSS=(ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-)
	[[ $1 == stock ]] || die "the $1 kernel is for amd64 only"
fi
KERNELS=$CACHE/kernel
APT=$CACHE/apt
[[ $MACHINE == amd64 ]] || APT+=-$MACHINE
mkdir -p "$KERNELS"
"$REPO/tests/toolchain.sh" host
case $1 in
stock)
	if [[ -z $("$REPO/tests/toolchain.sh" there) ]]; then
		# Both jobs need the mirror, and two processes cannot run apt at once.
		"$REPO/tests/toolchain.sh" mirror >/dev/null
		"$REPO/tests/toolchain.sh" >/dev/null &
		root=$!
		fetched=0
		(fetch_ahead >/dev/null) || fetched=$?
		wait "$root"
		((fetched == 0)) || exit "$fetched"
	fi
	ROOT=$("$REPO/tests/toolchain.sh")
	;;
*) ROOT=$("$REPO/tests/toolchain.sh" all) ;;
esac
# A tree that was prepared by one rustc cannot be used by another.
compiler=gcc-14
! on_arm64 || compiler=gcc-14-aarch64-linux-gnu
TOOLS=$(key "$(dpkg-query --admindir="$ROOT/var/lib/dpkg" -W rustc bindgen "$compiler" libclang1-19 pahole)")
case $1 in
stock) stock ;;
debug) debug debug "$CONFIGS/debug.config" ;;
full | kcsan) debug "$1" "$CONFIGS"/{debug,"$1"}.config ;;
whole) whole ;;
esac
