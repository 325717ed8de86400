/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reservations: lwarx and stwcx. */
#include "isa.h"

const char group_name[] = "reserved";

static u32 cell[16] __attribute__((aligned(64)));

static u32 reserve(u32 *at)
{
    u32 v;
    asm volatile("lwarx %0, 0, %1" : "=r"(v) : "r"(at) : "memory");
    return v;
}

/* CR0 after the store, with SO as told. */
static u32 conditional(u32 *at, u32 value, u32 xer)
{
    u32 c;
    asm volatile("mtxer %3\n\tstwcx. %1, 0, %2\n\tmfcr %0" : "=r"(c) : "r"(value), "r"(at), "r"(xer) : "cr0", "xer", "memory");
    return c >> 28;
}

void group(void)
{
    cell[0] = 5;
    CHECK(reserve(cell), 5);
    CHECK(conditional(cell, 6, 0), 2);
    CHECK(cell[0], 6);
    /* It holds once. */
    CHECK(conditional(cell, 7, 0), 0);
    CHECK(cell[0], 6);
    CHECK(conditional(cell, 7, 0x80000000), 1);
    CHECK(reserve(cell), 6);
    CHECK(conditional(cell, 8, 0x80000000), 3);
    CHECK(cell[0], 8);
    /* A second one takes the first one's place. */
    cell[8] = 1;
    reserve(cell);
    reserve(cell + 8);
    CHECK(conditional(cell + 8, 2, 0), 2);
    CHECK(cell[8], 2);
    /* Indexed. */
    u32 v, c;
    asm volatile("lwarx %0, %2, %3\n\taddi %0, %0, 1\n\tstwcx. %0, %2, %3\n\tmfcr %1"
        : "=&r"(v), "=r"(c) : "b"(cell), "b"(32) : "cr0", "memory");
    CHECK(c >> 29 & 1, 1);
    CHECK(cell[8], 3);
    /* Counting. */
    cell[1] = 0;
    for (u32 i = 0; i < 100; i++)
        asm volatile("1: lwarx %0, 0, %1\n\taddi %0, %0, 3\n\tstwcx. %0, 0, %1\n\tbne- 1b" : "=&r"(v) : "r"(cell + 1) : "cr0", "memory");
    CHECK(cell[1], 300);
}
