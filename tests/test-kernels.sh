#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make test_kernels: runs some of the selftests in each kernel and machine of tests/variants. The
# last line reads "N passed, N failed, N skipped".
#
# T=NAME...  only these variants

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from the makes below.
unset MAKEFLAGS MFLAGS MAKELEVEL

cd "$REPO"
results=build/results/kernels
names=() variables=() checks=() programs=()
while IFS='|' read -r name rest; do
	read -r name <<<"$name"
	if [[ $name == programs ]]; then
		read -ra programs <<<"$rest"
		continue
	fi
	names+=("$name") variables+=("${rest%%|*}") checks+=("${rest#*|}")
done < <(sed '/^#/d; /^$/d' tests/variants)
for name in ${T-}; do
	[[ " ${names[*]} " == *" $name "* ]] || die "T=$name: there is no such variant" "T= some of: ${names[*]}"
done
rm -rf "$results"
mkdir -p "$results"

# run_variant NAME VARIABLES CHECK: adds the lines for report.py to the file logs.
run_variant() {
	local name=$1 dir=$results/$1 kernel bin assignments status=0 why=''
	read -ra assignments <<<"$2"
	((${#assignments[@]} == 0)) || export "${assignments[@]}"
	# By the machine of the variant.
	. tests/lib.sh
	bin=build/selftests$OF_MACHINE
	tests/toolchain.sh all >/dev/null
	kernel=$(tests/kernel.sh stock)
	step "Kernels: $name: $(<"$kernel/release") ${assignments[*]}"
	mkdir -p "$dir" "$bin"
	# The harness is the one of that kernel's own selftests.
	logged "selftests-$name" tests/toolchain.sh run make -C tests/selftests "-j$(nproc)" "CC=$GUEST_CC" \
		"OUT=$REPO/$bin" M32= "KSRC=$kernel/source" "${programs[@]/#/$REPO/$bin/}" ||
		die "the selftests did not build" "mend what the compiler complains of"
	printf '%s\n' "$3" "tests/guest/selftests.sh $bin $dir ${programs[*]/%/,few}" >"$dir/commands"
	BOOT_TIMEOUT=${BOOT_TIMEOUT:-7200} tests/boot.sh -- tests/guest/run.sh "$dir" || status=$?
	# The next guest overwrites the log.
	cp "build/boot/console-$(kernel_name stock).log" "$dir/kernel.log"
	((status == 0)) || why=$(tests/klog-check.sh "$dir/kernel.log") || true
	{
		printf 'TAP version 13\n1..1\n'
		[[ -z $why ]] || printf '# %s\n' "${why//$'\n'/$'\n'# }"
		((status == 0)) || printf 'not '
		printf 'ok 1 the guest is what its name says, clean end and clean kernel log (status %d)\n' "$status"
	} >"$dir/guest.tap"
	printf '%s\n' "$name: guest=$dir/guest.tap" "${programs[@]/#/$name: }" |
		sed -E "s,^[^=]*: ([^=]*)\$,&=$dir/\1.tap," >>$results/logs
	[[ ! -s $dir/seconds ]] || sed "s/ / $name: /" "$dir/seconds" >>$results/seconds
}

for i in "${!names[@]}"; do
	[[ -n ${T-} && " $T " != *" ${names[i]} "* ]] ||
		(run_variant "${names[i]}" "${variables[i]}" "${checks[i]}")
done

step "Results"
mapfile -t logs <$results/logs
status=0
tests/toolchain.sh run tests/report.py --seconds $results/seconds "$(tests/kernel.sh stock)/source" "${logs[@]}" \
	>$results/report || status=$?
sed '$d' $results/report
printf 'All: %d s. %s\n' "$SECONDS" "$(tests/speed.sh)"
tail -n 1 $results/report
exit "$status"
