/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the manuals say and QEMU 7.2 does otherwise, or what it does not model. */
#include "isa.h"
#include "mmu.h"

const char group_name[] = "manual";

#define VSID 0x123456u
#define ON (MSR_ME | MSR_DR)

void group(void)
{
    identity_bats();
    clear_table();
    REG32(0x00502000) = REG32(0x00503000) = 0x44000002;
    asm volatile("dcbst 0, %0\n\tdcbst 0, %1\n\tsync\n\ticbi 0, %0\n\ticbi 0, %1\n\tisync" : : "r"(0x00502000), "r"(0x00503000) : "memory");
    set_segment(5, VSID);

    /* Alignment: DAR and DSISR name the access (PEM, section 6.4.6). */
    RAISES(VECTOR_ALIGNMENT, 0, "lmw 30, 2(%1)", 0x4000, 0);
    CHECK(exception.dar, 0x4002);
    CHECK(exception.dsisr >> 5, 7 << 5 | 30);
    RAISES(VECTOR_ALIGNMENT, 0, "stmw 29, 1(%1)", 0x4000, 0);
    CHECK(exception.dsisr >> 5, (1 << 4 | 7) << 5 | 29);
    RAISES(VECTOR_ALIGNMENT, 0, "lwarx 9, 0, %1", 0x4002, 0);
    CHECK(exception.dar, 0x4002);
    CHECK(exception.dsisr >> 5, 9);
    RAISES(VECTOR_ALIGNMENT, 0, "stwcx. 9, 0, %1", 0x4001, 0);

    /* dcbz into what is not cached. */
    map_page(VSID, 0x50000000, 0x00500000, 2 | 0x20, false);
    RAISES_IN(ON, VECTOR_ALIGNMENT, 0, "dcbz 0, %1", 0x50000008, 0);
    CHECK(exception.dar, 0x50000008);
    map_page(VSID, 0x50001000, 0x00501000, 2 | 0x40, false);
    RAISES_IN(ON, VECTOR_ALIGNMENT, 0, "dcbz 0, %1", 0x50001000, 0);

    /* No instruction comes from guarded memory. */
    map_page(VSID, 0x50002000, 0x00502000, 2 | 8, false);
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", 0x50002000, 0);
    CHECK(exception.vector, VECTOR_ISI);
    CHECK(exception.srr1, MSR_ME | MSR_IR | 0x10000000);

    /* Nor from where loads are not allowed. */
    set_segment(5, VSID | 0x40000000);
    map_page(VSID, 0x50003000, 0x00503000, 0, false);
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", 0x50003000, 0);
    CHECK(exception.vector, VECTOR_ISI);
    CHECK(exception.srr1, MSR_ME | MSR_IR | 0x08000000);
    set_segment(5, VSID);

    /* Direct-store segments. */
    bool is_604 = mfspr(287) >> 16 == 4;
    set_segment(6, 0x80000000);
    RAISES_IN(ON, VECTOR_DSI, 0, "lwz 0, 0(%1)", 0x60000000, 0);
    CHECK_DATA(0x60000000, is_604 ? 0x80000000 : 0x04000000);

    /* External control needs EAR[E]. */
    mtspr(282, 0);
    RAISES(VECTOR_DSI, 0, "eciwx 0, 0, %1", 0x4000, 0);
    CHECK_DATA(0x4000, 0x00100000);

    /* Bits that do not exist cannot be set. */
    u32 v;
    asm volatile("mtxer %1\n\tmfxer %0" : "=r"(v) : "r"(0xffffffff) : "xer");
    CHECK(v, 0xe000007f);
    mtspr(1008, is_604 ? 0x0000cc00 : 0x0000cc00);
    CHECK(mfspr(1008), 0x0000c000);
    mtspr(1008, 0);
    mtspr(538, 0xffffe000);
    CHECK(mfspr(538), 0xfffe0000);

    mtmsr(0);
    CHECK(mfmsr(), 0);
    mtmsr(MSR_ME);
    CHECK(mfmsr(), MSR_ME);

    /* The data address breakpoint. */
    mtspr(1013, 0x4008 | 2);
    QUIET("lwz 0, 8(%1)\n\tstw 0, 0(%1)", 0x4000, 0);
    RAISES(VECTOR_DSI, 0, "stw 0, 12(%1)", 0x4000, 0);
    CHECK_DATA(0x400c, 0x02400000);
    mtspr(1013, 0);
}
