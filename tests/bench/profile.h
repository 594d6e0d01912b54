/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A profiled benchmark (tests/profile.sh) calls empty functions at these addresses. The QEMU plugin
 * notices these calls, because nothing else in the guest uses the addresses.
 */
#ifndef _NOSIGBUS_PROFILE_H
#define _NOSIGBUS_PROFILE_H

#define PROFILE_PAGE	0x2b5a00000000UL
#define PROFILE_START	(PROFILE_PAGE + 0)
#define PROFILE_STOP	(PROFILE_PAGE + 16)
/* All instructions that were counted since the last PROFILE_END belong to one subject. */
#define PROFILE_END	(PROFILE_PAGE + 32)

#endif /* _NOSIGBUS_PROFILE_H */
