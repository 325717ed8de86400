/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Values between FPU, general registers and memory; registers as pairs (Status.FR = 0) and as 64 bits (FR = 1). */
#include "fpu.h"

const char group_name[] = "fpumove";

static volatile u64 cell[8];

static void pairs(void)
{
    u32 low, high;
    cell[0] = 0x0123456789abcdefull;
    /* The even register of a pair has the low half, in both byte orders. */
    asm volatile(NOREORDER FPU "ldc1 $f4, 0(%2)\n\tnop\n\tmfc1 %0, $f4\n\tmfc1 %1, $f5" REORDER
                 : "=&r"(low), "=&r"(high) : "r"(cell) : "memory");
    CHECK(low, 0x89abcdef);
    CHECK(high, 0x01234567);
    asm volatile(NOREORDER FPU "mtc1 %0, $f6\n\tmtc1 %1, $f7\n\tsdc1 $f6, 8(%2)" REORDER
                 : : "r"(0x11112222), "r"(0x33334444), "r"(cell) : "memory");
    CHECK(cell[1], 0x11112222);
    CHECK(cell[1] >> 32, 0x33334444);
    asm volatile(NOREORDER FPU "mfhc1 %0, $f6\n\tmthc1 %1, $f6\n\tmfc1 %1, $f7" REORDER : "=&r"(high), "+&r"(low));
    CHECK(high, 0x33334444);
    CHECK(low, 0x89abcdef);
    /* Words, odd registers included. */
    cell[2] = 0;
    asm volatile(NOREORDER FPU "lwc1 $f9, 0(%2)\n\tlwc1 $f8, 4(%2)\n\tswc1 $f9, 16(%2)\n\tmfc1 %0, $f8\n\tmfc1 %1, $f9" REORDER
                 : "=&r"(low), "=&r"(high) : "r"(cell) : "memory");
    CHECK(low, BE_LE(0x89abcdef, 0x01234567));
    CHECK(high, BE_LE(0x01234567, 0x89abcdef));
    CHECK(*(volatile u32 *)&cell[2], BE_LE(0x01234567, 0x89abcdef));
    /* Indexed. */
    asm volatile(NOREORDER FPU "lwxc1 $f2, %1(%2)\n\tldxc1 $f4, $0(%2)\n\tswxc1 $f2, %3(%2)\n\tsdxc1 $f4, %4(%2)\n\tmfc1 %0, $f2" REORDER
                 : "=&r"(low) : "r"(4), "r"(cell), "r"(24), "r"(32) : "memory");
    CHECK(low, BE_LE(0x89abcdef, 0x01234567));
    CHECK(*(volatile u32 *)&cell[3], BE_LE(0x89abcdef, 0x01234567));
    CHECK(cell[4], 0x89abcdef);
    CHECK(cell[4] >> 32, 0x01234567);
}

static void whole(void)
{
    u32 status = read_c0(12, 0), low, high, other;
    write_c0(12, 0, status | STATUS_FR);
    cell[0] = 0x0123456789abcdefull;
    cell[1] = 0xfedcba9876543210ull;
    /* Odd registers are registers of their own. */
    asm volatile(NOREORDER FPU64 "ldc1 $f4, 0(%3)\n\tldc1 $f5, 8(%3)\n\tnop\n\tmfc1 %0, $f4\n\tmfhc1 %1, $f4\n\tmfhc1 %2, $f5" REORDER
                 : "=&r"(low), "=&r"(high), "=&r"(other) : "r"(cell) : "memory");
    CHECK(low, 0x89abcdef);
    CHECK(high, 0x01234567);
    CHECK(other, 0xfedcba98);
    asm volatile(NOREORDER FPU64 "mtc1 %0, $f5\n\tmthc1 %1, $f5\n\tsdc1 $f5, 16(%2)\n\tsdc1 $f4, 24(%2)" REORDER
                 : : "r"(0x5555), "r"(0x6666), "r"(cell) : "memory");
    CHECK(cell[2], 0x5555);
    CHECK(cell[2] >> 32, 0x6666);
    CHECK(cell[3], 0x89abcdef);
    CHECK(cell[3] >> 32, 0x01234567);
    /* LUXC1 and SUXC1 take a misaligned address for the doubleword that it is in. */
    asm volatile(NOREORDER FPU64 "prefx 0, %0(%1)\n\tluxc1 $f7, %0(%1)\n\tsuxc1 $f7, %2(%1)" REORDER
                 : : "r"(11), "r"(cell), "r"(38) : "memory");
    CHECK(cell[4], 0x76543210);
    CHECK(cell[4] >> 32, 0xfedcba98);
    write_c0(12, 0, status);
}

static void faults(void)
{
    u32 base = (u32)cell;
    RAISES(EXC_ADEL, ".set hardfloat\n\tlwc1 $f0, 2(%1)", base, 0);
    CHECK(exception.badvaddr, base + 2);
    RAISES(EXC_ADES, ".set hardfloat\n\tswc1 $f0, 1(%1)", base, 0);
    RAISES(EXC_ADEL, ".set hardfloat\n\tldc1 $f0, 4(%1)", base, 0);
    CHECK(exception.badvaddr, base + 4);
    RAISES(EXC_ADES, ".set hardfloat\n\tsdc1 $f0, 4(%1)", base, 0);
    RAISES_AT(0, EXC_TLBL, ".set hardfloat\n\tldc1 $f0, 8(%1)", 0x00400000, 0);
    CHECK(exception.badvaddr, 0x00400008);
    RAISES_AT(0, EXC_TLBS, ".set hardfloat\n\tsdc1 $f0, 8(%1)", 0x00400000, 0);
    /* FIR: single, double, word, long and 64-bit registers. */
    u32 fir;
    asm volatile(NOREORDER FPU "cfc1 %0, $0" REORDER : "=r"(fir));
    CHECK(fir & 0x00730000, 0x00730000);
}

void group(void)
{
    if (!fpu_on())
        return;
    pairs();
    whole();
    faults();
}
