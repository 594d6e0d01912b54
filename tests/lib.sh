#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Shared by the scripts in this directory (source it, do not run it): paths, progress messages and
# cache entries.
#
# Messages go to stderr. stdout is for the result of each script.

# shellcheck disable=SC2034 # for those who source this
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/nosigbus
mkdir -p "$CACHE/log"
CACHE=$(cd "$CACHE" && pwd -P)

# The architecture to build for and to boot, as Debian names it. ARCH= is what a user of the
# kernel's make gives; that make must not see this machine's architecture by Debian's name.
if [[ -n ${ARCH-} ]]; then
	case $ARCH in
	arm64) MACHINE=arm64 ;;
	amd64 | x86 | x86_64) MACHINE=amd64 ;;
	*) printf 'ARCH=%s: tests run on amd64 and arm64\n' "$ARCH" >&2 && exit 2 ;;
	esac
	unset ARCH
fi
export MACHINE=${MACHINE:-amd64}

CURRENT_STEP=${0##*/}
CURRENT_LOG=

# step TEXT: prints the step that begins now. A later die names it.
step() {
	CURRENT_STEP=$1
	CURRENT_LOG=
	printf '==> %s\n' "$1" >&2
}

note() {
	printf '    %s\n' "$*" >&2
}

# die WHAT [WHAT-TO-DO]: ends the script, naming the step that failed.
die() {
	{
		printf '\nFAILED: %s\n  step:  %s\n' "$1" "$CURRENT_STEP"
		if [[ -s $CURRENT_LOG ]]; then
			printf '  log:   %s, which ends in\n' "$CURRENT_LOG"
			tail -n 25 "$CURRENT_LOG" | sed 's/^/    | /'
		fi
		if [[ -n ${2-} ]]; then
			printf '  to do: %s\n' "$2"
		fi
	} >&2
	exit 1
}

# inside COMMAND...: in the toolchain root.
inside() {
	"$REPO/tests/toolchain.sh" run "$@"
}

# Shows how far the log of a long command has come: on a terminal in one line,
# every second; elsewhere a line every 20 seconds.
progress() {
	local log=$1 start=$SECONDS every=20 format='    ... %d lines of output, %d s\n' never
	if [[ -t 2 ]]; then
		every=1 format='\r    ... %d lines of output, %d s '
	fi
	exec {never}<> <(:)
	until read -rt "$every" -u "$never"; do
		# shellcheck disable=SC2059 # one of the two formats above
		printf "$format" "$(wc -l <"$log")" $((SECONDS - start)) >&2
	done
}

# If set -e ends the script, print where.
set -E
# Let set -e end command substitutions too.
shopt -s inherit_errexit
trap '((BASH_SUBSHELL)) || printf "FAILED: %s, line %d (step: %s)\n" "${BASH_SOURCE[0]##*/}" "$LINENO" "$CURRENT_STEP" >&2' ERR

# logged NAME COMMAND...: runs it with its output in a log file.
logged() {
	local start=$SECONDS rc=0 watcher
	CURRENT_LOG=$CACHE/log/$1.log
	shift
	: >"$CURRENT_LOG"
	progress "$CURRENT_LOG" &
	watcher=$!
	"$@" >"$CURRENT_LOG" 2>&1 </dev/null || rc=$?
	kill "$watcher" 2>/dev/null || true
	wait "$watcher" 2>/dev/null || true
	if [[ -t 2 ]]; then
		printf '\r\033[K' >&2
	fi
	if ((rc == 0 && SECONDS - start >= 5)); then
		note "done, $((SECONDS - start)) s"
	fi
	return "$rc"
}

# cache_entry DIR FUNCTION ARG...: calls FUNCTION ARG... TMPDIR to fill a directory, and then
# renames it to DIR. So each entry of the cache is complete. If two scripts want the same entry, one
# makes it and the other waits.
cache_entry() {
	local dir=$1 lock
	shift
	if [[ -d $dir ]]; then
		return
	fi
	mkdir -p "${dir%/*}"
	exec {lock}>"$dir.lock"
	if ! flock -n "$lock"; then
		note "another process is making $dir: waiting for it"
		flock "$lock"
	fi
	if [[ ! -d $dir ]]; then
		# A script that was killed while it installed packages leaves /proc, /sys and
		# /dev mounted in there. Nothing below these may be removed.
		awk -v under="$dir.part/" 'index($2, under) == 1 { print $2 }' /proc/self/mounts |
			sort -r | xargs -r umount
		rm -rf --one-file-system "$dir.part"
		mkdir "$dir.part"
		"$@" "$dir.part"
		mv -T "$dir.part" "$dir"
	fi
	exec {lock}>&-
}

# kernel_name KERNEL: prints the name for the kernel's build directory and log. Another architecture
# or flavour (KERNEL_FLAVOUR, see kernel.sh) has another name than the plain kernel.
kernel_name() {
	local name=$1
	if [[ $1 == stock ]]; then
		! on_arm64 || name+=-arm64
		name+=${KERNEL_FLAVOUR:+-$KERNEL_FLAVOUR}
	fi
	printf '%s\n' "$name"
}

on_arm64() {
	[[ $MACHINE == arm64 ]]
}

# For programs that run in a guest: the C compiler in the toolchain root, what cargo has to be told,
# where it leaves the samples, and how the names of other directories of programs end.
if on_arm64; then
	OF_MACHINE=-arm64
	GUEST_CC=aarch64-linux-gnu-gcc-14
	CARGO_SETTINGS=(
		"CARGO_TARGET_DIR=$REPO/build/samples-arm64" CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
		"CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$GUEST_CC"
	)
	RELEASE=build/samples-arm64/aarch64-unknown-linux-gnu/release
else
	OF_MACHINE=
	GUEST_CC=gcc-14
	CARGO_SETTINGS=("CARGO_TARGET_DIR=$REPO/build/samples")
	RELEASE=build/samples/release
fi

# Starts a real machine, because the device node may exist without the hardware. A machine without a
# CPU (-M none) has started where a real one aborts.
kvm_works() {
	grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo && [[ -r /dev/kvm && -w /dev/kvm ]] && kvm_starts
}

kvm_starts() {
	! on_arm64 &&
		timeout 5 "$REPO/tests/toolchain.sh" run qemu-system-x86_64 -M q35 -accel kvm -cpu host -nodefaults -display none \
		-S -monitor stdio <<<quit
} &>/dev/null

# key TEXT...: prints a short hash of the inputs of a cache entry.
key() {
	printf '%s\n' "$@" | sha256sum | cut -c1-12
}

# fragment CONFIG...: prints their lines about symbols. If several are about the same symbol, it
# prints the last one, as Kconfig would choose, but without Kconfig's warnings.
fragment() {
	awk '
		/^CONFIG_[^=]*=/ { symbol = $0; sub(/=.*/, "", symbol) }
		/^# CONFIG_.* is not set$/ { symbol = $2 }
		symbol { line[symbol] = $0; symbol = "" }
		END { for (symbol in line) print line[symbol] }
	' "$@" | sort
}

# Every line of the fragment $2 must have made it into the kernel's .config.
check_config() { # .config FRAGMENT
	local line lost=()
	while read -r line; do
		case $line in
		CONFIG_*=*)
			grep -qxF "$line" "$1" || lost+=("$line")
			;;
		'# CONFIG_'*' is not set')
			line=${line#\# }
			! grep -q "^${line%% *}=" "$1" || lost+=("${line%% *}=n")
			;;
		esac
	done <<<"$2"
	((${#lost[@]} == 0)) || die "Kconfig did not keep ${lost[*]}" \
		"give tests/kernel/*.config what these depend on, or take them out"
}

# configure LOG BUILD FRAGMENT MAKE...: makes the .config of a kernel that MAKE builds in BUILD. It
# is tinyconfig plus the fragment.
configure() {
	local log=$1 build=$2 fragment=$3
	shift 3
	mkdir -p "$build"
	logged "$log" "$@" tinyconfig || die "make tinyconfig failed"
	printf '%s\n' "$fragment" >>"$build/.config"
	logged "$log" "$@" olddefconfig || die "make olddefconfig failed"
	check_config "$build/.config" "$fragment"
}
