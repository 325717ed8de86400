/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Instructions on all pairs of these operands and three values of XER, as a number for all results, XERs and condition
 * registers. isa/host/integer_cases.c computes the same outside; an instruction's case is its line in the table.
 */
#ifndef TABLE_H
#define TABLE_H

#ifndef HOST
#include "isa.h"
#endif

static const u32 operands[] = {
    0, 1, 2, 0xffffffff, 0xfffffffe, 0x7fffffff, 0x80000000, 0x80000001,
    0x12345678, 0xfedcba98, 0x55555555, 31, 32, 33, 63, 0x0000ffff,
};
static const u32 xers[] = { 0, 0xa0000055, 0xe000002a };
#define COUNT(list) (sizeof list / sizeof *list)

static inline u32 mixed(u32 hash, u32 value)
{
    hash = (hash ^ value) * 16777619u;
    return hash ^ hash >> 15;
}

/* rD is %0 and has rB before, rA %3, rB %4. `undefined` says which results a quotient has that nobody defines. */
#define RUN(text, want, undefined) do { \
    u32 hash_ = 2166136261u; \
    for (u32 i = 0; i < COUNT(operands); i++) \
        for (u32 j = 0; j < COUNT(operands); j++) \
            for (u32 k = 0; k < COUNT(xers); k++) { \
                u32 a = operands[i], b = operands[j], r_, x_, c_; \
                asm volatile("mtxer %5\n\tmtcr %6\n\tmr %0, %4\n\t" text "\n\tmfxer %1\n\tmfcr %2" \
                    : "=&r"(r_), "=&r"(x_), "=&r"(c_) : "r"(a), "r"(b), "r"(xers[k]), "r"(0x12345678) : "cr0", "cr1", "cr2", "cr3", "cr4", "cr5", "cr6", "cr7", "xer"); \
                if (undefined) { \
                    r_ = 0; \
                    c_ &= 0x1fffffff; \
                } \
                hash_ = mixed(mixed(mixed(hash_, r_), x_), c_); \
            } \
    check(hash_, want, __LINE__); \
} while (0)
#define OP(text, want) RUN(text, want, false)
#define DIVS(text, want) RUN(text, want, b == 0 || (a == 0x80000000 && b == 0xffffffff))
#define DIVU(text, want) RUN(text, want, b == 0)

#endif
