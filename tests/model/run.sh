#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Checks growth.pml with spin: that nothing is violated, over all interleavings,
# and that something is, and what, when a part of the protocol is taken out.
# Prints TAP, with the number of states of each case. Runs in the toolchain root:
#
# usage: tests/toolchain.sh run tests/model/run.sh [FILE]
#        FILE gets the TAP as well

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
shopt -s inherit_errexit

model=$REPO/tests/model/growth.pml
work=$REPO/build/model
# MiB; the largest case takes some 1100.
memory=4000

# WHAT IS TO BE FOUND|NAME|DEFINES. "none": nothing, and all states were visited.
# "cycle": a non-progress cycle; "no cycle": that there is none, nor anything else.
cases=(
	"none|two threads in two processes, two size changes|-DN=1 -DOPS1=1 -DOPS2=1"
	"none|shmem: two threads in two processes, three size changes|-DN=1 -DSHMEM -DOPS1=2 -DOPS2=1"
	"none|shmem: two threads in one process, two size changes|-DN=1 -DSHMEM -DONE_VMA -DOPS1=1 -DOPS2=1"
	"none|one thread, two accesses, three size changes|-DN=1 -DTHREADS=1 -DACCESSES=2 -DOPS1=2 -DOPS2=1"
	"none|shmem: one thread, two accesses, a file of two pages|-DN=2 -DSHMEM -DTHREADS=1 -DACCESSES=2 -DOPS1=1 -DOPS2=1"
	"none|shmem: a fork, two size changes|-DN=1 -DSHMEM -DFORK -DOPS1=1 -DOPS2=1"
	"none|shmem: one thread, the mark lost meanwhile, three size changes|-DN=1 -DSHMEM -DTHREADS=1 -DLOST -DOPS1=2 -DOPS2=1"
	"no cycle|shmem: two threads get on|-DN=1 -DSHMEM -DOPS1=2 -DOPS2=0"
	"no cycle|one thread gets on|-DN=1 -DTHREADS=1 -DOPS1=2 -DOPS2=1"

	"P3_grown|without the second look at i_size|-DN=1 -DNO_RECHECK -DOPS1=1 -DOPS2=1"
	"P1_sigbus|shmem: without the generation|-DN=1 -DSHMEM -DNO_GENERATION -DOPS1=1 -DOPS2=1"
	"P3_grown|without unmapping|-DN=1 -DNO_ZAP -DOPS1=1 -DOPS2=1"
	"P3_grown|without the semaphore|-DN=1 -DNO_SEMAPHORE -DOPS1=1 -DOPS2=1"
	"P3_grown|without the lowest stand-in being recorded|-DN=1 -DNO_LOWEST -DOPS1=1 -DOPS2=1"
	"P4_content|without shadow pages being dropped|-DN=1 -DNO_DROP -DOPS1=1 -DOPS2=1"
	"P4_one_page|unmapping after the semaphore|-DN=1 -DZAP_OUTSIDE -DOPS1=1 -DOPS2=1"
	"P3_grown|the event before the size|-DN=1 -DEVENT_BEFORE_SIZE -DOPS1=1 -DOPS2=1"
	"P1_sigbus|shmem: the generation sampled after looking at i_size|-DN=1 -DSHMEM -DLATE_GENERATION -DOPS1=1 -DOPS2=1"
	"P1_sigbus|shmem: a truncation to the last known size not counted|-DN=1 -DSHMEM -DNO_TRUNCATED -DOPS1=2 -DOPS2=1"
	"P1_sigbus|without reading the page while it cannot shrink|-DN=1 -DNO_UNSHRUNK_READ -DOPS1=1 -DOPS2=1"
	"P1_sigbus|shmem: without knowing that the mark is lost|-DN=1 -DSHMEM -DTHREADS=1 -DLOST -DNO_BLIND -DOPS1=2 -DOPS2=1"
	"cycle|errors never delivered|-DN=1 -DTHREADS=1 -DNO_DELIVERY -DOPS1=1 -DOPS2=0"
	"P3_grown|shmem: a fork, the child unmapped before its parent|-DN=1 -DSHMEM -DFORK -DCHILD_FIRST -DOPS1=1 -DOPS2=1"
)

# check NUMBER: runs a case in a directory of its own, leaves its TAP there.
check() {
	local dir=$work/$1 expected name defines found status='not ok' options=(-O2)
	local checker=(./pan -m100000 -w24)
	IFS='|' read -r expected name defines <<<"${cases[$1]}"
	mkdir -p "$dir"
	cd "$dir"
	if [[ $expected == *cycle ]]; then
		options+=(-DNP)
		checker+=(-l)
	else
		options+=(-DSAFETY)
	fi
	# shellcheck disable=SC2086 # these are words
	{
		spin -a $defines "$model"
		gcc "${options[@]}" -w -DCOLLAPSE -DMEMLIM=$memory -DVECTORSZ=512 -o pan pan.c
		"${checker[@]}"
	} >log 2>&1 || true

	found=$(sed -nE 's/^pan:1: assertion violated \(+(P[0-9]_[a-z_]+)\|\|.*/\1/p
		s/^pan:1: non-progress cycle.*/cycle/p
		s/^pan:1: (invalid end state).*/\1/p' log)
	# Truncated by memory or depth, or not run at all, is not "nothing found".
	if [[ -z $found ]] && grep -q '^State-vector .*, errors: 0$' log &&
		! grep -qE 'Search not completed|max search depth|out of memory' log; then
		found=none
	fi
	if [[ $found == "${expected/#no cycle/none}" ]]; then
		status=ok
	fi
	{
		printf '%s %d %s\n' "$status" $(($1 + 1)) "$name"
		printf '# %s: %s; %s states, %s s\n' "$defines" "${found:-no result}" \
			"$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' log)" \
			"$(sed -nE 's/^pan: elapsed time ([0-9.]+) seconds/\1/p' log)"
		if [[ $status != ok ]]; then
			printf '# expected: %s\n' "$expected"
			sed 's/^/# /' log
			if [[ -e growth.pml.trail ]]; then
				echo "# how it comes to that: cd $dir && spin -p -t $defines $model"
			fi
		fi
	} >tap
	rm -f pan pan.[bchmpt]
}

all() {
	local i running=0 failed=0
	printf 'TAP version 13\n1..%d\n' ${#cases[@]}
	rm -rf "$work"
	for i in "${!cases[@]}"; do
		if ((running == $(nproc))); then
			wait -n
			running=$((running - 1))
		fi
		check "$i" &
		running=$((running + 1))
	done
	wait
	for i in "${!cases[@]}"; do
		cat "$work/$i/tap"
		[[ $(<"$work/$i/tap") == ok* ]] || failed=1
	done
	return $failed
}

if (($# > 0)); then
	mkdir -p "$(dirname "$1")"
	all | tee "$1"
else
	all
fi
