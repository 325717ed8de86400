/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The smallest program: docs/guests.md starts from it. */
#include "guest.h"

int main(void)
{
    put_text("Hello from a MIPS guest.\n");
    return 0; /* ends the machine */
}
