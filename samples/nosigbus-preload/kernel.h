/* SPDX-License-Identifier: GPL-2.0-only */
/* What build.rs has bindgen read. */

#include <linux/fs.h>

#include "../../include/uapi/linux/nosigbus.h"
