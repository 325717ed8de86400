/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The instructions of float.inc, moves, selections, FPSCR's own instructions, exceptions that are enabled. */
#include "floats.h"

const char group_name[] = "float";

static u64 cells[4] __attribute__((aligned(16)));

#define WORDS(value, high, low) do { CHECK((value) >> 32, high); CHECK(value, low); } while (0)

static void moves(void)
{
    cells[0] = 0xc00921fb54442d18ull;
    asm volatile("lfd 1, 0(%0)\n\tfmr 2, 1\n\tfneg 3, 1\n\tfabs 4, 1\n\tfnabs 5, 4\n\tstfd 3, 8(%0)\n\tstfd 4, 16(%0)\n\tstfd 5, 24(%0)"
        : : "b"(cells) : "memory");
    WORDS(cells[1], 0x400921fb, 0x54442d18);
    WORDS(cells[2], 0x400921fb, 0x54442d18);
    WORDS(cells[3], 0xc00921fb, 0x54442d18);
    /* Singles in memory, with and without update and index. */
    REG32(cells) = 0x3fc00000;
    REG32((u32)cells + 4) = 0x80000001;
    u32 at = (u32)cells;
    asm volatile("lfs 1, 0(%0)\n\tstfd 1, 8(%0)\n\tlfsu 2, 4(%0)\n\tstfd 2, 12(%0)\n\tstfsx 2, %0, %1" : "+b"(at) : "r"(20) : "memory");
    CHECK(at, (u32)cells + 4);
    WORDS(cells[1], 0x3ff80000, 0);
    WORDS(cells[2], 0xb6a00000, 0);
    CHECK(REG32((u32)cells + 24), 0x80000001);
    cells[0] = 0x1122334455667788ull;
    asm volatile("lfdux 1, %0, %1\n\tstfiwx 1, 0, %2\n\tstfdu 1, 8(%0)" : "+b"(at) : "r"(-4), "r"((u32)cells + 28) : "memory");
    CHECK(at, (u32)cells + 8);
    CHECK(REG32((u32)cells + 28), 0x55667788);
    WORDS(cells[1], 0x11223344, 0x55667788);
}

static void selections(void)
{
    static const u64 deciding[] = { 0, 1ull << 63, 0xbff0000000000000ull, 0x3ff0000000000000ull, 0x7ff8000000000000ull };
    static const u32 chosen[] = { 0x40080000, 0x40080000, 0x40000000, 0x40080000, 0x40000000 };
    for (u32 i = 0; i < 5; i++) {
        cells[0] = deciding[i];
        cells[1] = 0x4000000000000000ull;
        cells[2] = 0x4008000000000000ull;
        asm volatile("lfd 1, 0(%0)\n\tlfd 2, 8(%0)\n\tlfd 3, 16(%0)\n\tfsel 4, 1, 3, 2\n\tstfd 4, 24(%0)" : : "b"(cells) : "memory");
        CHECK(cells[3] >> 32, chosen[i]);
    }
}

static u32 fpscr(void)
{
    asm volatile("mffs 1\n\tstfd 1, 0(%0)" : : "b"(cells) : "memory");
    return (u32)cells[0];
}

static void control(void)
{
    cells[0] = 0;
    asm volatile("lfd 1, 0(%0)\n\tmtfsf 0xff, 1" : : "b"(cells));
    CHECK(fpscr(), 0);
    asm volatile("mtfsfi 7, 2");
    CHECK(fpscr(), 2);
    asm volatile("mtfsb1 31\n\tmtfsb0 30");
    CHECK(fpscr(), 1);
    /* Zero divide: FX with it. VX and FEX are nobody's to set. */
    asm volatile("mtfsb1 5");
    CHECK(fpscr(), 0x84000001);
    asm volatile("mtfsb0 0\n\tmtfsb1 7");
    CHECK(fpscr(), 0xa5000001);
    u32 c;
    asm volatile("mcrfs 3, 1\n\tmfcr %0" : "=r"(c) : : "cr3");
    CHECK(c >> 16 & 15, 5);
    CHECK(fpscr(), 0x80000001);
    cells[0] = 0xffffffff;
    asm volatile("lfd 1, 0(%0)\n\tmtfsf 0x81, 1" : : "b"(cells));
    CHECK(fpscr(), 0x9000000f);
    asm volatile("mtfsfi. 0, 0\n\tmfcr %0" : "=r"(c) : : "cr1");
    CHECK(c >> 24 & 15, 0);
    asm volatile("mtfsfi 7, 0");
    CHECK(fpscr(), 0);
}

static void enabled(void)
{
    /* Division by zero, with and without MSR[FE0, FE1]; the target stays. */
    cells[0] = 0x3ff0000000000000ull;
    cells[1] = 0;
    asm volatile("lfd 1, 0(%0)\n\tlfd 2, 8(%0)\n\tfmr 3, 1\n\tmtfsfi 7, 0\n\tmtfsfi 6, 1" : : "b"(cells));
    QUIET_IN(MSR_ME | MSR_FP, "fdiv 3, 1, 2", 0, 0);
    CHECK(fpscr() & 0xfff00000, 0xc4000000);
    asm volatile("stfd 3, 8(%0)" : : "b"(cells) : "memory");
    WORDS(cells[1], 0x3ff00000, 0);
    asm volatile("mtfsb0 5\n\tmtfsb0 0");
    cells[1] = 0;
    asm volatile("lfd 2, 8(%0)" : : "b"(cells));
    asm volatile("mffs 5\n\tlfd 1, 0(%0)" : : "b"(&numbers[2]));
    RAISES_IN(MSR_ME | MSR_FP | 0x900, VECTOR_PROGRAM, 0x00100000, "fdiv 3, 1, 2", 0, 0);
    asm volatile("mtfsfi 7, 0\n\tmtfsfi 6, 0");
}

void group(void)
{
    mtmsr(mfmsr() | MSR_FP);
#include "float.inc"
    moves();
    selections();
    control();
    enabled();
}
