/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Load linked and store conditional. */
#include "isa.h"

const char group_name[] = "llsc";

static volatile u32 cell[64];

static u32 load_linked(volatile u32 *at)
{
    u32 value;
    asm volatile("ll %0, 0(%1)" : "=r"(value) : "r"(at) : "memory");
    return value;
}

static u32 store_conditional(volatile u32 *at, u32 value)
{
    asm volatile("sc %0, 0(%1)" : "+r"(value) : "r"(at) : "memory");
    return value;
}

void group(void)
{
    cell[0] = 5;
    CHECK(load_linked(&cell[0]), 5);
    CHECK(store_conditional(&cell[0], 6), 1);
    CHECK(cell[0], 6);

    /* ERET ends the link, so an exception between the two does. */
    CHECK(load_linked(&cell[0]), 6);
    RAISES(EXC_SYS, "syscall", 0, 0);
    CHECK(store_conditional(&cell[0], 7), 0);
    CHECK(cell[0], 6);

    /* A loop that counts. */
    u32 total;
    asm volatile(NOREORDER
                 "li $8, 10\n\t"
                 "1: ll %0, 0(%1)\n\taddiu %0, %0, 1\n\tmove $9, %0\n\tsc $9, 0(%1)\n\tbeq $9, $0, 1b\n\tnop\n\t"
                 "addiu $8, $8, -1\n\tbne $8, $0, 1b\n\tnop" REORDER
                 : "=&r"(total) : "r"(&cell[0]) : "$8", "$9", "memory");
    CHECK(cell[0], 16);
    CHECK(total, 16);

    /* The register that is stored receives the result, also when it is the base's neighbour. */
    cell[1] = 9;
    CHECK(load_linked(&cell[1]), 9);
    CHECK(store_conditional(&cell[1], 0x80000000), 1);
    CHECK(cell[1], 0x80000000);

    /* LL wants a whole word; so does SC, see group_manual.c. */
    RAISES(EXC_ADEL, "ll $8, 2(%1)", cell, 0);
    CHECK(exception.badvaddr, (u32)cell + 2);
}
