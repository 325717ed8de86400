/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Program exceptions, traps, system calls, floating point unavailable, user mode, traces. */
#include "isa.h"

const char group_name[] = "except";

#define USER (MSR_ME | MSR_PR)

/* Whether `tw to, a, b` traps for these pairs, a bit each. */
static const u32 pairs[][2] = { { 1, 2 }, { 2, 1 }, { 5, 5 }, { 0xffffffff, 1 }, { 1, 0xffffffff } };
#define TRAPS(to, want) do { \
    u32 got_ = 0; \
    for (u32 i_ = 0; i_ < 5; i_++) { \
        u32 at_ = RAISE(MSR_ME, "tw " STRING(to) ", %1, %2", pairs[i_][0], pairs[i_][1]); \
        u32 trapped_ = exception.vector == VECTOR_PROGRAM && exception.srr1 == (MSR_ME | TRAP) && exception.srr0 == at_; \
        got_ = got_ << 1 | trapped_; \
    } \
    CHECK(got_, want); \
} while (0)

static void traps(void)
{
    TRAPS(0, 0x00);
    TRAPS(1, 0x0a); /* unsigned greater: 2 > 1, ffffffff > 1 */
    TRAPS(2, 0x11);
    TRAPS(4, 0x04);
    TRAPS(8, 0x09);
    TRAPS(16, 0x12);
    TRAPS(24, 0x1b);
    TRAPS(12, 0x0d);
    TRAPS(31, 0x1f);
    RAISES(VECTOR_PROGRAM, TRAP, "twi 16, %1, -4", -5, 0);
    RAISES(VECTOR_PROGRAM, TRAP, "twi 1, %1, -4", -3, 0);
    RAISES(VECTOR_PROGRAM, TRAP, "trap", 0, 0);
    QUIET("twi 16, %1, -5", -5, 0);
    QUIET("twi 2, %1, -5", -5, 0);
}

static void calls(void)
{
    u32 at = RAISE(MSR_ME, "nop", 0, 0);
    CHECK(exception.vector, 0xc00);
    CHECK(exception.srr0, at + 8);
    CHECK(exception.srr1, MSR_ME);
    at = RAISE(USER, "nop", 0, 0);
    CHECK(exception.srr0, at + 8);
    CHECK(exception.srr1, USER);
}

static void illegal(void)
{
    RAISES(VECTOR_PROGRAM, ILLEGAL, ".long 0", 0, 0);
    RAISES(VECTOR_PROGRAM, ILLEGAL, ".long 0x04000000", 0, 0);
    RAISES(VECTOR_PROGRAM, ILLEGAL, ".long 0x7c00007c | 2", 0, 0);
    RAISES(VECTOR_PROGRAM, ILLEGAL, ".long 0x4c000002", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, ILLEGAL, ".long 0", 0, 0);
    /* Updates of nothing, and of what is loaded. */
    RAISES(VECTOR_PROGRAM, ILLEGAL, ".long 0x84600000", 0, 0);
    RAISES(VECTOR_PROGRAM, ILLEGAL, ".long 0x84630000", 0, 0);
    /* tlbia, dcba: neither processor has them. */
    RAISES(VECTOR_PROGRAM, ILLEGAL, ".long 0x7c0002e4", 0, 0);
}

static void privileged(void)
{
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mfmsr 0", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mtmsr %1", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "rfi", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mfsr 0, 3", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mtsr 3, %1", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mfsrin 0, %1", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mtsrin 0, %1", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "tlbie %1", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "tlbsync", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "dcbi 0, %1", 0x4000, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mfspr 0, 26", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mtspr 272, 0", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mfspr 0, 22", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mfspr 0, 287", 0, 0);
    RAISES_IN(USER, VECTOR_PROGRAM, PRIVILEGED, "mfspr 0, 1008", 0, 0);
    QUIET_IN(USER, "mfspr 0, 1\n\tmtspr 9, 0\n\tmfspr 0, 8\n\tmftb 0\n\tmftbu 0", 0, 0);
}

static void floating(void)
{
    RAISES(VECTOR_FP, 0, "lfd 1, 0(%1)", 0x4000, 0);
    RAISES(VECTOR_FP, 0, "stfs 1, 0(%1)", 0x4000, 0);
    RAISES(VECTOR_FP, 0, "lfsux 1, %1, %2", 0x4000, 0);
    RAISES(VECTOR_FP, 0, "fadd 1, 2, 3", 0, 0);
    RAISES(VECTOR_FP, 0, "fmr 1, 2", 0, 0);
    RAISES(VECTOR_FP, 0, "mffs 1", 0, 0);
    RAISES(VECTOR_FP, 0, "fcmpu 0, 1, 2", 0, 0);
    RAISES(VECTOR_FP, 0, "fadds 1, 2, 3", 0, 0);
    RAISES_IN(USER, VECTOR_FP, 0, "stfdx 1, 0, %1", 0x4000, 0);
}

static void traced(void)
{
    /* One trace for each instruction but those that change MSR by themselves. */
    exception.count = 0;
    asm volatile("mfmsr 11\n\tori 12, 11, 0x400\n\tmtmsr 12\n\tisync\n\tnop\n\tnop\n\tmtmsr 11\n\tisync" : : : "11", "12", "memory");
    CHECK(exception.vector, VECTOR_TRACE);
    CHECK(exception.srr1, MSR_ME);
    CHECK(exception.count >= 3, true);
    /* Branches. */
    u32 at;
    exception.count = 0;
    asm volatile("mfmsr 11\n\tori 12, 11, 0x200\n\tmtmsr 12\n\tisync\n\tnop\n\tb 1f\n\tnop\n1: nop\n\tmtmsr 11\n\tisync\n\t"
        "lis %0, 1b@ha\n\taddi %0, %0, 1b@l" : "=b"(at) : : "11", "12", "memory");
    CHECK(exception.vector, VECTOR_TRACE);
    CHECK(exception.srr0, at);
    CHECK(exception.count, 1);
}

void group(void)
{
    traps();
    calls();
    illegal();
    privileged();
    floating();
    traced();
}
