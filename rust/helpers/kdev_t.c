// SPDX-License-Identifier: GPL-2.0-only

#include <linux/kdev_t.h>

unsigned int nosigbus_major(dev_t dev)
{
	return MAJOR(dev);
}

unsigned int nosigbus_minor(dev_t dev)
{
	return MINOR(dev);
}
