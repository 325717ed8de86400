/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The instructions of integer.inc. */
#include "table.h"

const char group_name[] = "integer";

void group(void)
{
#include "integer.inc"
}
