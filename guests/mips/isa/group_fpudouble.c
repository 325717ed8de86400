/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Double precision: results and flags in the four rounding modes. Doubles are in pairs of registers (Status.FR = 0). */
#include "fpu.h"

const char group_name[] = "fpudouble";

struct double_case {
    u16 line;
    u8 rm, flags;
    u64 a, b, want;
};
#define CASE(rm, a, b, want, flags) { __LINE__, rm, flags, a, b, want }
#include "fpu_double.inc"

/* A case is a line of fpu_double.inc. */
#define RUN(table, instruction) do { \
    for (u32 i = 0; i < sizeof table / sizeof table[0]; i++) { \
        u32 fcsr_; \
        u64 r_; \
        asm volatile(NOREORDER FPU \
                     "ctc1 %2, $31\n\tldc1 $f2, 0(%3)\n\tldc1 $f4, 0(%4)\n\t" instruction "\n\t" \
                     "sdc1 $f0, 0(%1)\n\tcfc1 %0, $31\n\tctc1 $0, $31" REORDER \
                     : "=&r"(fcsr_) : "r"(&r_), "r"(table[i].rm), "r"(&table[i].a), "r"(&table[i].b) : "memory"); \
        check(r_ >> 32, table[i].want >> 32, table[i].line); \
        check(r_, table[i].want, table[i].line); \
        check(fcsr_, FCSR(table[i].rm, table[i].flags), table[i].line); \
    } } while (0)

static void three(u64 addend, u64 a, u64 b, const u64 want[4], u32 line)
{
    u64 r[4];
    asm volatile(NOREORDER FPU
                 "ctc1 $0, $31\n\tldc1 $f6, 0(%1)\n\tldc1 $f2, 0(%2)\n\tldc1 $f4, 0(%3)\n\t"
                 "madd.d $f0, $f6, $f2, $f4\n\tsdc1 $f0, 0(%0)\n\tmsub.d $f0, $f6, $f2, $f4\n\tsdc1 $f0, 8(%0)\n\t"
                 "nmadd.d $f0, $f6, $f2, $f4\n\tsdc1 $f0, 16(%0)\n\tnmsub.d $f0, $f6, $f2, $f4\n\tsdc1 $f0, 24(%0)" REORDER
                 : : "r"(r), "r"(&addend), "r"(&a), "r"(&b) : "memory");
    for (u32 i = 0; i < 4; i++) {
        check(r[i] >> 32, want[i] >> 32, line * 10 + i);
        check(r[i], want[i], line * 10 + i);
    }
}

#define ONE(instruction, a, want) do { \
    u64 a_ = (a), r_; \
    asm volatile(NOREORDER FPU "ctc1 $0, $31\n\tldc1 $f2, 0(%1)\n\t" instruction "\n\tsdc1 $f0, 0(%0)" REORDER \
                 : : "r"(&r_), "r"(&a_) : "memory"); \
    CHECK(r_ >> 32, (want) >> 32); \
    CHECK(r_, want); } while (0)

void group(void)
{
    if (!fpu_on())
        return;
    RUN(add, "add.d $f0, $f2, $f4");
    RUN(sub, "sub.d $f0, $f2, $f4");
    RUN(mul, "mul.d $f0, $f2, $f4");
    RUN(div, "div.d $f0, $f2, $f4");
    RUN(sqrt, "sqrt.d $f0, $f2");
    ONE("abs.d $f0, $f2", 0xc00921fb54442d18ull, 0x400921fb54442d18ull);
    ONE("neg.d $f0, $f2", 0xc00921fb54442d18ull, 0x400921fb54442d18ull);
    ONE("neg.d $f0, $f2", 0x0000000000000000ull, 0x8000000000000000ull);
    ONE("mov.d $f0, $f2", 0x7ff7ffffffffffffull, 0x7ff7ffffffffffffull);
    ONE("recip.d $f0, $f2", 0x4010000000000000ull, 0x3fd0000000000000ull);
    ONE("rsqrt.d $f0, $f2", 0x4010000000000000ull, 0x3fe0000000000000ull);
    static const u64 seven[4] = { 0x401c000000000000ull, 0x4014000000000000ull, 0xc01c000000000000ull, 0xc014000000000000ull };
    three(0x3ff0000000000000ull, 0x4000000000000000ull, 0x4008000000000000ull, seven, __LINE__);
}
