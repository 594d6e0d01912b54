// SPDX-License-Identifier: GPL-2.0-only

#include <linux/oom.h>

bool nosigbus_check_stable_address_space(struct mm_struct *mm)
{
	return check_stable_address_space(mm);
}
