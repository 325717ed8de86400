/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Special-purpose and segment registers, MSR, the time base. */
#include "isa.h"

const char group_name[] = "spr";

#define KEEPS(number, value, want) do { \
    u32 old_ = mfspr(number); \
    mtspr(number, value); \
    CHECK(mfspr(number), want); \
    mtspr(number, old_); \
} while (0)

void group(void)
{
    KEEPS(272, 0x12345678, 0x12345678);
    KEEPS(273, 0x22345678, 0x22345678);
    KEEPS(274, 0x32345678, 0x32345678);
    KEEPS(275, 0x42345678, 0x42345678);
    KEEPS(26, 0x12345678, 0x12345678);
    KEEPS(27, 0x0000f072, 0x0000f072);
    KEEPS(18, 0xfeffffff, 0xfeffffff);
    KEEPS(19, 0x87654321, 0x87654321);
    KEEPS(8, 0x12345678, 0x12345678);
    KEEPS(9, 0x12345678, 0x12345678);
    KEEPS(1, 0xe000007f, 0xe000007f);
    KEEPS(25, 0x00ff0003, 0x00ff0003);
    KEEPS(282, 0x80000005, 0x80000005);
    /* BATs, without a valid bit. */
    KEEPS(528, 0xf0001ffc, 0xf0001ffc);
    KEEPS(529, 0xfffe0073, 0xfffe0073);
    KEEPS(534, 0x00020000, 0x00020000);
    KEEPS(537, 0x80000002, 0x80000002);
    KEEPS(543, 0xfffe007a, 0xfffe007a);

    u32 pvr = mfspr(287) >> 16;
    CHECK(pvr == 4 || pvr == 8, true);
    mtspr(287, 0);
    CHECK(mfspr(287) >> 16, pvr);

    /* Segments, by number and by address. */
    u32 v;
    asm volatile("mtsr 3, %1\n\tmfsr %0, 3" : "=r"(v) : "r"(0x60abcdef));
    CHECK(v, 0x60abcdef);
    asm volatile("mtsrin %1, %2\n\tmfsr %0, 12" : "=r"(v) : "r"(0x20123456), "r"(0xc7654321));
    CHECK(v, 0x20123456);
    asm volatile("mfsrin %0, %1" : "=r"(v) : "r"(0x3fffffff));
    CHECK(v, 0x60abcdef);

    /* MSR. */
    mtmsr(MSR_ME | MSR_FP | 2);
    CHECK(mfmsr(), MSR_ME | MSR_FP | 2);
    mtmsr(MSR_ME);
    CHECK(mfmsr(), MSR_ME);

    /* The time base goes on, and carries into its upper half. */
    u32 a, b, u;
    mtspr(284, 0);
    mtspr(285, 7);
    mtspr(284, 0xffffffff);
    do {
        asm volatile("mftb %0\n\tmftbu %1" : "=r"(a), "=r"(u));
    } while (u == 7);
    CHECK(u, 8);
    do
        asm volatile("mftb %0" : "=r"(b));
    while (b == a);
    CHECK(b > a || a > 0xfff00000u, true);
}
