/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Interrupts without a clock: the two that software sets. When they are let through, where they go, where they return to. */
#include "isa.h"

const char group_name[] = "irq";

#define IP(n) (0x100u << (n))

/* Lets the interrupts of `mask` through for some instructions. */
static void allow(u32 mask)
{
    exception.count = 0;
    u32 status = read_c0(12, 0);
    asm volatile(NOREORDER "mtc0 %0, $12\n\tehb\n\tnop\n\tnop\n\tnop\n\tmtc0 %1, $12\n\tehb" REORDER
                 : : "r"((status & ~STATUS_IM) | mask | STATUS_IE), "r"(status) : "memory");
}

void group(void)
{
    allow(0xff00 & ~0xfc00);
    CHECK(exception.count, 0);
    write_c0(13, 0, IP(0));
    CHECK(read_c0(13, 0) & 0x300, IP(0));
    allow(IP(1));
    CHECK(exception.count, 0);
    allow(IP(0));
    CHECK(exception.count, 1);
    CHECK(exception.cause >> 2 & 31, EXC_INT);
    CHECK(exception.cause & 0x300, IP(0));
    CHECK(exception.vector, 0x180);
    CHECK(exception.cause >> 31, 0);
    write_c0(13, 0, IP(1));
    allow(IP(0));
    CHECK(exception.count, 0);
    allow(IP(0) | IP(1));
    CHECK(exception.count, 1);
    CHECK(exception.cause & 0x300, IP(1));

    /* EXL, ERL and IE hold it back; it comes with ERET. */
    u32 status = read_c0(12, 0), r, want;
    exception.count = 0;
    asm volatile(NOREORDER
                 "mtc0 %3, $12\n\tehb\n\tnop\n\tnop\n\tlw %0, %4\n\tla %1, 1f\n\tmtc0 %1, $14\n\tehb\n\teret\n\tnop\n\t"
                 "1: nop\n\tmtc0 %2, $12\n\tehb" REORDER
                 : "=&r"(r), "=&r"(want) : "r"(status), "r"(status | IP(1) | STATUS_IE | STATUS_EXL), "m"(exception.count) : "memory");
    CHECK(r, 0);
    CHECK(exception.count, 1);
    CHECK(exception.epc, want);
    exception.count = 0;
    asm volatile(NOREORDER
                 "mtc0 %3, $12\n\tehb\n\tnop\n\tnop\n\tlw %0, %4\n\tla %1, 1f\n\tmtc0 %1, $30\n\tehb\n\teret\n\tnop\n\t"
                 "1: nop\n\tmtc0 %2, $12\n\tehb" REORDER
                 : "=&r"(r), "=&r"(want) : "r"(status), "r"(status | IP(1) | STATUS_IE | STATUS_ERL), "m"(exception.count) : "memory");
    CHECK(r, 0);
    CHECK(exception.count, 1);
    CHECK(exception.epc, want);
    exception.count = 0;
    write_c0(12, 0, status | IP(1));
    CHECK(exception.count, 0);
    asm volatile("ei\n\tehb\n\tnop\n\tnop" : : : "memory");
    CHECK(exception.count, 1);
    write_c0(12, 0, status);

    /* Cause written while it is allowed: the interrupt comes before the next instruction but one (after EHB). */
    write_c0(13, 0, 0);
    exception.count = 0;
    asm volatile(NOREORDER
                 "mtc0 %2, $12\n\tehb\n\tla %1, 1f\n\tmtc0 %3, $13\n\tehb\n\t1: nop\n\tlw %0, %5\n\tmtc0 %4, $12\n\tehb" REORDER
                 : "=&r"(r), "=&r"(want) : "r"(status | IP(0) | STATUS_IE), "r"(IP(0)), "r"(status), "m"(exception.count) : "memory");
    CHECK(r, 1);

    /* Cause.IV moves interrupts, and nothing else, to 0x200. */
    write_c0(13, 0, CAUSE_IV | IP(0));
    allow(IP(0));
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0x200);
    RAISES(EXC_SYS, "syscall", 0, 0);
    write_c0(13, 0, 0);

    /* EBase moves the vectors: there is one that goes on at our handler 4 KiB further up. */
    u32 *copy = (u32 *)0x80004000, *from = (u32 *)0x80000000;
    for (u32 i = 0; i < 0x300 / 4; i++)
        copy[i] = from[i];
    copy[0x180 / 4 + 3] = (copy[0x180 / 4 + 3] & 0xffff0000) | 0x4180;
    sync_code(copy, 0x300);
    write_c0(12, 0, status | STATUS_BEV); /* EBase is changed with BEV set (MD00090, "EBase") */
    write_c0(15, 1, 0x80004000);
    write_c0(12, 0, status);
    RAISES_AT(0x4180, EXC_SYS, "syscall", 0, 0);
    write_c0(12, 0, status | STATUS_BEV);
    write_c0(15, 1, 0x80000000);
    write_c0(12, 0, status);
    RAISES(EXC_BP, "break", 0, 0);
}
