/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The condition register's logic and moves, branches by counter and condition, links. */
#include "isa.h"

const char group_name[] = "cr";

#define ALL_CR "cr0", "cr1", "cr2", "cr3", "cr4", "cr5", "cr6", "cr7"

/* Bits 5, 10 and 15 of the condition register: crbA, crbB and crbD, of which four combinations give these bits. */
#define LOGIC(name, want) do { \
    u32 got_ = 0; \
    for (u32 n_ = 0; n_ < 4; n_++) { \
        u32 c_ = (n_ & 2 ? 1u << 26 : 0) | (n_ & 1 ? 1u << 21 : 0) | 0x10c0ff0f, d_; \
        for (u32 old_ = 0; old_ < 2; old_++) { \
            u32 in_ = (c_ & ~(1u << 16)) | old_ << 16; \
            asm volatile("mtcr %1\n\t" name " 15, 5, 10\n\tmfcr %0" : "=r"(d_) : "r"(in_) : ALL_CR); \
            CHECK(d_ & ~(1u << 16), in_ & ~(1u << 16)); \
            got_ = got_ << 1 | (d_ >> 16 & 1); \
        } \
    } \
    CHECK(got_, want); \
} while (0)

static void logic(void)
{
    /* Two bits each for 00, 01, 10, 11. */
    LOGIC("crand", 0x03);
    LOGIC("crandc", 0x0c);
    LOGIC("creqv", 0xc3);
    LOGIC("crnand", 0xfc);
    LOGIC("crnor", 0xc0);
    LOGIC("cror", 0x3f);
    LOGIC("crorc", 0xcf);
    LOGIC("crxor", 0x3c);
}

static void moves(void)
{
    u32 r, x;
    asm volatile("mtcr %1\n\tmcrf 0, 7\n\tmcrf 6, 1\n\tmfcr %0" : "=r"(r) : "r"(0x12345678) : ALL_CR);
    CHECK(r, 0x82345628);
    asm volatile("mtcr %1\n\tmtcrf 0xa5, %2\n\tmfcr %0" : "=r"(r) : "r"(0x12345678), "r"(0xabcdef90) : ALL_CR);
    CHECK(r, 0xa2c45f70);
    asm volatile("mtcr %2\n\tmtxer %3\n\tmcrxr 2\n\tmfcr %0\n\tmfxer %1" : "=r"(r), "=&r"(x) : "r"(0), "r"(0xa0000011)
        : ALL_CR, "xer");
    CHECK(r, 0x00a00000);
    CHECK(x, 0x00000011);
    asm volatile("mtcr %2\n\tmtxer %3\n\tmcrxr 7\n\tmfcr %0\n\tmfxer %1" : "=r"(r), "=&r"(x) : "r"(0), "r"(0x40000000)
        : ALL_CR, "xer");
    CHECK(r, 0x00000004);
    CHECK(x, 0);
}

/* Whether `bc bo, bi` branches, and what it leaves in CTR, in bit 31 of the result. */
#define BRANCH(text, ctr, cr, taken) do { \
    u32 went_, left_; \
    asm volatile("mtctr %2\n\tmtcr %3\n\tli %0, 1\n\t" text "\n\tli %0, 0\n\t1: mfctr %1" \
        : "=&r"(went_), "=r"(left_) : "r"(ctr), "r"(cr) : ALL_CR, "ctr", "lr"); \
    CHECK(went_, taken); \
    CHECK(left_, (ctr) - counted); \
} while (0)

static void branches(void)
{
    u32 counted = 0;
    BRANCH("bc 12, 2, 1f", 0, 0x20000000, 1);
    BRANCH("bc 12, 2, 1f", 0, 0xd0000000, 0);
    BRANCH("bc 4, 2, 1f", 0, 0x20000000, 0);
    BRANCH("bc 4, 31, 1f", 0, 0xfffffffe, 1);
    BRANCH("bc 12, 31, 1f", 0, 1, 1);
    BRANCH("bc 20, 0, 1f", 5, 0, 1);
    BRANCH("bc 13, 2, 1f", 0, 0x20000000, 1);
    counted = 1;
    BRANCH("bc 16, 0, 1f", 2, 0, 1);
    BRANCH("bc 16, 0, 1f", 1, 0, 0);
    BRANCH("bc 16, 0, 1f", 0, 0, 1);
    BRANCH("bc 18, 0, 1f", 1, 0, 1);
    BRANCH("bc 18, 0, 1f", 2, 0, 0);
    BRANCH("bc 0, 6, 1f", 2, 0, 1);
    BRANCH("bc 0, 6, 1f", 2, 0x02000000, 0);
    BRANCH("bc 0, 6, 1f", 1, 0, 0);
    BRANCH("bc 2, 6, 1f", 1, 0, 1);
    BRANCH("bc 2, 6, 1f", 2, 0, 0);
    BRANCH("bc 8, 6, 1f", 2, 0x02000000, 1);
    BRANCH("bc 8, 6, 1f", 2, 0xfdffffff, 0);
    BRANCH("bc 10, 6, 1f", 1, 0x02000000, 1);
    BRANCH("bc 10, 6, 1f", 1, 0, 0);
    BRANCH("bc 10, 6, 1f", 2, 0x02000000, 0);
    /* Through the link register: to 1, or past it. */
    BRANCH("lis 11, 1f@ha\n\taddi 11, 11, 1f@l\n\tmtlr 11\n\tbclr 16, 0", 2, 0, 1);
    BRANCH("lis 11, 1f@ha\n\taddi 11, 11, 1f@l\n\tmtlr 11\n\tbclr 16, 0", 1, 0, 0);
    BRANCH("lis 11, 1f@ha\n\taddi 11, 11, 1f@l\n\tori 11, 11, 3\n\tmtlr 11\n\tbclr 8, 3", 9, 0x10000000, 1);
}

static void links(void)
{
    u32 link, here;
    asm volatile("bl 1f\n1: mflr %0\n\tlis %1, 1b@ha\n\taddi %1, %1, 1b@l" : "=r"(link), "=&b"(here) : : "lr");
    CHECK(link, here);
    /* Not taken, and the link is set all the same. */
    asm volatile("li %0, 0\n\tmtlr %0\n\tmtcr %0\n\tbcl 12, 0, 1f\n1: mflr %0\n\tlis %1, 1b@ha\n\taddi %1, %1, 1b@l"
        : "=&r"(link), "=&b"(here) : : "lr", ALL_CR);
    CHECK(link, here);
    /* To the old link, with a new one. */
    asm volatile("lis 11, 2f@ha\n\taddi 11, 11, 2f@l\n\tmtlr 11\n\tblrl\n1: li %0, 0\n\tb 3f\n2: mflr %0\n"
        "3: lis %1, 1b@ha\n\taddi %1, %1, 1b@l" : "=&r"(link), "=&b"(here) : : "lr", "11");
    CHECK(link, here);
    asm volatile("lis 11, 2f@ha\n\taddi 11, 11, 2f@l\n\tmtctr 11\n\tbctrl\n1: li %0, 0\n\tb 3f\n2: mflr %0\n"
        "3: lis %1, 1b@ha\n\taddi %1, %1, 1b@l" : "=&r"(link), "=&b"(here) : : "lr", "ctr", "11");
    CHECK(link, here);
    /* Absolute branches: to a word in low memory that returns. */
    REG32(0x4000) = 0x4e800020;
    asm volatile("dcbst 0, %0\n\tsync\n\ticbi 0, %0\n\tisync" : : "r"(0x4000) : "memory");
    asm volatile("bla 0x4000\n1: mflr %0\n\tlis %1, 1b@ha\n\taddi %1, %1, 1b@l" : "=r"(link), "=&b"(here) : : "lr");
    CHECK(link, here);
    asm volatile("bcla 20, 0, 0x4000\n1: mflr %0\n\tlis %1, 1b@ha\n\taddi %1, %1, 1b@l" : "=r"(link), "=&b"(here) : : "lr");
    CHECK(link, here);
}

void group(void)
{
    logic();
    moves();
    branches();
    links();
}
