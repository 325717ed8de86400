/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Floating point exceptions that are enabled: taken at the instruction, which leaves its target and the flags alone. */
#include "fpu.h"

const char group_name[] = "fpuexcept";

/* $f2 = a, $f4 = b, $f0 = 0x12345678; then the instruction. */
static void operands(u32 enable, u32 a, u32 b)
{
    asm volatile(NOREORDER FPU "ctc1 $0, $31\n\tmtc1 %1, $f2\n\tmtc1 %2, $f4\n\tmtc1 %3, $f0\n\tctc1 %0, $31" REORDER
                 : : "r"(FCSR_ENABLE(enable)), "r"(a), "r"(b), "r"(0x12345678));
}

static u32 target(void)
{
    u32 r;
    asm volatile(NOREORDER FPU "mfc1 %0, $f0" REORDER : "=r"(r));
    return r;
}

#define TAKEN(enable, instruction, a, b, cause) do { \
    operands(enable, a, b); \
    RAISES(EXC_FPE, ".set hardfloat\n\t" instruction, 0, 0); \
    u32 fcsr_ = fcsr_read(); \
    fcsr_write(0); \
    CHECK(CAUSE_OF(fcsr_), cause); \
    CHECK(fcsr_ >> 2 & 31, 0); \
    CHECK(target(), 0x12345678); } while (0)
#define NOT_TAKEN(enable, instruction, a, b, cause) do { \
    operands(enable, a, b); \
    QUIET(".set hardfloat\n\t" instruction, 0, 0); \
    u32 fcsr_ = fcsr_read(); \
    fcsr_write(0); \
    CHECK(CAUSE_OF(fcsr_), cause); \
    CHECK(fcsr_ >> 2 & 31, cause); } while (0)

void group(void)
{
    if (!fpu_on())
        return;
    TAKEN(F_Z, "div.s $f0, $f2, $f4", 0x3f800000, 0, F_Z);
    TAKEN(F_I, "div.s $f0, $f2, $f4", 0x3f800000, 0x40400000, F_I);
    TAKEN(F_V, "div.s $f0, $f2, $f4", 0, 0, F_V);
    TAKEN(F_V, "sqrt.s $f0, $f2", 0xbf800000, 0, F_V);
    TAKEN(F_O, "mul.s $f0, $f2, $f4", 0x7f000000, 0x7f000000, F_O | F_I);
    TAKEN(F_V, "c.lt.s $f2, $f4", 0x7fbfffff, 0x3f800000, F_V);
    TAKEN(F_V, "cvt.w.s $f0, $f2", 0x7f800000, 0, F_V);
    TAKEN(F_I, "cvt.w.s $f0, $f2", 0x3fc00000, 0, F_I);
    NOT_TAKEN(F_V | F_O, "div.s $f0, $f2, $f4", 0x3f800000, 0, F_Z);
    NOT_TAKEN(F_V | F_Z, "div.s $f0, $f2, $f4", 0x3f800000, 0x40400000, F_I);
    NOT_TAKEN(F_V, "c.eq.s $f2, $f4", 0x7fbfffff, 0x3f800000, 0);
    /* In a delay slot. */
    operands(F_Z, 0x3f800000, 0);
    RAISES_BD(EXC_FPE, ".set hardfloat\n\tb 2f\n\tdiv.s $f0, $f2, $f4", 0, 0);
    fcsr_write(0);
    /* CTC1 that sets a cause whose exception is enabled takes it at once, and has written. */
    RAISES(EXC_FPE, ".set hardfloat\n\tctc1 %1, $31", F_Z << 12 | FCSR_ENABLE(F_Z), 0);
    CHECK(fcsr_read(), F_Z << 12 | FCSR_ENABLE(F_Z));
    fcsr_write(0);
    /* The cause "unimplemented" cannot be disabled. */
    RAISES(EXC_FPE, ".set hardfloat\n\tctc1 %1, $31", 0x20 << 12, 0);
    fcsr_write(0);
    /* Without CU1 an FPU instruction is a coprocessor's that cannot be used, enabled or not. */
    write_c0(12, 0, read_c0(12, 0) & ~STATUS_CU1);
    RAISES(EXC_CPU, ".set hardfloat\n\tadd.s $f0, $f2, $f4", 0, 0);
    CHECK(exception.cause >> 28 & 3, 1);
    RAISES(EXC_CPU, ".set hardfloat\n\tldc1 $f0, 4(%1)", 0x80000001, 0);
    RAISES(EXC_CPU, ".set hardfloat\n\tmovf $8, $9, $fcc0", 0, 0);
    RAISES_BD(EXC_CPU, ".set hardfloat\n\tb 2f\n\tbc1t 2f", 0, 0);
}
