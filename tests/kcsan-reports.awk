# SPDX-License-Identifier: GPL-2.0-only
#
# KCSAN's reports in a kernel log. "Native" are those in which all that the module
# has done is to call an operation of the file system, as core mm would without it
# (vm_operations.rs); "others" those that it is in no stack of. Both are core code's
# own. For klog-check.sh.
#
#   -v take=ours    prints the reports that are neither
#   -v take=native  prints the native ones
#   -v take=others  prints the others
#   -v take=rest    prints the log without native ones and others
#   -v bad=PATTERN  what is not to be lost, though another CPU prints it in the middle
#                   of such a report

function end_report(whole) {
	if (heading == "")
		return
	if (!whole || body ~ bad)
		kind = "ours"
	if (take == kind || (take == "rest" && kind == "ours"))
		printf "%s", heading body
	heading = body = callee = ""
}

/BUG: KCSAN:/ {
	end_report(0)
	kind = /\[nosigbus\]/ ? "ours" : "others"
	heading = $0 "\n"
	next
}

heading != "" {
	# Callees come first.
	if (/\[nosigbus\]/ && callee !~ /\[nosigbus\]/) {
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
