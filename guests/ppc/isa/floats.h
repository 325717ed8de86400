/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Floating-point instructions on all pairs of these operands (the third one is the first one's neighbour) in all rounding modes, as a
 * number for all results and what FPSCR says, but for FR and FI. isa/host/float_cases.c computes the same outside.
 */
#ifndef FLOATS_H
#define FLOATS_H

#ifndef HOST
#include "isa.h"
#endif

static const u64 numbers[] = {
    0, 0x8000000000000000ull, 0x3ff0000000000000ull, 0xbff0000000000000ull, 0x3ff8000000000000ull, 0x4000000000000000ull,
    0x400921fb54442d18ull, 0x3fd5555555555555ull, 0xc0590ccccccccccdull, 0x41dfffffffc00000ull, 0xc1e0000000000000ull,
    0x41e0000000000000ull, 0x4430000000000001ull, 0xbe50000010000000ull, 0x47efffffe0000000ull, 0x7fefffffffffffffull,
    0x7ff0000000000000ull, 0xfff0000000000000ull, 0x7ff8000000000123ull, 0xfff0000000000456ull, 0x36a8000000000000ull,
    0x3ff0000010000000ull, 0xb690000000000000ull, 0x400c000000000000ull,
};
#define NUMBERS (sizeof numbers / sizeof *numbers)

static inline u32 mixed(u32 hash, u32 value)
{
    hash = (hash ^ value) * 16777619u;
    return hash ^ hash >> 15;
}

#ifndef HOST
struct floats { u64 a, b, c, d, fpscr, mode; };

/* f1 = a, f2 = b, f3 = c, f0 = d of before; `text` may use them. */
#define RUN(text, want) do { \
    u32 hash_ = 2166136261u; \
    for (u32 m_ = 0; m_ < 4; m_++) \
        for (u32 i_ = 0; i_ < NUMBERS; i_++) \
            for (u32 j_ = 0; j_ < NUMBERS; j_++) { \
                struct floats f_ = { numbers[i_], numbers[j_], numbers[(i_ + 1) % NUMBERS], 0, 0, m_ }; \
                u32 cr_; \
                asm volatile("lfd 0, 40(%1)\n\tmtfsf 0xff, 0\n\tlfd 0, 24(%1)\n\tlfd 1, 0(%1)\n\tlfd 2, 8(%1)\n\tlfd 3, 16(%1)\n\t" \
                    text "\n\tmfcr %0\n\tstfd 0, 24(%1)\n\tmffs 0\n\tstfd 0, 32(%1)" \
                    : "=&r"(cr_) : "b"(&f_) : "memory", "cr0", "cr1", "cr2", "cr3", "cr4", "cr5", "cr6", "cr7"); \
                hash_ = mixed(mixed(hash_, (u32)(f_.d >> 32)), (u32)f_.d); \
                hash_ = mixed(hash_, (u32)f_.fpscr & ~0x60000u); \
            } \
    check(hash_, want, __LINE__); \
} while (0)
#endif

#endif
