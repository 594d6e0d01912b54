// SPDX-License-Identifier: GPL-2.0-only

#include <linux/module.h>

bool nosigbus_within_module(const void *object, const struct module *module)
{
	return within_module((unsigned long)object, module);
}

struct module *nosigbus_this_module(void)
{
	return THIS_MODULE;
}

void nosigbus_module_get(void)
{
	__module_get(THIS_MODULE);
}

void nosigbus_module_put(void)
{
	module_put(THIS_MODULE);
}
