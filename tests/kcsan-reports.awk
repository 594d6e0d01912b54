# SPDX-License-Identifier: GPL-2.0-only
#
# KCSAN's reports in a kernel log. "Others" are those that the module is in no
# stack of: core code's own. For klog-check.sh.
#
#   -v take=ours    prints the reports that are not others
#   -v take=others  prints the others
#   -v take=rest    prints the log without the others
#   -v bad=PATTERN  what is lost to nobody, though another CPU prints it in the middle
#                   of such a report

function end_report(whole) {
	if (heading == "")
		return
	kind = whole && body !~ /\[nosigbus\]/ && body !~ bad ? "others" : "ours"
	if (take == kind || (take == "rest" && kind == "ours"))
		printf "%s", heading body
	heading = body = ""
}

/BUG: KCSAN:/ {
	end_report(0)
	heading = $0 "\n"
	next
}

heading != "" {
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
