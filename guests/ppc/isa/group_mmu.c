/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Segments and the hashed page table: both groups, bits R and C, protection, no execution, invalidation. Code runs
 * translated by IBAT0; data is at segment 5, pages of virtual segment 0x123456.
 */
#include "isa.h"
#include "mmu.h"

const char group_name[] = "mmu";

#define PAGE(n) (0x50000000u + (n) * 4096)
#define DATA(n) (0x00500000u + (n) * 4096)
#define VSID 0x123456u
#define ON (MSR_ME | MSR_DR)
#define USER (ON | MSR_PR)

static u32 load(u32 address)
{
    u32 v = 0xdead;
    RAISE(ON, "lwz 0, 0(%1)\n\tstw 0, 0(%2)", address, &v);
    return v;
}

static void groups(void)
{
    for (u32 n = 0; n < 64; n++) {
        REG32(DATA(n)) = n * 0x01010101;
        map_page(VSID, PAGE(n), DATA(n), 2, n & 1);
    }
    set_segment(5, VSID);
    for (u32 n = 0; n < 64; n++) {
        u32 v;
        RAISE(ON, "lwz 0, 0(%1)\n\tlis 11, 0x40\n\tstw 0, 0(11)", PAGE(n), 0);
        v = REG32(0x00400000);
        CHECK(v, n * 0x01010101);
        CHECK(entry_of(VSID, PAGE(n))[1] & 0x180, 0x100);
    }
    for (u32 n = 0; n < 64; n++) {
        RAISE(ON, "stw %2, 8(%1)", PAGE(n), n + 1000);
        CHECK(exception.vector, 0xc00);
        CHECK(REG32(DATA(n) + 8), n + 1000);
        CHECK(entry_of(VSID, PAGE(n))[1] & 0x180, 0x180);
    }
}

/* Which of load and store a key and PP allow: bits 1 and 0. */
static void protection(void)
{
    static const u32 allowed[2][4] = { { 3, 3, 3, 2 }, { 0, 2, 3, 2 } };
    for (u32 user = 0; user < 2; user++)
        for (u32 keys = 0; keys < 4; keys++)
            for (u32 pp = 0; pp < 4; pp++) {
                u32 key = user ? keys & 1 : keys >> 1, msr = user ? USER : ON;
                set_segment(5, VSID | keys << 29);
                map_page(VSID, PAGE(70), DATA(70), pp, false);
                invalidate(PAGE(70));
                RAISE(msr, "lwz 0, 4(%1)", PAGE(70), 0);
                CHECK(exception.vector, allowed[key][pp] & 2 ? 0xc00 : VECTOR_DSI);
                if (!(allowed[key][pp] & 2))
                    CHECK_DATA(PAGE(70) + 4, 0x08000000);
                RAISE(msr, "stw 0, 4(%1)", PAGE(70), 0);
                CHECK(exception.vector, allowed[key][pp] & 1 ? 0xc00 : VECTOR_DSI);
                if (!(allowed[key][pp] & 1))
                    CHECK_DATA(PAGE(70) + 4, 0x0a000000);
            }
    set_segment(5, VSID);
}

static void misses(void)
{
    RAISES_IN(ON, VECTOR_DSI, 0, "lwz 0, 0(%1)", PAGE(99) + 12, 0);
    CHECK_DATA(PAGE(99) + 12, 0x40000000);
    RAISES_IN(ON, VECTOR_DSI, 0, "stb 0, 0(%1)", PAGE(99) + 13, 0);
    CHECK_DATA(PAGE(99) + 13, 0x42000000);
    RAISES_IN(ON, VECTOR_DSI, 0, "dcbz 0, %1", PAGE(99), 0);
    CHECK_DATA(PAGE(99), 0x42000000);
    RAISES_IN(ON, VECTOR_DSI, 0, "dcbst 0, %1", PAGE(99), 0);
    CHECK_DATA(PAGE(99), 0x40000000);
    RAISES_IN(ON, VECTOR_DSI, 0, "lwarx 0, 0, %1", PAGE(99), 0);
    CHECK_DATA(PAGE(99), 0x40000000);
    /* Hints never fault. */
    QUIET_IN(ON, "dcbt 0, %1\n\tdcbtst 0, %1", PAGE(99), 0);
    /* An access into the next page, which is not there: nothing is stored. */
    map_page(VSID, PAGE(80), DATA(80), 2, false);
    REG32(DATA(80) + 4092) = 0x11111111;
    RAISES_IN(ON, VECTOR_DSI, 0, "stw %2, 4094(%1)", PAGE(80), -1);
    CHECK_DATA(PAGE(81), 0x42000000);
    CHECK(REG32(DATA(80) + 4092), 0x11111111);
    /* An update form leaves its register. */
    u32 r = PAGE(99);
    exception.count = 0;
    asm volatile("mfmsr 11\n\tori 12, 11, 0x10\n\tmtmsr 12\n\tisync\n\tlwzu 12, 8(%0)\n\tmtmsr 11\n\tisync" : "+b"(r) : : "11", "12", "memory");
    CHECK(exception.count, 1);
    CHECK(r, PAGE(99));
}

static void invalidation(void)
{
    map_page(VSID, PAGE(100), DATA(100), 2, false);
    REG32(DATA(100)) = 1;
    REG32(DATA(101)) = 2;
    RAISE(ON, "lwz 0, 0(%1)\n\tlis 11, 0x40\n\tstw 0, 0(11)", PAGE(100), 0);
    CHECK(REG32(0x00400000), 1);
    entry_of(VSID, PAGE(100))[1] = DATA(101) | 2;
    invalidate(PAGE(100));
    RAISE(ON, "lwz 0, 0(%1)\n\tlis 11, 0x40\n\tstw 0, 0(11)", PAGE(100), 0);
    CHECK(REG32(0x00400000), 2);
    /* Another virtual segment has other pages. */
    set_segment(5, VSID + 1);
    RAISES_IN(ON, VECTOR_DSI, 0, "lwz 0, 0(%1)", PAGE(100), 0);
    set_segment(5, VSID);
    QUIET_IN(ON, "lwz 0, 0(%1)", PAGE(100), 0);
}

/* Jumps to a page that is mapped for `why`. */
static void fetches(void)
{
    REG32(DATA(110)) = 0x44000002;
    asm volatile("dcbst 0, %0\n\tsync\n\ticbi 0, %0\n\tisync" : : "r"(DATA(110)) : "memory");
    map_page(VSID, PAGE(110), DATA(110), 2, false);
    exception.count = 0;
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", PAGE(110), 0);
    CHECK(exception.vector, 0xc00);
    CHECK(exception.srr0, PAGE(110) + 4);
    CHECK(entry_of(VSID, PAGE(110))[1] & 0x180, 0x100);
    set_segment(5, VSID | 0x10000000);
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", PAGE(110), 0);
    CHECK(exception.vector, VECTOR_ISI);
    CHECK(exception.srr0, PAGE(110));
    CHECK(exception.srr1, MSR_ME | MSR_IR | 0x10000000);
    QUIET_IN(ON, "lwz 0, 0(%1)", PAGE(110), 0);
    set_segment(5, VSID);
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", PAGE(111) + 8, 0);
    CHECK(exception.vector, VECTOR_ISI);
    CHECK(exception.srr0, PAGE(111) + 8);
    CHECK(exception.srr1, MSR_ME | MSR_IR | 0x40000000);
}

void group(void)
{
    /* Code, stack and the tests' words by BATs, the table at 12 MiB. */
    identity_bats();
    clear_table();
    groups();
    CHECK(load(PAGE(3)), 3 * 0x01010101);
    protection();
    misses();
    invalidation();
    fetches();
}
