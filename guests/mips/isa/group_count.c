/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Count, Compare, the timer interrupt and WAIT. How quickly Count counts is the CPU's affair, so this group is not for stepping. */
#include "isa.h"

const char group_name[] = "count";

#define IP7 0x8000

/* True when `condition` came true before Count got far. */
#define SOON(condition) ({ \
    u32 tries_ = 0; \
    while (!(condition) && ++tries_ < 50000000) \
        ; \
    tries_ < 50000000; })

/* Sets Compare so far ahead that Count was not there yet when it was set, however long the host held us up. */
static void arm(void)
{
    u32 distance = 50000, compare;
    do {
        distance *= 2;
        compare = read_c0(9, 0) + distance;
        write_c0(11, 0, compare);
    } while ((s32)(read_c0(9, 0) - compare) >= 0);
}

void group(void)
{
    u32 status = read_c0(12, 0), start, r;

    /* It counts, and can be written. */
    start = read_c0(9, 0);
    CHECK(SOON(read_c0(9, 0) != start), 1);
    write_c0(9, 0, 0x40000000);
    r = read_c0(9, 0);
    CHECK(r - 0x40000000 < 0x10000000, 1);
    asm volatile("rdhwr %0, $2" : "=r"(r));
    CHECK(r - 0x40000000 < 0x10000000, 1);

    /* Count = Compare sets IP7 and TI; writing Compare clears both. */
    arm();
    r = read_c0(13, 0) & (IP7 | CAUSE_TI);
    if ((s32)(read_c0(9, 0) - read_c0(11, 0)) < 0)
        CHECK(r, 0);
    CHECK(SOON(read_c0(13, 0) & CAUSE_TI), 1);
    CHECK((s32)(read_c0(9, 0) - read_c0(11, 0)) >= 0, 1);
    CHECK(read_c0(13, 0) & IP7, IP7);
    write_c0(11, 0, read_c0(11, 0));
    CHECK(read_c0(13, 0) & (IP7 | CAUSE_TI), 0);

    /* Past 0xffffffff. */
    u32 window = 0x40000;
    do {
        window *= 2;
        write_c0(9, 0, -window);
        write_c0(11, 0, window);
    } while ((s32)(read_c0(9, 0) - window) >= 0);
    CHECK(SOON(read_c0(13, 0) & CAUSE_TI), 1);
    CHECK(read_c0(9, 0) < 0x40000000, 1);

    /* The interrupt. */
    exception.count = 0;
    arm();
    write_c0(12, 0, status | IP7 | STATUS_IE);
    CHECK(SOON(exception.count != 0), 1);
    write_c0(12, 0, status);
    CHECK(exception.count, 1);
    CHECK(exception.cause >> 2 & 31, EXC_INT);
    CHECK(exception.cause & IP7, IP7);
    CHECK(exception.cause & CAUSE_TI, CAUSE_TI);
    CHECK(exception.vector, 0x180);

    /* WAIT ends with an interrupt, which returns to what comes after it. */
    for (u32 n = 0; n < 3; n++) {
        u32 after;
        exception.count = 0;
        arm();
        write_c0(12, 0, status | IP7 | STATUS_IE);
        asm volatile(NOREORDER "la %0, 1f\n\twait\n\t1: nop" REORDER : "=&r"(after) : : "memory");
        CHECK(SOON(exception.count != 0), 1);
        write_c0(12, 0, status);
        CHECK(exception.count, 1);
    }

    /* Cause.DC stops Count. */
    write_c0(13, 0, CAUSE_DC);
    CHECK(read_c0(13, 0) & CAUSE_DC, CAUSE_DC);
    start = read_c0(9, 0);
    for (u32 n = 0; n < 10000; n++)
        asm volatile("" : : : "memory");
    CHECK(read_c0(9, 0), start);
    write_c0(13, 0, 0);
    CHECK(SOON(read_c0(9, 0) != start), 1);
    write_c0(11, 0, 0);
}
