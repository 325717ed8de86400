/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Vectored interrupts (Config3.VInt): each has a vector of its own, IntCtl.VS apart; the highest one wins. */
#include "isa.h"

const char group_name[] = "irqvec";

#define IP(n) (0x100u << (n))

static void allow(u32 mask)
{
    exception.count = 0;
    u32 status = read_c0(12, 0);
    asm volatile(NOREORDER "mtc0 %0, $12\n\tehb\n\tnop\n\tnop\n\tnop\n\tmtc0 %1, $12\n\tehb" REORDER
                 : : "r"((status & ~STATUS_IM) | mask | STATUS_IE), "r"(status) : "memory");
}

void group(void)
{
    u32 config3 = read_c0(16, 1) >> 31 && read_c0(16, 2) >> 31 ? read_c0(16, 3) : 0;
    if (!(config3 & 0x20)) {
        left_out("all", "this CPU says that it has no vectored interrupts (Config3.VInt is 0)");
        return;
    }
    write_c0(12, 1, 1 << 5); /* 32 bytes apart */
    CHECK(read_c0(12, 1) >> 5 & 31, 1);
    write_c0(13, 0, CAUSE_IV | IP(0));
    allow(IP(0));
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0x200);
    write_c0(13, 0, CAUSE_IV | IP(1));
    allow(IP(1));
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0x220);
    write_c0(13, 0, CAUSE_IV | IP(1) | IP(0));
    allow(IP(1) | IP(0));
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0x220);
    /* The ones that Status.IM holds back do not count. */
    allow(IP(0));
    CHECK(exception.vector, 0x200);
    /* Without Cause.IV there is one vector. */
    write_c0(13, 0, IP(1));
    allow(IP(1));
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0x180);
    /* The timer's number is told by IntCtl.IPTI. */
    u32 timer = read_c0(12, 1) >> 29;
    write_c0(13, 0, CAUSE_IV);
    write_c0(11, 0, read_c0(9, 0) + 2000000);
    for (u32 n = 0; n < 200000000 && !(read_c0(13, 0) & CAUSE_TI); n++)
        ;
    CHECK(read_c0(13, 0) & IP(timer), IP(timer));
    allow(IP(timer));
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0x200 + 32 * timer);
    write_c0(11, 0, 0);
    /* A distance of 0 is one vector again. */
    write_c0(12, 1, 0);
    write_c0(13, 0, CAUSE_IV | IP(1));
    allow(IP(1));
    CHECK(exception.vector, 0x200);
    write_c0(13, 0, 0);
}
