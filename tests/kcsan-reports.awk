# SPDX-License-Identifier: GPL-2.0-only
#
# KCSAN's reports in a kernel log. "Native" are those in which all that the module
# has done is to call an operation of the file system, as core mm would without it
# (vm_operations.rs), and those that core code has of itself (see known()); "others"
# those that it is in no stack of. All of these are core code's own. For klog-check.sh.
#
#   -v take=ours    prints the reports that are neither
#   -v take=native  prints the native ones
#   -v take=others  prints the others
#   -v take=rest    prints the log without native ones and others
#   -v bad=PATTERN  what is not to be lost, though another CPU prints it in the middle
#                   of such a report

# Documentation/reliability.rst says of each why.
function known() {
	return heading ~ / __zap_vma_range \/ (get_locked_pte|pmd_install|walk_to_pmd)$/ ||
		heading ~ / __zap_vma_range \/ nosigbus_vm_flags_mod \[nosigbus\]$/ ||
		heading ~ / kthread_is_per_cpu \/ nosigbus_memalloc_noreclaim_(save|restore) \[nosigbus\]$/ ||
		heading ~ / smp_call_function_many_cond\+0x[0-9a-f\/x]*$/
}

function end_report(whole) {
	if (heading == "")
		return
	if (kind == "ours" && known())
		kind = "native"
	if (!whole || body ~ bad)
		kind = "ours"
	if (take == kind || (take == "rest" && kind == "ours"))
		printf "%s\n%s", heading, body
	heading = body = callee = ""
}

/BUG: KCSAN:/ {
	end_report(0)
	kind = /\[nosigbus\]/ ? "ours" : "others"
	heading = $0
	next
}

heading != "" {
	# What an interrupt does is not done by what it interrupts.
	if (/ by (task|interrupt) /)
		interrupted = 0
	if (/ asm_(sysvec_|common_interrupt)/)
		interrupted = 1
	# Callees come first.
	if (/\[nosigbus\]/ && !interrupted && callee !~ /\[nosigbus\]/) {
		native = callee ~ / [a-z0-9_]+_(map_pages|fault|page_mkwrite|pfn_mkwrite)\+0x/ ||
			callee ~ / (read_cache_folio|shmem_read_folio_gfp)\+0x/
		if (!native)
			kind = "ours"
		else if (kind == "others")
			kind = "native"
	}
	callee = $0
	body = body $0 "\n"
	if (/====================/)
		end_report(1)
	next
}

take == "rest"

# The kernel has not come to the end of it.
END {
	end_report(0)
}
