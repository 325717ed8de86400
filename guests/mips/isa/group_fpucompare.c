/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The sixteen comparisons, the eight condition codes, branches and moves on them. */
#include "fpu.h"

const char group_name[] = "fpucompare";

/* less, equal, greater, unordered: with a quiet NaN (its first fraction bit is 0 here), with a signalling one. */
static const u32 singles[5][2] = {
    { 0xbf800000, 0x3f800000 }, { 0x00000000, 0x80000000 }, { 0x40000000, 0x3f800000 }, { 0x7fbfffff, 0x3f800000 },
    { 0x3f800000, 0x7fc00001 },
};
static const u64 doubles[5][2] = {
    { 0xbff0000000000000ull, 0x3ff0000000000000ull }, { 0x0000000000000000ull, 0x8000000000000000ull },
    { 0x4000000000000000ull, 0x3ff0000000000000ull }, { 0x7ff7ffffffffffffull, 0x3ff0000000000000ull },
    { 0x3ff0000000000000ull, 0x7ff8000000000001ull },
};

/* Of a predicate's four bits bit 2 is "less", bit 1 "equal", bit 0 "unordered", bit 3 "a quiet NaN is invalid too". */
static u32 truth(u32 predicate, u32 pair)
{
    return pair == 0 ? predicate >> 2 & 1 : pair == 1 ? predicate >> 1 & 1 : pair == 2 ? 0 : predicate & 1;
}

static u32 invalid(u32 predicate, u32 pair)
{
    return pair == 4 || (pair == 3 && predicate >= 8) ? F_V : 0;
}

/* FCSR after the comparison into condition code 0. A case is 1000 (2000 for doubles) + 10 * predicate + pair. */
#define COMPARE(predicate, name) do { \
    for (u32 pair = 0; pair < 5; pair++) { \
        u32 s_, d_, want_ = truth(predicate, pair) << 23 | FCSR(0, invalid(predicate, pair)); \
        asm volatile(NOREORDER FPU "ctc1 $0, $31\n\tmtc1 %1, $f2\n\tmtc1 %2, $f4\n\tnop\n\tc." name ".s $f2, $f4\n\tcfc1 %0, $31" REORDER \
                     : "=r"(s_) : "r"(singles[pair][0]), "r"(singles[pair][1])); \
        check(s_, want_, 1000 + 10 * (predicate) + pair); \
        asm volatile(NOREORDER FPU "ctc1 $0, $31\n\tldc1 $f2, 0(%1)\n\tldc1 $f4, 8(%1)\n\tc." name ".d $f2, $f4\n\tcfc1 %0, $31" REORDER \
                     : "=r"(d_) : "r"(doubles[pair]) : "memory"); \
        check(d_, want_, 2000 + 10 * (predicate) + pair); \
    } } while (0)

static const u32 one = 0x3f800000, two = 0x40000000;

static void codes(void)
{
    /* Condition code 0 is bit 23 of FCSR, 1 to 7 are bits 25 to 31; a comparison writes only its own. */
    u32 r;
#define CODE(n, bit) do { \
    asm volatile(NOREORDER FPU "ctc1 $0, $31\n\tmtc1 %1, $f2\n\tmtc1 %2, $f4\n\tnop\n\tc.lt.s $fcc" #n ", $f2, $f4\n\tcfc1 %0, $31" REORDER \
                 : "=r"(r) : "r"(one), "r"(two)); \
    CHECK(r, 1u << (bit)); \
    asm volatile(NOREORDER FPU "ctc1 %3, $31\n\tmtc1 %1, $f2\n\tmtc1 %2, $f4\n\tnop\n\tc.lt.s $fcc" #n ", $f4, $f2\n\tcfc1 %0, $31" REORDER \
                 : "=r"(r) : "r"(one), "r"(two), "r"(0xfe800000)); \
    CHECK(r, 0xfe800000 & ~(1u << (bit))); } while (0)
    CODE(0, 23);
    CODE(1, 25);
    CODE(2, 26);
    CODE(3, 27);
    CODE(4, 28);
    CODE(5, 29);
    CODE(6, 30);
    CODE(7, 31);
    /* FCCR (25) shows the codes together, FEXR (26) causes and flags, FENR (28) enables, FS and rounding mode. */
    fcsr_write(0xfe800000 & ~(1u << 26));
    asm volatile(NOREORDER FPU "cfc1 %0, $25" REORDER : "=r"(r));
    CHECK(r, 0xfb);
    asm volatile(NOREORDER FPU "ctc1 %1, $25\n\tcfc1 %0, $31" REORDER : "=r"(r) : "r"(0x81));
    CHECK(r, 0x80800000);
    asm volatile(NOREORDER FPU "ctc1 $0, $31\n\tctc1 %1, $28\n\tcfc1 %0, $31" REORDER : "=r"(r) : "r"(0x00000003 | 4));
    CHECK(r, 0x01000003);
    asm volatile(NOREORDER FPU "cfc1 %0, $28\n\tctc1 $0, $31" REORDER : "=r"(r));
    CHECK(r, 7);
    asm volatile(NOREORDER FPU "ctc1 %1, $26\n\tcfc1 %0, $31\n\tctc1 $0, $31" REORDER : "=r"(r) : "r"(0x00001004));
    CHECK(r, 0x00001004);
}

#define PATH(fcsr, branch) ({ \
    u32 path_ = 0; \
    asm volatile(NOREORDER FPU "ctc1 %1, $31\n\tnop\n\t" branch "\n\tori %0, %0, 1\n\tori %0, %0, 2\n\t1: ctc1 $0, $31" REORDER \
                 : "+&r"(path_) : "r"(fcsr)); \
    path_; })

static void branches(void)
{
    CHECK(PATH(1u << 23, "bc1t 1f"), 1);
    CHECK(PATH(0, "bc1t 1f"), 3);
    CHECK(PATH(1u << 23, "bc1f 1f"), 3);
    CHECK(PATH(0, "bc1f 1f"), 1);
    CHECK(PATH(1u << 23, "bc1tl 1f"), 1);
    CHECK(PATH(0, "bc1tl 1f"), 2);
    CHECK(PATH(1u << 23, "bc1fl 1f"), 2);
    CHECK(PATH(0, "bc1fl 1f"), 1);
    CHECK(PATH(1u << 28, "bc1t $fcc4, 1f"), 1);
    CHECK(PATH(~(1u << 28) & 0xfe800000, "bc1t $fcc4, 1f"), 3);
    CHECK(PATH(1u << 31, "bc1fl $fcc7, 1f"), 2);
    RAISES_BD(EXC_SYS, ".set hardfloat\n\tbc1f 2f\n\tsyscall", 0, 0);
}

static void moves(void)
{
    u32 r;
#define MOVE(fcsr, instruction, want) do { \
    asm volatile(NOREORDER FPU "ctc1 %1, $31\n\tli %0, 5\n\t" instruction " %0, %2, $fcc2\n\tctc1 $0, $31" REORDER \
                 : "=&r"(r) : "r"(fcsr), "r"(9)); \
    CHECK(r, want); } while (0)
    MOVE(1u << 26, "movt", 9);
    MOVE(0, "movt", 5);
    MOVE(1u << 26, "movf", 5);
    MOVE(0, "movf", 9);
#define MOVE_S(fcsr, instruction, want) do { \
    asm volatile(NOREORDER FPU "ctc1 %1, $31\n\tmtc1 %2, $f0\n\tmtc1 %3, $f2\n\tnop\n\t" instruction "\n\tmfc1 %0, $f0\n\tctc1 $0, $31" REORDER \
                 : "=r"(r) : "r"(fcsr), "r"(one), "r"(two), "r"(7) : "memory"); \
    CHECK(r, want); } while (0)
    MOVE_S(1u << 23, "movt.s $f0, $f2, $fcc0", two);
    MOVE_S(0, "movt.s $f0, $f2, $fcc0", one);
    MOVE_S(1u << 23, "movf.s $f0, $f2, $fcc0", one);
    MOVE_S(0, "movf.s $f0, $f2, $fcc0", two);
    MOVE_S(0, "movz.s $f0, $f2, $0", two);
    MOVE_S(0, "movz.s $f0, $f2, %4", one);
    MOVE_S(0, "movn.s $f0, $f2, $0", one);
    MOVE_S(0, "movn.s $f0, $f2, %4", two);
    u64 d[2] = { 0x3ff0000000000000ull, 0x4000000000000000ull };
#define MOVE_D(instruction, want) do { \
    u64 r_; \
    asm volatile(NOREORDER FPU "ctc1 %2, $31\n\tldc1 $f0, 0(%1)\n\tldc1 $f2, 8(%1)\n\t" instruction "\n\tsdc1 $f0, 0(%0)\n\tctc1 $0, $31" REORDER \
                 : : "r"(&r_), "r"(d), "r"(1u << 23) : "memory"); \
    CHECK(r_ >> 32, (want) >> 32); } while (0)
    MOVE_D("movt.d $f0, $f2, $fcc0", d[1]);
    MOVE_D("movf.d $f0, $f2, $fcc0", d[0]);
    MOVE_D("movz.d $f0, $f2, $0", d[1]);
    MOVE_D("movn.d $f0, $f2, $0", d[0]);
}

void group(void)
{
    if (!fpu_on())
        return;
    COMPARE(0, "f");
    COMPARE(1, "un");
    COMPARE(2, "eq");
    COMPARE(3, "ueq");
    COMPARE(4, "olt");
    COMPARE(5, "ult");
    COMPARE(6, "ole");
    COMPARE(7, "ule");
    COMPARE(8, "sf");
    COMPARE(9, "ngle");
    COMPARE(10, "seq");
    COMPARE(11, "ngl");
    COMPARE(12, "lt");
    COMPARE(13, "nge");
    COMPARE(14, "le");
    COMPARE(15, "ngt");
    codes();
    branches();
    moves();
}
