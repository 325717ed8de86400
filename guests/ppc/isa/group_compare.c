/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The instructions of compare.inc. */
#include "table.h"

const char group_name[] = "compare";

void group(void)
{
#include "compare.inc"
}
