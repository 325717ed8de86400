/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Makes the tables of the FPU's groups on an x86-64, so that what is expected comes from another maker's floating point:
 *
 *   cc -O0 -frounding-math fpu_cases.c -lm && ./a.out single >../fpu_single.inc && ./a.out double >../fpu_double.inc &&
 *       ./a.out convert >../fpu_convert.inc
 *
 * What MIPS defines otherwise is translated: the default NaN, and the result of a conversion that is not valid. No
 * operand and no result is a denormal number: what the FPU does with them is up to the implementation.
 */
#include <emmintrin.h>
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* In the order of FCSR.RM. */
static const int modes[4] = { FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD };

static int flags(void)
{
    int e = fetestexcept(FE_ALL_EXCEPT);
    return !!(e & FE_INVALID) << 4 | !!(e & FE_DIVBYZERO) << 3 | !!(e & FE_OVERFLOW) << 2 | !!(e & FE_UNDERFLOW) << 1 |
           !!(e & FE_INEXACT);
}

static void mode(int m)
{
    fesetround(modes[m]);
    feclearexcept(FE_ALL_EXCEPT);
}

static uint32_t single_bits(float f)
{
    uint32_t x;
    memcpy(&x, &f, sizeof x);
    return isnan(f) ? 0x7fbfffff : x;
}

static uint64_t double_bits(double f)
{
    uint64_t x;
    memcpy(&x, &f, sizeof x);
    return isnan(f) ? 0x7ff7ffffffffffff : x;
}

static const struct {
    char op; /* q: square root of a */
    double a, b;
} arithmetic[] = {
    { '+', 1, 2 }, { '+', 0.1, 0.2 }, { '+', 1, -1 }, { '+', 16777216, 1 }, { '+', -16777216, -1 }, { '+', INFINITY, -INFINITY },
    { '+', INFINITY, 1 }, { '+', 0.0, -0.0 }, { '+', 1e38, 3e38 }, { '+', 1e308, 1.7e308 },
    { '-', 1, 2 }, { '-', 0.3, 0.1 }, { '-', 5, 5 }, { '-', INFINITY, INFINITY }, { '-', -1e-30, 1 },
    { '*', 3, -4 }, { '*', 0.1, 0.1 }, { '*', 1e30, 1e30 }, { '*', 1e300, 1e300 }, { '*', 0, INFINITY }, { '*', -0.0, 5 },
    { '*', 1.0000001192092896, 1.0000001192092896 },
    { '/', 1, 3 }, { '/', -1, 3 }, { '/', 6, 2 }, { '/', 1, 0 }, { '/', -1, 0 }, { '/', 0, 0 }, { '/', 5, INFINITY },
    { '/', 1e38, 1e-30 }, { '/', 1e308, 1e-30 },
    { 'q', 2, 0 }, { 'q', 9, 0 }, { 'q', -1, 0 }, { 'q', -0.0, 0 }, { 'q', INFINITY, 0 }, { 'q', 0.1, 0 },
};

static const char *name(char op)
{
    return op == '+' ? "add" : op == '-' ? "sub" : op == '*' ? "mul" : op == '/' ? "div" : "sqrt";
}

static float single_result(char op, volatile float a, volatile float b)
{
    return op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : op == '/' ? a / b : __builtin_sqrtf(a);
}

static double double_result(char op, volatile double a, volatile double b)
{
    return op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : op == '/' ? a / b : __builtin_sqrt(a);
}

static void operations(int doubles)
{
    char last = 0;
    printf("/* CASE(rounding mode, a, b, result, flags V Z O U I) */\n");
    for (size_t i = 0; i < sizeof arithmetic / sizeof arithmetic[0]; i++) {
        char op = arithmetic[i].op;
        if (op != last)
            printf("%sstatic const struct %s_case %s[] = {\n", last ? "};\n\n" : "", doubles ? "double" : "single", name(op));
        last = op;
        uint64_t nearest = 0;
        int nearest_flags = 0;
        for (int m = 0; m < 4; m++) {
            fesetround(FE_TONEAREST);
            volatile float a = (float)arithmetic[i].a, b = (float)arithmetic[i].b;
            volatile double c = arithmetic[i].a, d = arithmetic[i].b;
            mode(m);
            uint64_t result = doubles ? double_bits(double_result(op, c, d)) : single_bits(single_result(op, a, b));
            int f = flags();
            if (m > 0 && result == nearest && f == nearest_flags)
                continue;
            if (m == 0)
                nearest = result, nearest_flags = f;
            if (doubles)
                printf("    CASE(%d, 0x%016lxull, 0x%016lxull, 0x%016lxull, 0x%02x),\n", m, double_bits(c), double_bits(d), result, f);
            else
                printf("    CASE(%d, 0x%08x, 0x%08x, 0x%08lx, 0x%02x),\n", m, single_bits(a), single_bits(b), result, f);
        }
    }
    printf("};\n");
}

static uint64_t nearest;
static int nearest_flags;

/* One line of a table; digits of operand and result. */
static void conversion(int m, int in, uint64_t a, int out, uint64_t result, int f)
{
    if (m == 0)
        nearest = result, nearest_flags = f;
    else if (result == nearest && f == nearest_flags)
        return;
    printf("    CASE(%d, 0x%0*lx%s, 0x%0*lx%s, 0x%02x),\n", m, in, a, in == 16 ? "ull" : "", out, result, out == 16 ? "ull" : "", f);
}

static void table(const char *kind)
{
    static int later;
    printf("%sstatic const struct convert_case %s[] = {\n", later++ ? "};\n\n" : "", kind);
}

#define EACH(array) for (size_t i = 0; i < sizeof array / sizeof array[0]; i++) for (int m = 0; m < 4; m++)

static void conversions(void)
{
    static const double reals[] = { 0, -0.0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 2.75, -3.25, 1000000.5, 2147483520.,
                                    2147483648., -2147483648., 4e9, -1e20, INFINITY };
    static const int words[] = { 0, 1, -1, 16777217, -16777219, 2147483647, INT32_MIN };
    static const double narrowed[] = { 1, 0.1, -1e39, 1e300, 3.0000001, -0.0, INFINITY };
    static const float widened[] = { 1, 0.1f, -3e38f, -0.0f, INFINITY };
    static const double wide[] = { 0, -1.5, 2.5, 1e15 + 0.5, -9e18, 9223372036854775808., 1e30 };
    static const long longs[] = { 0, -1, 9007199254740993, INT64_MAX };

    printf("/* CASE(rounding mode, operand, result, flags V Z O U I) */\n");
    table("s_w");
    EACH(reals) {
        fesetround(FE_TONEAREST);
        volatile float a = (float)reals[i];
        mode(m);
        uint32_t result = (uint32_t)_mm_cvtss_si32(_mm_set_ss(a));
        int f = flags();
        conversion(m, 8, single_bits(a), 8, f & 16 ? 0x7fffffff : result, f);
    }
    table("d_w");
    EACH(reals) {
        volatile double a = reals[i];
        mode(m);
        uint32_t result = (uint32_t)_mm_cvtsd_si32(_mm_set_sd(a));
        int f = flags();
        conversion(m, 16, double_bits(a), 8, f & 16 ? 0x7fffffff : result, f);
    }
    table("w_s");
    EACH(words) {
        volatile int a = words[i];
        mode(m);
        volatile float result = (float)a;
        conversion(m, 8, (uint32_t)a, 8, single_bits(result), flags());
    }
    table("w_d");
    EACH(words) {
        volatile int a = words[i];
        mode(m);
        volatile double result = a;
        conversion(m, 8, (uint32_t)a, 16, double_bits(result), flags());
    }
    table("d_s");
    EACH(narrowed) {
        volatile double a = narrowed[i];
        mode(m);
        volatile float result = (float)a;
        conversion(m, 16, double_bits(a), 8, single_bits(result), flags());
    }
    table("s_d");
    EACH(widened) {
        volatile float a = widened[i];
        mode(m);
        volatile double result = a;
        conversion(m, 8, single_bits(a), 16, double_bits(result), flags());
    }
    table("d_l");
    EACH(wide) {
        volatile double a = wide[i];
        mode(m);
        uint64_t result = (uint64_t)_mm_cvtsd_si64(_mm_set_sd(a));
        int f = flags();
        conversion(m, 16, double_bits(a), 16, f & 16 ? INT64_MAX : result, f);
    }
    table("s_l");
    EACH(wide) {
        fesetround(FE_TONEAREST);
        volatile float a = (float)wide[i];
        mode(m);
        uint64_t result = (uint64_t)_mm_cvtss_si64(_mm_set_ss(a));
        int f = flags();
        conversion(m, 8, single_bits(a), 16, f & 16 ? INT64_MAX : result, f);
    }
    table("l_d");
    EACH(longs) {
        volatile long a = longs[i];
        mode(m);
        volatile double result = (double)a;
        conversion(m, 16, (uint64_t)a, 16, double_bits(result), flags());
    }
    table("l_s");
    EACH(longs) {
        volatile long a = longs[i];
        mode(m);
        volatile float result = (float)a;
        conversion(m, 16, (uint64_t)a, 8, single_bits(result), flags());
    }
    printf("};\n");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    printf("/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n"
           "/* Made by host/fpu_cases.c on an x86-64, an IEEE 754 machine that is not a MIPS; rounding mode as FCSR.RM. */\n");
    if (strcmp(what, "convert") == 0)
        conversions();
    else
        operations(strcmp(what, "double") == 0);
    return 0;
}
