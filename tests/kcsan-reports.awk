# SPDX-License-Identifier: GPL-2.0-only
#
# KCSAN's reports in a kernel log. "Others" are those that the module is in no
# stack of: core code's own.
#
#   -v take=ours    prints the reports that are not others
#   -v take=others  prints the others
#   -v take=rest    prints the log without the others

function end_report() {
	# What another CPU has printed in the middle of it is not lost.
	kind = report ~ /\[nosigbus\]|WARNING:|Oops|BUG: [^K]|BUG: K[^C]|protection fault/ ? "ours" : "others"
	if (take == kind || (take == "rest" && kind == "ours"))
		printf "%s", report
	report = ""
}

/BUG: KCSAN:/ {
	end_report()
	report = $0 "\n"
	next
}

report {
	report = report $0 "\n"
	if (/====================/)
		end_report()
	next
}

take == "rest"

END {
	end_report()
}
