// SPDX-License-Identifier: GPL-2.0-only

#include <linux/seq_file.h>

bool nosigbus_seq_has_overflowed(struct seq_file *seq)
{
	return seq_has_overflowed(seq);
}
