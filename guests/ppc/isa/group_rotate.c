/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The instructions of rotate.inc. */
#include "table.h"

const char group_name[] = "rotate";

void group(void)
{
#include "rotate.inc"
}
