/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A page table of 64 KiB at 12 MiB, and BATs that leave the first 8 MiB where they are. */
#ifndef MMU_H
#define MMU_H

#include "isa.h"

#define TABLE 0x00c00000u

static inline void set_segment(u32 n, u32 value)
{
    asm volatile("mtsrin %0, %1\n\tisync" : : "r"(value), "r"(n << 28) : "memory");
}

static inline void invalidate(u32 address)
{
    asm volatile("tlbie %0\n\tsync\n\tisync" : : "r"(address) : "memory");
}

static inline void clear_table(void)
{
    for (u32 i = 0; i < 0x10000; i += 4)
        REG32(TABLE + i) = 0;
    mtspr(25, TABLE);
}

static inline volatile u32 *group_of(u32 vsid, u32 address, bool secondary)
{
    u32 hash = (vsid & 0x7ffff) ^ (address >> 12 & 0xffff);
    return (volatile u32 *)(TABLE | ((secondary ? ~hash : hash) & 0x3ff) << 6);
}

static inline u32 upper_of(u32 vsid, u32 address, bool secondary)
{
    return 0x80000000u | (vsid & 0xffffff) << 7 | (secondary ? 0x40 : 0) | (address >> 22 & 0x3f);
}

static inline volatile u32 *entry_of(u32 vsid, u32 address)
{
    for (u32 secondary = 0; secondary < 2; secondary++)
        for (u32 i = 0; i < 8; i++) {
            volatile u32 *entry = group_of(vsid, address, secondary) + 2 * i;
            if (entry[0] == upper_of(vsid, address, secondary))
                return entry;
        }
    return 0;
}

static inline void map_page(u32 vsid, u32 address, u32 to, u32 bits, bool secondary)
{
    volatile u32 *entry = entry_of(vsid, address);
    if (!entry)
        for (entry = group_of(vsid, address, secondary); entry[0]; entry += 2)
            ;
    entry[1] = to | bits;
    entry[0] = upper_of(vsid, address, secondary);
}

static inline void identity_bats(void)
{
    u32 zero = 0;
    mtspr(530, zero);
    mtspr(532, zero);
    mtspr(534, zero);
    mtspr(538, zero);
    mtspr(540, zero);
    mtspr(542, zero);
    mtspr(529, 2);
    mtspr(528, 0xff); /* 8 MiB, for supervisor and users */
    mtspr(537, 2);
    mtspr(536, 0xff);
}

#endif
