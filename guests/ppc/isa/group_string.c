/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Multiples and strings. */
#include "isa.h"

const char group_name[] = "string";

static u8 space[256] __attribute__((aligned(16)));
static u32 saved[8];

static void fill(void)
{
    for (u32 i = 0; i < sizeof space; i++)
        space[i] = (u8)(i * 5 + 3);
}

/* The word of bytes at `at`, of which the first `n` count. */
static u32 bytes(u32 at, u32 n)
{
    u32 v = 0;
    for (u32 i = 0; i < 4; i++)
        v = v << 8 | (i < n ? space[at + i] : 0);
    return v;
}

static void multiples(void)
{
    asm volatile("lmw 26, 4(%0)\n\tstmw 26, 0(%1)" : : "b"(space), "b"(saved) : "26", "27", "28", "29", "30", "31", "memory");
    for (u32 i = 0; i < 6; i++)
        CHECK(saved[i], bytes(4 + 4 * i, 4));
    asm volatile("lmw 31, 64(%0)\n\tstmw 31, 28(%1)" : : "b"(space), "b"(saved) : "31", "memory");
    CHECK(saved[7], bytes(64, 4));
}

#define LOAD_IMM(n) do { \
    asm volatile("li 26, -1\n\tli 27, -1\n\tli 28, -1\n\tli 29, -1\n\tli 30, -1\n\tlswi 26, %0, " STRING(n) "\n\tstmw 26, 0(%1)" \
        : : "b"(space + 5), "b"(saved) : "26", "27", "28", "29", "30", "31", "memory"); \
    for (u32 i_ = 0; i_ < 5; i_++) { \
        s32 left_ = (n) - 4 * (s32)i_; \
        CHECK(saved[i_], left_ > 0 ? bytes(5 + 4 * i_, (u32)left_) : 0xffffffff); \
    } \
} while (0)

static void loads(void)
{
    LOAD_IMM(1);
    LOAD_IMM(2);
    LOAD_IMM(3);
    LOAD_IMM(4);
    LOAD_IMM(5);
    LOAD_IMM(11);
    LOAD_IMM(16);
    LOAD_IMM(20);
    for (u32 n = 1; n <= 20; n++) {
        asm volatile("li 26, -1\n\tli 27, -1\n\tli 28, -1\n\tli 29, -1\n\tli 30, -1\n\tmtxer %2\n\tlswx 26, %0, %3\n\tstmw 26, 0(%1)"
            : : "b"(space), "b"(saved), "r"(n), "b"(7) : "26", "27", "28", "29", "30", "31", "xer", "memory");
        for (u32 i = 0; i < 5; i++) {
            s32 left = (s32)n - 4 * (s32)i;
            CHECK(saved[i], left > 0 ? bytes(7 + 4 * i, (u32)left) : 0xffffffff);
        }
    }
    /* 32 bytes for 0; from r29 on past r31 to r0 to r4. */
    asm volatile("mr 10, 1\n\tmr 11, 2\n\tmr 12, %0\n\tlswi 29, 12, 0\n\tstw 29, 0(%1)\n\tstw 31, 4(%1)\n\tstw 0, 8(%1)\n\tstw 4, 12(%1)\n\t"
        "mr 1, 10\n\tmr 2, 11" : : "r"(space), "b"(saved)
        : "0", "3", "4", "10", "11", "12", "29", "30", "31", "memory");
    CHECK(saved[0], bytes(0, 4));
    CHECK(saved[1], bytes(8, 4));
    CHECK(saved[2], bytes(12, 4));
    CHECK(saved[3], bytes(28, 4));
}

static void stores(void)
{
    u8 *to = space + 128;
    for (u32 n = 0; n <= 9; n++) {
        memset(to, 0xee, 32);
        asm volatile("lis 29, 0x1122\n\tori 29, 29, 0x3344\n\tlis 30, 0x5566\n\tori 30, 30, 0x7788\n\tlis 31, 0x99aa\n\t"
            "mtxer %1\n\tstswx 29, %0, %2" : : "b"(to), "r"(n), "b"(3) : "29", "30", "31", "xer", "memory");
        CHECK(to[2], 0xee);
        for (u32 i = 0; i < n; i++)
            CHECK(to[3 + i], 0x11 * (i + 1));
        CHECK(to[3 + n], 0xee);
    }
    memset(to, 0xee, 32);
    asm volatile("lis 30, 0x5566\n\tori 30, 30, 0x7788\n\tlis 31, 0x99aa\n\tstswi 30, %0, 5" : : "b"(to + 1) : "30", "31", "memory");
    CHECK(to[0] << 24 | to[1] << 16 | to[2] << 8 | to[3], 0xee556677);
    CHECK(to[4] << 24 | to[5] << 16 | to[6] << 8 | to[7], 0x8899eeee);
}

void group(void)
{
    fill();
    multiples();
    loads();
    stores();
}
