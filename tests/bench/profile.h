/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a benchmark that is profiled (tests/profile.sh) calls functions that do nothing,
 * and the plugin of QEMU's sees it: nothing else in the guest is at these addresses.
 */
#ifndef _NOSIGBUS_PROFILE_H
#define _NOSIGBUS_PROFILE_H

#define PROFILE_PAGE	0x2b5a00000000UL
#define PROFILE_START	(PROFILE_PAGE + 0)
#define PROFILE_STOP	(PROFILE_PAGE + 16)
/* All that has been counted since the last time is one subject's. */
#define PROFILE_END	(PROFILE_PAGE + 32)

#endif /* _NOSIGBUS_PROFILE_H */
