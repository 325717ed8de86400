/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Makes the table of floating-point instructions on an x86-64, whose arithmetic is not the guest's:
 *   cc -O0 -frounding-math -ffp-contract=off -o /tmp/float_cases guests/ppc/isa/host/float_cases.c -lm
 *   /tmp/float_cases > guests/ppc/isa/float.inc
 */
#include <fenv.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint32_t u32;
typedef uint64_t u64;
#define HOST
#include "../floats.h"

enum { FX = 1u << 31, VX = 1 << 29, OX = 1 << 28, UX = 1 << 27, ZX = 1 << 26, XX = 1 << 25, SNAN = 1 << 24, ISI = 1 << 23,
    IDI = 1 << 22, ZDZ = 1 << 21, IMZ = 1 << 20, VC = 1 << 19, CVI = 1 << 8 };
enum op { ADD, SUB, MUL, DIV, MADD, MSUB, NMADD, NMSUB, RSP, CTIW, CTIWZ, CMPU, CMPO };

static double number(u64 v) { double d; memcpy(&d, &v, 8); return d; }
static u64 bits(double d) { u64 v; memcpy(&v, &d, 8); return v; }
static bool nan_(u64 v) { return (v << 1) > 0xffe0000000000000ull; }
static bool snan(u64 v) { return nan_(v) && !(v >> 51 & 1); }
static bool inf(u64 v) { return v << 1 == 0xffe0000000000000ull; }
static bool zero(u64 v) { return v << 1 == 0; }

static u32 class_(u64 v, bool single)
{
    bool negative = v >> 63;
    u64 least = single ? 0x3810000000000000ull : 0x0010000000000000ull;
    u32 code = nan_(v) ? 17 : inf(v) ? (negative ? 9 : 5) : zero(v) ? (negative ? 18 : 2)
        : (v & ~(1ull << 63)) < least ? (negative ? 24 : 20) : (negative ? 8 : 4);
    return code << 12;
}

/* The first NaN in the order A, B, C, quiet. */
static u64 passed(u64 a, u64 b, u64 c, bool single)
{
    u64 v = nan_(a) ? a : nan_(b) ? b : c;
    v |= 1ull << 51;
    return single ? v & ~0x1fffffffull : v;
}

static u64 compute(enum op op, bool single, u64 a, u64 b, u64 c, u32 *fpscr)
{
    static const int modes[] = { FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD };
    bool two = op == ADD || op == SUB || op == DIV, fused = op >= MADD && op <= NMSUB, one = op == RSP;
    u32 flags = 0;
    u64 x = one ? 0 : a, y = op == MUL ? 0 : b, z = two || one ? 0 : c;
    u64 result;
    if (snan(x) || snan(y) || snan(z))
        flags |= SNAN;
    u64 addend = op == MSUB || op == NMSUB ? b ^ 1ull << 63 : b;
    if ((op == MUL || fused) && ((inf(a) && zero(c)) || (zero(a) && inf(c))))
        flags |= IMZ;
    bool any = nan_(x) || nan_(y) || nan_(z);
    if (!any && !flags) {
        if (two && op != DIV && inf(a) && inf(b) && ((a ^ b) >> 63) == (op == ADD))
            flags |= ISI;
        if (fused && (inf(a) || inf(c)) && inf(b) && ((a ^ c ^ addend) >> 63))
            flags |= ISI;
        if (op == DIV && inf(a) && inf(b))
            flags |= IDI;
        if (op == DIV && zero(a) && zero(b))
            flags |= ZDZ;
    }
    if (any || flags) {
        result = any ? passed(x, y, z, single) : 0x7ff8000000000000ull;
        *fpscr |= class_(result, single);
    } else {
        fesetround(modes[*fpscr & 3]);
        feclearexcept(FE_ALL_EXCEPT);
        volatile double p = number(a), q = number(b), r = number(c), s = number(addend), d;
        volatile float f = 0;
        switch (op) {
        case ADD: d = p + q; break;
        case SUB: d = p - q; break;
        case MUL: d = p * r; break;
        case DIV: d = p / q; break;
        case RSP: d = q; break;
        default: d = fma(p, r, s); break;
        }
        if (single) {
            /* Cut off, with the last bit telling what was, and rounded then. */
            int zx = fetestexcept(FE_DIVBYZERO);
            double rounded = d;
            fesetround(FE_TOWARDZERO);
            feclearexcept(FE_ALL_EXCEPT);
            switch (op) {
            case ADD: d = p + q; break;
            case SUB: d = p - q; break;
            case MUL: d = p * r; break;
            case DIV: d = p / q; break;
            case RSP: d = q; break;
            default: d = fma(p, r, s); break;
            }
            if (fetestexcept(FE_INEXACT))
                d = number(bits(d) | 1);
            else if (zero(bits(d)))
                d = rounded; /* the sign of a sum that is zero is rounding's */
            fesetround(modes[*fpscr & 3]);
            feclearexcept(FE_ALL_EXCEPT);
            f = (float)d;
            int raised = fetestexcept(FE_ALL_EXCEPT);
            feclearexcept(FE_ALL_EXCEPT);
            d = f;
            feraiseexcept(raised | zx);
        }
        int e = fetestexcept(FE_ALL_EXCEPT);
        flags |= (e & FE_OVERFLOW ? OX : 0) | (e & FE_UNDERFLOW ? UX : 0) | (e & FE_DIVBYZERO ? ZX : 0) | (e & FE_INEXACT ? XX : 0);
        fesetround(FE_TONEAREST);
        result = bits(d);
        if (op == NMADD || op == NMSUB)
            result ^= 1ull << 63;
        *fpscr |= class_(result, single);
    }
    if (flags)
        *fpscr |= FX | flags | (flags & (SNAN | ISI | IDI | ZDZ | IMZ) ? VX : 0);
    return result;
}

static u64 integer(u64 b, bool zero_, u32 *fpscr)
{
    static const int modes[] = { FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD };
    u32 value, flags = 0;
    if (nan_(b)) {
        flags = CVI | VX | (snan(b) ? SNAN : 0);
        value = 0x80000000u;
    } else {
        fesetround(zero_ ? FE_TOWARDZERO : modes[*fpscr & 3]);
        volatile double d = rint(number(b));
        fesetround(FE_TONEAREST);
        if (d > 2147483647.0) {
            value = 0x7fffffff;
            flags = CVI | VX;
        } else if (d < -2147483648.0) {
            value = 0x80000000u;
            flags = CVI | VX;
        } else {
            value = (u32)(int32_t)d;
            flags = d != number(b) ? XX : 0;
        }
    }
    *fpscr |= flags ? FX | flags : 0;
    return value;
}

static void compare(u64 a, u64 b, bool ordered, u32 *fpscr)
{
    double p = number(a), q = number(b);
    u32 code = nan_(a) || nan_(b) ? 1 : p < q ? 8 : p > q ? 4 : 2, flags = 0;
    if (snan(a) || snan(b))
        flags |= SNAN;
    if (ordered && code == 1)
        flags |= VC;
    *fpscr |= code << 12 | (flags ? FX | VX | flags : 0);
}

static void table(const char *text, enum op op, bool single)
{
    u32 hash = 2166136261u;
    for (u32 m = 0; m < 4; m++)
        for (u32 i = 0; i < NUMBERS; i++)
            for (u32 j = 0; j < NUMBERS; j++) {
                u64 a = numbers[i], b = numbers[j], c = numbers[(i + 1) % NUMBERS], d = 0;
                u32 fpscr = m;
                if (op == CTIW || op == CTIWZ)
                    d = integer(b, op == CTIWZ, &fpscr);
                else if (op == CMPU || op == CMPO)
                    compare(a, b, op == CMPO, &fpscr);
                else
                    d = compute(op, single, a, b, c, &fpscr);
                hash = mixed(mixed(hash, (u32)(d >> 32)), (u32)d);
                hash = mixed(hash, fpscr & ~0x60000u);
            }
    printf("RUN(\"%s\", 0x%08x);\n", text, hash);
}

int main(void)
{
    static const struct { const char *name, *operands; enum op op; } ops[] = {
        { "fadd", "0, 1, 2", ADD }, { "fsub", "0, 1, 2", SUB }, { "fmul", "0, 1, 3", MUL }, { "fdiv", "0, 1, 2", DIV },
        { "fmadd", "0, 1, 3, 2", MADD }, { "fmsub", "0, 1, 3, 2", MSUB }, { "fnmadd", "0, 1, 3, 2", NMADD },
        { "fnmsub", "0, 1, 3, 2", NMSUB },
    };
    printf("/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n/* Made by host/float_cases.c. */\n");
    for (u32 i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int single = 0; single < 2; single++) {
            char text[64];
            snprintf(text, sizeof text, "%s%s %s", ops[i].name, single ? "s" : "", ops[i].operands);
            table(text, ops[i].op, single);
        }
    table("frsp 0, 2", RSP, true);
    /* The upper half of these is nobody's: it is shifted out. */
    table("fctiw 4, 2\\n\\tstfiwx 4, 0, %1\\n\\tlis %0, 0\\n\\tstw %0, 24(%1)\\n\\tlwz %0, 0(%1)\\n\\tstw %0, 28(%1)\\n\\tlfd 0, 24(%1)", CTIW, false);
    table("fctiwz 4, 2\\n\\tstfiwx 4, 0, %1\\n\\tlis %0, 0\\n\\tstw %0, 24(%1)\\n\\tlwz %0, 0(%1)\\n\\tstw %0, 28(%1)\\n\\tlfd 0, 24(%1)", CTIWZ, false);
    table("fcmpu 3, 1, 2", CMPU, false);
    table("fcmpo 5, 1, 2", CMPO, false);
    return 0;
}
