/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Conversions between single, double, word and long, by the rounding mode and by the instruction. */
#include "fpu.h"

const char group_name[] = "fpuconvert";

struct convert_case {
    u16 line;
    u8 rm, flags;
    u64 a, want;
};
#define CASE(rm, a, want, flags) { __LINE__, rm, flags, a, want }
#include "fpu_convert.inc"

/* A case is a line of fpu_convert.inc. 4-byte values go through the register's low half, 8-byte ones whole. */
#define RUN(table, load, store, instruction) do { \
    for (u32 i = 0; i < sizeof table / sizeof table[0]; i++) { \
        u32 fcsr_, low_ = (u32)table[i].a; \
        u64 r_ = 0; \
        u32 word_ = 0; \
        asm volatile(NOREORDER FPU64 \
                     "ctc1 %3, $31\n\t" load "\n\tnop\n\t" instruction "\n\t" store "\n\tcfc1 %0, $31\n\tctc1 $0, $31" REORDER \
                     : "=&r"(fcsr_), "=&r"(word_) : "r"(&r_), "r"(table[i].rm), "r"(&table[i].a), "r"(low_) : "memory"); \
        check(r_ >> 32, table[i].want >> 32, table[i].line); \
        check((u32)r_ | word_, table[i].want, table[i].line); \
        check(fcsr_, FCSR(table[i].rm, table[i].flags), table[i].line); \
    } } while (0)
#define IN4 "mtc1 %5, $f2"
#define IN8 "ldc1 $f2, 0(%4)"
#define OUT4 "mfc1 %1, $f0"
#define OUT8 "move %1, $0\n\tsdc1 $f0, 0(%2)"

/* The instruction names the rounding mode and FCSR's does not count: a case of the table with that mode is its case. */
#define FIXED(table, mode, load, store, instruction) do { \
    for (u32 i = 0; i < sizeof table / sizeof table[0]; i++) { \
        u32 fcsr_, low_ = (u32)table[i].a, word_ = 0; \
        u64 r_ = 0; \
        u32 best_ = i; /* the entries of one operand follow each other; mode 0 stands for those that are equal to it */ \
        if (table[i].rm != 0) \
            continue; \
        for (u32 j = i; j < sizeof table / sizeof table[0] && table[j].a == table[i].a; j++) { \
            if (table[j].rm == (mode)) \
                best_ = j; \
        } \
        asm volatile(NOREORDER FPU64 \
                     "ctc1 %3, $31\n\t" load "\n\tnop\n\t" instruction "\n\t" store "\n\tcfc1 %0, $31\n\tctc1 $0, $31" REORDER \
                     : "=&r"(fcsr_), "=&r"(word_) : "r"(&r_), "r"(3 - (mode)), "r"(&table[i].a), "r"(low_) : "memory"); \
        check(r_ >> 32, table[best_].want >> 32, table[best_].line + 1000 * (1 + (mode))); \
        check((u32)r_ | word_, table[best_].want, table[best_].line + 1000 * (1 + (mode))); \
        check(fcsr_, FCSR(3 - (mode), table[best_].flags), table[best_].line + 1000 * (1 + (mode))); \
    } } while (0)

void group(void)
{
    if (!fpu_on())
        return;
    RUN(s_w, IN4, OUT4, "cvt.w.s $f0, $f2");
    RUN(d_w, IN8, OUT4, "cvt.w.d $f0, $f2");
    RUN(w_s, IN4, OUT4, "cvt.s.w $f0, $f2");
    RUN(w_d, IN4, OUT8, "cvt.d.w $f0, $f2");
    RUN(d_s, IN8, OUT4, "cvt.s.d $f0, $f2");
    RUN(s_d, IN4, OUT8, "cvt.d.s $f0, $f2");
    FIXED(s_w, 0, IN4, OUT4, "round.w.s $f0, $f2");
    FIXED(s_w, 1, IN4, OUT4, "trunc.w.s $f0, $f2");
    FIXED(s_w, 2, IN4, OUT4, "ceil.w.s $f0, $f2");
    FIXED(s_w, 3, IN4, OUT4, "floor.w.s $f0, $f2");
    FIXED(d_w, 0, IN8, OUT4, "round.w.d $f0, $f2");
    FIXED(d_w, 1, IN8, OUT4, "trunc.w.d $f0, $f2");
    FIXED(d_w, 2, IN8, OUT4, "ceil.w.d $f0, $f2");
    FIXED(d_w, 3, IN8, OUT4, "floor.w.d $f0, $f2");

    /* 64-bit integers want 64-bit registers. */
    u32 status = read_c0(12, 0);
    write_c0(12, 0, status | STATUS_FR);
    CHECK(read_c0(12, 0), status | STATUS_FR);
    RUN(d_l, IN8, OUT8, "cvt.l.d $f0, $f2");
    RUN(s_l, IN4, OUT8, "cvt.l.s $f0, $f2");
    RUN(l_d, IN8, OUT8, "cvt.d.l $f0, $f2");
    RUN(l_s, IN8, OUT4, "cvt.s.l $f0, $f2");
    FIXED(d_l, 0, IN8, OUT8, "round.l.d $f0, $f2");
    FIXED(d_l, 1, IN8, OUT8, "trunc.l.d $f0, $f2");
    FIXED(d_l, 2, IN8, OUT8, "ceil.l.d $f0, $f2");
    FIXED(d_l, 3, IN8, OUT8, "floor.l.d $f0, $f2");
    FIXED(s_l, 0, IN4, OUT8, "round.l.s $f0, $f2");
    FIXED(s_l, 1, IN4, OUT8, "trunc.l.s $f0, $f2");
    FIXED(s_l, 2, IN4, OUT8, "ceil.l.s $f0, $f2");
    FIXED(s_l, 3, IN4, OUT8, "floor.l.s $f0, $f2");
    write_c0(12, 0, status);
}
