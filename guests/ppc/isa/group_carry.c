/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The instructions of carry.inc. */
#include "table.h"

const char group_name[] = "carry";

void group(void)
{
#include "carry.inc"
}
