/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What build.rs has bindgen read. */

#include <linux/fs.h>

#include "../../include/uapi/linux/nosigbus.h"
