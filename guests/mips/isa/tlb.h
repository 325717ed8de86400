/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Writing and reading TLB entries. */
#ifndef TLB_H
#define TLB_H

#include "isa.h"

/* EntryLo */
#define LO_G 1
#define LO_V 2
#define LO_D 4
#define LO_CACHED (3 << 3)
#define LO_UNCACHED (2 << 3)
#define LO_RAM (LO_CACHED | LO_D | LO_V)
/* For a physical address. */
#define LO(physical, flags) ((physical) >> 12 << 6 | (flags))
#define PHYSICAL(pointer) ((u32)(pointer) & 0x1fffffff)
#define NOT_FOUND 0x80000000u

static inline void tlb_write(u32 index, u32 hi, u32 lo0, u32 lo1, u32 mask)
{
    u32 asid = read_c0(10, 0);
    write_c0(0, 0, index);
    write_c0(10, 0, hi);
    write_c0(2, 0, lo0);
    write_c0(3, 0, lo1);
    write_c0(5, 0, mask);
    asm volatile("tlbwi" : : : "memory");
    write_c0(5, 0, 0);
    write_c0(10, 0, asid);
}

/* Makes an entry match nothing: a page of its own in kseg0, which is not mapped. */
static inline void tlb_clear(u32 index)
{
    tlb_write(index, 0x80000000 + (index << 13), 0, 0, 0);
}

static inline u32 tlb_find(u32 hi)
{
    u32 asid = read_c0(10, 0), index;
    write_c0(10, 0, hi);
    asm volatile("tlbp\n\tehb" : : : "memory");
    index = read_c0(0, 0);
    write_c0(10, 0, asid);
    return index & NOT_FOUND ? NOT_FOUND : index;
}

#endif
