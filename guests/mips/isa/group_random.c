/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Random and Wired. What Random is at a time is the CPU's affair, so this group is not for stepping side by side. */
#include "tlb.h"

const char group_name[] = "random";

void group(void)
{
    u32 size = (read_c0(16, 1) >> 25 & 63) + 1;
    CHECK(size, 16);
    static const u8 wired[] = { 0, 1, 4, 15 };
    for (u32 w = 0; w < sizeof wired; w++) {
        write_c0(6, 0, wired[w]);
        check(read_c0(6, 0), wired[w], __LINE__ * 100 + wired[w]);
        u32 outside = 0, written = 0;
        for (u32 i = 0; i < size; i++)
            tlb_clear(i);
        for (u32 n = 0; n < 200; n++) {
            u32 random = read_c0(1, 0), hi = 0x00400000 + (n << 13);
            outside += random < wired[w] || random >= size;
            write_c0(10, 0, hi);
            write_c0(2, 0, n << 6 | LO_V);
            write_c0(3, 0, 0);
            asm volatile("tlbwr" : : : "memory");
            u32 index = tlb_find(hi);
            outside += index < wired[w] || index >= size;
            if (index < size)
                written |= 1u << index;
        }
        check(outside, 0, __LINE__ * 100 + wired[w]);
        /* Wired entries are as they were; of the others several were chosen. */
        for (u32 i = 0; i < wired[w]; i++)
            check(tlb_find(0x80000000 + (i << 13)), i, __LINE__ * 100 + wired[w]);
        u32 chosen = 0;
        for (; written != 0; written &= written - 1)
            chosen++;
        check(chosen >= (size - wired[w] + 1) / 2, 1, __LINE__ * 100 + wired[w]);
    }
    /* A write of Wired sets Random to the last entry (MD00090, "Wired"): it can only have gone down since. */
    write_c0(6, 0, 15);
    CHECK(read_c0(1, 0), 15);
    write_c0(6, 0, 0);
    write_c0(10, 0, 0);
}
