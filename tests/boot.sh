#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# tests/boot.sh [--kernel stock|debug|full|kcsan] [--share DIR] [--no-module] [-- COMMAND...]
#
# Boots that kernel (stock by default) under QEMU, loads the module, runs COMMAND as root in the
# same directory, and exits with its status. Without COMMAND, it opens a shell. In the guest, this
# checkout and each DIR are at their own paths, readable and writable. The rest of the guest's root
# is the toolchain root; the guest loses what it writes there. With --no-module, COMMAND loads the
# module itself; NOSIGBUS_KO has its path.
#
# KERNEL_FLAVOUR: the flavour of the stock kernel, see kernel.sh. The kernel's log is
# build/boot/console-KERNEL.log, or console-stock-FLAVOUR.log, or BOOT_LOG. Other exit statuses:
#   97  the guest took longer than BOOT_TIMEOUT (1200 s)
#   98  the guest did not boot, or died before COMMAND ended
#   99  the kernel's log has a report (see klog-check.sh), whatever COMMAND said
#
# QEMU comes from the toolchain root, so it is the same on all machines.
#
# BOOT_MEM, BOOT_CPUS, BOOT_NODES: the guest's memory (2G for stock, 4G for the others), CPUs (2) and
# NUMA nodes (1). BOOT_APPEND: kernel arguments. BOOT_ENV: names of variables to pass to the guest.
# BOOT_KERNEL_DIR: a kernel that is not from kernel.sh, in the same layout. BOOT_ROOT: a root to use
# in place of the toolchain root; it needs the packages of the small root. BOOT_MODULE: a module to
# load in place of build/KERNEL/nosigbus.ko, as an absolute path in this checkout or in a DIR.
# BOOT_KMEMLEAK=: skips the memory leak scan (debug and full, half a minute). BOOT_ICOUNT=yes: one
# CPU, whose clock counts its instructions, one per nanosecond. BOOT_PLUGIN: a QEMU plugin, with its
# arguments.
#
# Why not virtme-ng: 1.35 was tried, for minutes, on Debian 12 with this root and
# the stock kernel unpacked outside of it. It refused to share a directory that
# is not inside that root, and made no initramfs (--mods auto; the kernel found no
# root). With a /dev/kvm that opens but does not work, it chose -cpu host, and
# QEMU aborted. It would have saved neither the log check nor the leak scan. Not
# tried: installing the kernel's modules into the root first.

# shellcheck disable=SC2054 # QEMU's options have commas
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	sed -n '4s/^# /usage: /p' "$0" >&2
	exit 2
}

kernel=stock module=yes shares=("$REPO") visible=()
while (($#)); do
	case $1 in
	--kernel) kernel=${2-} && shift ;;
	--share)
		[[ -d ${2-} ]] || die "--share ${2-}: no such directory"
		shares+=("$(cd "$2" && pwd -P)") && visible+=(--bind "${shares[-1]}") && shift
		;;
	--no-module) module= ;;
	--) shift && break ;;
	*) usage ;;
	esac
	shift
done
case $kernel in
stock) memory=2G append= ;;
# Without slab_debug=U, SLUB's per-CPU sheaves keep stale pointers to objects
# that were handed out, and kmemleak takes some thirty leaked ones as in use.
debug | full) memory=4G append=slab_debug=U ;;
# Emulated CPUs do less in the time that KCSAN waits for another access. They get
# more of it, and it waits more often.
kcsan) memory=4G append="kcsan.udelay_task=300 kcsan.udelay_interrupt=60 kcsan.skip_watch=2000" ;;
*) usage ;;
esac
# A busy host may not run the guest for a minute or two (a test of 6 s once took 131 s). That is
# neither a lockup of the guest nor an unstable clock. A real lockup lasts longer than these limits:
# 300 s each, of which watchdog_thresh is half.
append+=" watchdog_thresh=150 rcupdate.rcu_cpu_stall_timeout=300"
append+=" sysctl.kernel.hung_task_timeout_secs=300 tsc=reliable"
interactive=
if (($# == 0)); then
	interactive=yes
	[[ -t 0 && -t 1 ]] || die "a shell needs a terminal" "give a command: tests/boot.sh -- COMMAND"
fi

# Prints the module files of the tree $1 that modules $2... need, dependencies first.
module_files() {
	local tree=$1 name path needs word
	shift
	for name; do
		IFS=: read -r path needs < <(grep -E "/$name\.ko[.a-z]*:" "$tree/modules.dep") ||
			continue # built in
		for word in $needs; do
			printf '%s\n' "$word"
		done | tac
		printf '%s\n' "$path"
	done | awk '!seen[$0]++'
}

make_initramfs() { # DIR FILE
	local dir=$1 tree=$DIR/modules/lib/modules/$release path
	mkdir -p "$dir"/{bin,dev,lower,upper,root,modules}
	cp "$ROOT/usr/bin/busybox" "$dir/bin"
	ln -s busybox "$dir/bin/sh"
	install -m 755 "$REPO/tests/guest/initramfs.sh" "$dir/init"
	cp "$REPO/tests/guest/init.sh" "$dir/guest-init.sh"
	: >"$dir/modules/order"
	if [[ -d $tree ]]; then
		for path in $(module_files "$tree" 9pnet_virtio 9p overlay); do
			cp "$tree/$path" "$dir/modules"
			path=${path##*/}
			printf '%s\n' "${path%.ko*}.ko" >>"$dir/modules/order"
		done
	fi
	# shellcheck disable=SC2016 # for the shell inside
	"$REPO/tests/toolchain.sh" run bash -euc '
		cd "$1"
		find modules -name "*.ko.xz" -exec xz -d {} +
		find modules -name "*.ko.zst" -exec zstd -dq --rm {} +
		find . | cpio -o -H newc --quiet >"$2"
	' initramfs "$dir" "$2"
}

# add_share TAG DIRECTORY GUEST-DIRECTORY GUEST-OPTIONS QEMU-OPTIONS
add_share() {
	local comma=${2//,/,,}
	qemu+=(
		-fsdev "local,id=$1,path=$comma,security_model=none,multidevs=remap$5"
		-device "virtio-9p-pci,fsdev=$1,mount_tag=$1"
	)
	if [[ -n $3 ]]; then
		printf '%s %s %s\n' "$1" "$4" "$3" >>"$work/boot/shares"
	fi
}

ROOT=${BOOT_ROOT:-$("$REPO/tests/toolchain.sh" guest)}
DIR=${BOOT_KERNEL_DIR:-$("$REPO/tests/kernel.sh" "$kernel")}
release=$(<"$DIR/release")
[[ -z ${BOOT_KERNEL_DIR-} ]] || visible+=(--bind "$(realpath "$DIR")")
# The guest gets its files over 9p, and its writes to the root go to an overlay. The kernels without
# modules (debug) have both built in. Debian's cloud kernel has no 9p.
tree=$DIR/modules/lib/modules/$release
if [[ -d $tree ]]; then
	for driver in 9pnet_virtio 9p overlay; do
		grep -qE "/$driver\.ko[.a-z]*(:|$)" "$tree"/modules.{dep,builtin} ||
			die "Linux $release cannot be booted as a guest here: it has no $driver" \
				"take another kernel; modules can be built for this one all the same"
	done
fi
step "Booting Linux $release ($kernel kernel) under QEMU"
name=$(kernel_name "$kernel")
ko=${BOOT_MODULE:-$REPO/build/$name/nosigbus.ko}
if [[ -n ${BOOT_MODULE-} ]]; then
	[[ -e $ko ]] || die "BOOT_MODULE=$ko: no such file"
elif [[ -n $module && (! -e $ko || -n $(find "$REPO"/{Kbuild,rust,include} -type f -newer "$ko" -print -quit)) ]]; then
	make -s -C "$REPO" "build/$name/nosigbus.ko" >&2 || die "no module to load" "make build/$name/nosigbus.ko"
fi

log=${BOOT_LOG:-$REPO/build/boot/console-$name.log}
mkdir -p "$REPO/build/boot" "$CACHE/tmp"
# Two guests must not write to the same log.
exec {one_at_a_time}>"$log.lock"
flock -n "$one_at_a_time" || die "there is a guest that writes to $log already" \
	"wait for its end, or give this one a log of its own with BOOT_LOG="
: >"$log"
work=$(mktemp -d "$CACHE/tmp/boot.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/boot"
mkfifo "$work/stdin"
make_initramfs "$work/initramfs" "$work/initramfs.cpio"

cpus=${BOOT_CPUS:-2}
if [[ -n ${BOOT_ICOUNT-} ]]; then
	# A string instruction counts once per repetition. Keep the kernel from using those that
	# move single bytes.
	accel=(-accel tcg,thread=single -icount shift=0,sleep=off -cpu max,-erms,-fsrm)
	cpus=1
elif kvm_works; then
	accel=(-accel kvm -cpu host)
else
	accel=(-accel tcg,thread=multi -cpu max)
fi
if on_arm64; then
	# To authenticate pointers as the architecture has it takes most of the emulator's time.
	machine=(qemu-system-aarch64 -M virt "${accel[@]/%max/max,pauth-impdef=on}")
	append+=" console=ttyAMA0 earlycon"
else
	machine=(qemu-system-x86_64 -M q35 "${accel[@]}")
	append+=" console=ttyS0,115200 earlyprintk=serial,ttyS0,115200 random.trust_cpu=on no_timer_check"
	# Makes a piece of memory persistent memory, for a file system with DAX.
	append+=" memmap=32M!512M"
fi
# sockets: without ACPI, a kernel finds its CPUs in a table with one entry per socket.
qemu=(
	"$REPO/tests/toolchain.sh" run "${visible[@]}" -- "${machine[@]}" -m "${BOOT_MEM:-$memory}" -smp "$cpus,sockets=$cpus"
	-nodefaults -no-user-config -display none -no-reboot
	-kernel "$DIR/vmlinuz" -initrd "$work/initramfs.cpio"
	-append "$append loglevel=${BOOT_LOGLEVEL:-5} panic=-1 ${BOOT_APPEND-}"
	-device virtio-rng-pci -device virtio-serial-pci
	# Not a virtio console: it allocates memory inside printk. If an allocator prints the
	# message, lockdep reports a deadlock.
	-chardev "file,id=log,path=${log//,/,,}" -serial chardev:log
	-chardev stdio,id=io,signal=off
	${BOOT_PLUGIN:+-plugin "$BOOT_PLUGIN"}
)
for ((node = 0; ${BOOT_NODES:-1} > 1 && node < BOOT_NODES; node++)); do
	# In bytes, because QEMU knows no fractions.
	size=$(($(numfmt --from=iec "${BOOT_MEM:-$memory}") / BOOT_NODES))
	qemu+=(-object "memory-backend-ram,id=node$node,size=$size" -numa "node,memdev=node$node")
done
add_share root "$ROOT" '' '' ,readonly=on
add_share boot "$work/boot" '' '' ''
if [[ -d $DIR/modules ]]; then
	add_share modules "$(realpath "$DIR/modules/lib/modules/$release")" "/lib/modules/$release" ro,cache=loose ,readonly=on
fi
for i in "${!shares[@]}"; do
	# Not cached beyond a close, but can be mapped writable.
	add_share "share$i" "${shares[i]}" "${shares[i]}" cache=mmap ''
done

console=''
if [[ -n $interactive ]]; then
	qemu+=(-device virtconsole,chardev=io)
	console=hvc0
	read -r rows columns < <(stty size <&0)
	set -- bash -l
else
	qemu+=(-device virtserialport,chardev=io,name=output)
fi

{
	[[ $kernel =~ ^(debug|full)$ && -z $interactive ]] && leaks=${BOOT_KMEMLEAK-yes} || leaks=
	printf '%s=%q\n' MODULE "${module:+$ko}" KMEMLEAK "$leaks" CONSOLE "$console" \
		HOSTNAME "nosigbus-$name"
} >"$work/boot/settings"
{
	for name in TERM ${BOOT_ENV-}; do
		[[ -z ${!name+set} ]] || printf 'export %s=%q\n' "$name" "${!name}"
	done
	printf 'export NOSIGBUS_KO=%q\n' "$ko"
	printf 'cd %q 2>/dev/null || cd /\n' "$PWD"
	if [[ -n $interactive ]]; then
		printf 'stty sane rows %d columns %d\n' "$rows" "$columns"
	fi
	printf 'exec'
	printf ' %q' "$@"
	printf '\n'
} >"$work/boot/command"

if [[ -n $interactive ]]; then
	note "a shell in the guest; leave it with: exit"
	rc=0
	"${qemu[@]}" 2>"$work/qemu.log" || rc=$?
else
	# On a busy host, two starts in a row have gone wrong.
	for attempt in 1 2 3; do
		: >"$work/boot/may-give-up"
		((attempt < 3)) || rm "$work/boot/may-give-up"
		rc=0
		# cat, because QEMU makes its stdout non-blocking. stdin is a FIFO that never
		# ends. setpriv ends QEMU together with this script.
		setpriv --pdeathsig TERM timeout --foreground -k 5 "${BOOT_TIMEOUT:-1200}" "${qemu[@]}" 0<>"$work/stdin" 2>"$work/qemu.log" | cat ||
			rc=${PIPESTATUS[0]}
		# QEMU itself has been seen to abort, once in some thousand boots.
		if ((attempt == 3)) || [[ -e $work/boot/mounted ]]; then
			break
		elif [[ -s $work/boot/bad-start ]]; then
			note "the guest has not started well: once more"
			sed 's/^/    /' "$work/boot/bad-start" >&2
		elif ((rc == 134 || rc == 139)); then
			note "QEMU has crashed (exit status $rc) before anything was run: once more"
			sed 's/^/    /' "$work/qemu.log" >&2
		else
			break
		fi
		rm -f "$work/boot/bad-start"
		: >"$log"
	done
fi

sed -i 's/\r$//' "$log"
CURRENT_LOG=$log
if ! "$REPO/tests/klog-check.sh" "$log" >&2; then
	exit 99
elif [[ -s $work/boot/status ]]; then
	exit "$(<"$work/boot/status")"
elif ((rc == 124 || rc == 137)); then
	(die "no end after ${BOOT_TIMEOUT:-1200} s" "BOOT_TIMEOUT= gives it longer") || exit 97
elif [[ -s $work/boot/error ]]; then
	(die "$(<"$work/boot/error")") || exit 98
fi
[[ -s $log ]] || CURRENT_LOG=$work/qemu.log
(die "the guest died (QEMU: exit status $rc)" \
	"a log that says too little says more with BOOT_LOGLEVEL=8") || exit 98
