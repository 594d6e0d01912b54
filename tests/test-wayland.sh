#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make test_wayland: attacks Wayland compositors from Debian, each natively and under nosigbus run,
# without and with the options that Documentation/compositors.rst recommends. A guest with the stock
# kernel and a root that has the compositors runs them. It also runs wlcs natively and under nosigbus
# run. The last line reads "N passed, N failed, N skipped". An attack is skipped if the
# compositor does not offer what the attack needs.
#
# T=NAME...    only these compositors of tests/compositors/table, or wlcs
# A=ATTACK...  only these rows of the table

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from the makes below.
unset MAKEFLAGS MFLAGS MAKELEVEL

cd "$REPO"
results=build/results/wayland
read -ra all < <(sed -n 's/^attack //p' tests/compositors/table)
all+=(wlcs)
read -ra names <<<"${T:-${all[*]}}"
for name in "${names[@]}"; do
	[[ " ${all[*]} " == *" $name "* ]] || die "T=$name: there is no such compositor" "T= some of: ${all[*]}"
done
rm -rf "$results"
mkdir -p "$results"
tests/toolchain.sh >/dev/null
BOOT_ROOT=$(tests/toolchain.sh compositors)
export BOOT_ROOT
stock=$(tests/kernel.sh stock)
make -s "build/$(kernel_name stock)/nosigbus.ko" samples >&2
built=$SECONDS

logs=("documentation=$results/documentation.tap")
tests/host/compositors.sh >"$results/documentation.tap" || note "failed, see below"
for name in "${names[@]}"; do
	case $name in
	wlcs) logs+=("wlcs=$results/wlcs.tap") ;;
	*) logs+=("$name=$results/compositor-$name.tap") ;;
	esac
done
status=0
ATTACKS=${A-} BOOT_ENV=ATTACKS BOOT_MEM=${BOOT_MEM:-4G} BOOT_TIMEOUT=${BOOT_TIMEOUT:-7200} tests/boot.sh -- \
	tests/guest/compositors.sh build/samples/release $results "${names[@]}" || status=$?
# The next guest overwrites the log.
cp "build/boot/console-$(kernel_name stock).log" $results/kernel.log
printf 'TAP version 13\n1..1\n%s 1 clean end and clean kernel log (status %d)\n' \
	"$( ((status == 0)) && echo ok || echo 'not ok')" "$status" >$results/guest.tap
logs+=("guest=$results/guest.tap")

step "Results"
status=0
tests/toolchain.sh run tests/report.py --seconds $results/seconds "$stock/source" "${logs[@]}" \
	>$results/report || status=$?
sed '$d' $results/report
printf 'Root, kernel, module and programs: %d s. Tests: %d s. All: %d s. %s\n' \
	"$built" $((SECONDS - built)) "$SECONDS" "$(tests/speed.sh)"
tail -n 1 $results/report
exit "$status"
