/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the manuals say and QEMU 7.2 does otherwise. guests/README.md has the paragraphs, and the cases that QEMU fails; the
 * test of the guests expects QEMU to fail these and no others.
 */
#include "tlb.h"

const char group_name[] = "manual";

static volatile u32 cell[4];

/* SC looks at the address before it looks at the link. */
static void store_conditional(void)
{
    RAISES(EXC_SYS, "syscall", 0, 0); /* ERET: no link */
    RAISES(EXC_ADES, "sc $8, 2(%1)", cell, 0);
}

/* A coprocessor 2 that cannot be used is that, and not a reserved instruction. */
static void coprocessor2(void)
{
    RAISES(EXC_CPU, ".word 0x48080000", 0, 0); /* mfc2 $8, $0 */
}

/* Function 5 of SPECIAL is reserved. */
static void special5(void)
{
    RAISES(EXC_RI, ".word 0x00000005", 0, 0);
}

/* WRPGPR to the current set, the register used before and after it without a branch between. */
static void previous_set(void)
{
    u32 r;
    asm volatile(NOREORDER "li $8, 0x4321\n\tmove $9, $0\n\twrpgpr $9, $8\n\tmove %0, $9" REORDER : "=r"(r) : : "$8", "$9");
    CHECK(r, 0x4321);
}

/* A cache operation by address translates it, and a miss is a TLB load. */
static void cache_translates(void)
{
    RAISES_AT(0, EXC_TLBL, "cache 0x15, 0(%1)", 0x00400000, 0);
}

/* An entry that TLBWR replaces translates no more. With Wired at 15, Random is 15. */
static void replaced(void)
{
    write_c0(6, 0, 15);
    for (u32 i = 0; i < 2; i++) {
        write_c0(10, 0, 0x00400000 + i * 0x2000);
        write_c0(2, 0, LO(0x00200000, LO_RAM | LO_G));
        write_c0(3, 0, LO(0x00201000, LO_RAM | LO_G));
        asm volatile("tlbwr" : : : "memory");
    }
    QUIET("lw $8, 0(%1)", 0x00402000, 0);
    RAISES_AT(0, EXC_TLBL, "lw $8, 0(%1)", 0x00400000, 0);
    write_c0(6, 0, 0);
    tlb_clear(15);
}

void group(void)
{
    store_conditional();
    coprocessor2();
    special5();
    previous_set();
    cache_translates();
    replaced();
}
