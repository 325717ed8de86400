/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Makes the tables of integer instructions on the host, whose arithmetic is not the guest's:
 *   cc -O1 -o /tmp/integer_cases guests/ppc/isa/host/integer_cases.c && /tmp/integer_cases guests/ppc/isa
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
#define HOST
#include "../table.h"

struct state { u32 a, b, d, so, ov, ca, count, cr; };

static s64 s(u32 v) { return v & 0x80000000u ? (s64)v - 0x100000000ll : (s64)v; }
static bool fits(s64 v) { return v >= -0x80000000ll && v <= 0x7fffffffll; }
static void overflow(struct state *t, bool o) { t->ov = o; t->so |= o; }

/* a + b + carry as both kinds of number. */
static void add(struct state *t, u32 a, u32 b, u32 carry, bool ca, bool oe)
{
    u64 sum = (u64)a + b + carry;
    t->d = (u32)sum;
    if (ca)
        t->ca = sum > 0xffffffffull;
    if (oe)
        overflow(t, !fits(s(a) + s(b) + carry));
}

static u32 left(u32 v, u32 by) { by &= 31; return by ? v << by | v >> (32 - by) : v; }
static u32 mask(u32 from, u32 to)
{
    u32 m = 0;
    for (u32 i = from;; i = (i + 1) & 31) {
        m |= 0x80000000u >> i;
        if (i == to)
            return m;
    }
}
static void shift_right(struct state *t, u32 by)
{
    s64 v = s(t->a);
    u32 n = by > 63 ? 63 : by;
    t->d = (u32)(v >> n);
    t->ca = v < 0 && n > 0 && ((u64)v & ((1ull << n) - 1)) != 0;
    if (v < 0 && n >= 32)
        t->ca = 1;
}
static void compare(struct state *t, u32 field, s64 x, s64 y)
{
    u32 v = (x < y ? 8 : x > y ? 4 : 2) | t->so, place = 28 - 4 * field;
    t->cr = (t->cr & ~(15u << place)) | v << place;
    /* rD is not written: it has rB. */
    t->d = t->b;
}

#define EACH_ARITHMETIC(X, oe) \
    X("add", oe, add(t, t->a, t->b, 0, false, oe)) \
    X("subf", oe, add(t, ~t->a, t->b, 1, false, oe)) \
    X("addc", oe, add(t, t->a, t->b, 0, true, oe)) \
    X("subfc", oe, add(t, ~t->a, t->b, 1, true, oe)) \
    X("adde", oe, add(t, t->a, t->b, t->ca, true, oe)) \
    X("subfe", oe, add(t, ~t->a, t->b, t->ca, true, oe))
#define EACH_ONE(X, oe) \
    X("addze", oe, add(t, t->a, 0, t->ca, true, oe)) \
    X("addme", oe, add(t, t->a, 0xffffffff, t->ca, true, oe)) \
    X("subfze", oe, add(t, ~t->a, 0, t->ca, true, oe)) \
    X("subfme", oe, add(t, ~t->a, 0xffffffff, t->ca, true, oe)) \
    X("neg", oe, add(t, ~t->a, 0, 1, false, oe))
#define EACH_LOGIC(X) \
    X("and", 0, t->d = t->a & t->b) X("or", 0, t->d = t->a | t->b) X("xor", 0, t->d = t->a ^ t->b) \
    X("nand", 0, t->d = ~(t->a & t->b)) X("nor", 0, t->d = ~(t->a | t->b)) X("eqv", 0, t->d = ~(t->a ^ t->b)) \
    X("andc", 0, t->d = t->a & ~t->b) X("orc", 0, t->d = t->a | ~t->b) \
    X("mulhw", 0, t->d = (u32)((u64)(s(t->a) * s(t->b)) >> 32)) X("mulhwu", 0, t->d = (u32)((u64)t->a * t->b >> 32))

typedef void effect(struct state *);

static FILE *out;
static void table(const char *macro, const char *text, effect *run, bool rc, int division)
{
    u32 hash = 2166136261u;
    for (u32 i = 0; i < COUNT(operands); i++)
        for (u32 j = 0; j < COUNT(operands); j++)
            for (u32 k = 0; k < COUNT(xers); k++) {
                u32 x = xers[k];
                struct state t = { operands[i], operands[j], operands[j], x >> 31, x >> 30 & 1, x >> 29 & 1, x & 0x7f, 0x12345678 };
                run(&t);
                bool undefined = division && (t.b == 0 || (division == 2 && t.a == 0x80000000u && t.b == 0xffffffffu));
                if (rc)
                    t.cr = (t.cr & 0x0fffffff) | ((s(t.d) < 0 ? 8u : t.d ? 4u : 2u) | t.so) << 28;
                if (undefined) {
                    t.d = 0;
                    t.cr &= 0x1fffffff;
                }
                u32 xer = t.so << 31 | t.ov << 30 | t.ca << 29 | t.count;
                hash = mixed(mixed(mixed(hash, t.d), xer), t.cr);
            }
    fprintf(out, "%s(\"%s\", 0x%08x);\n", macro, text, hash);
}

static void with(const char *name, const char *operands_, int oe, effect *run, const char *macro, int division)
{
    for (int rc = 0; rc < 2; rc++) {
        char text[64];
        snprintf(text, sizeof text, "%s%s%s %s", name, oe ? "o" : "", rc ? "." : "", operands_);
        table(macro, text, run, rc, division);
    }
}

static void begin(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    out = fopen(path, "w");
    fprintf(out, "/* SPDX-License-Identifier: MIT OR Apache-2.0 */\n/* Made by host/integer_cases.c. */\n");
}

#define THREE(name, oe, body) { void f(struct state *t) { body; } with(name, "%0, %3, %4", oe, f, "OP", 0); }
#define TWO(name, oe, body) { void f(struct state *t) { body; } with(name, "%0, %3", oe, f, "OP", 0); }
#define PLAIN(text, body) { void f(struct state *t) { body; } table("OP", text, f, false, 0); }
#define DOT(text, body) { void f(struct state *t) { body; } table("OP", text, f, true, 0); }

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : ".";
    begin(folder, "integer.inc");
    EACH_LOGIC(THREE)
    THREE("add", 0, add(t, t->a, t->b, 0, false, false))
    THREE("subf", 0, add(t, ~t->a, t->b, 1, false, false))
    TWO("neg", 0, add(t, ~t->a, 0, 1, false, false))
    THREE("mullw", 0, t->d = (u32)(s(t->a) * s(t->b)))
    TWO("extsb", 0, t->d = (u32)(int32_t)(signed char)t->a)
    TWO("extsh", 0, t->d = (u32)(int32_t)(short)t->a)
    TWO("cntlzw", 0, u32 n = 0; while (n < 32 && !(t->a >> (31 - n) & 1)) n++; t->d = n)
    for (int oe = 0; oe < 2; oe++) {
        void signed_(struct state *t)
        {
            bool bad = t->b == 0 || (t->a == 0x80000000u && t->b == 0xffffffffu);
            t->d = bad ? 0 : (u32)(s(t->a) / s(t->b));
            if (oe)
                overflow(t, bad);
        }
        void unsigned_(struct state *t)
        {
            t->d = t->b ? t->a / t->b : 0;
            if (oe)
                overflow(t, t->b == 0);
        }
        with("divw", "%0, %3, %4", oe, signed_, "DIVS", 2);
        with("divwu", "%0, %3, %4", oe, unsigned_, "DIVU", 1);
    }
    PLAIN("addi %0, %3, -0x7001", t->d = t->a - 0x7001)
    PLAIN("addis %0, %3, 0x7fff", t->d = t->a + 0x7fff0000u)
    PLAIN("addis %0, 0, -0x8000", t->d = 0x80000000u)
    PLAIN("li %0, -5", t->d = (u32)-5)
    PLAIN("mulli %0, %3, -0x1234", t->d = (u32)(s(t->a) * -0x1234))
    PLAIN("ori %0, %3, 0x8001", t->d = t->a | 0x8001)
    PLAIN("oris %0, %3, 0x8001", t->d = t->a | 0x80010000u)
    PLAIN("xori %0, %3, 0xfffe", t->d = t->a ^ 0xfffe)
    PLAIN("xoris %0, %3, 0xfffe", t->d = t->a ^ 0xfffe0000u)
    DOT("andi. %0, %3, 0x8003", t->d = t->a & 0x8003)
    DOT("andis. %0, %3, 0xc003", t->d = t->a & 0xc0030000u)
    fclose(out);

    begin(folder, "carry.inc");
    for (int oe = 0; oe < 2; oe++) {
        EACH_ARITHMETIC(THREE, oe)
        EACH_ONE(TWO, oe)
    }
    THREE("mullw", 1, s64 p = s(t->a) * s(t->b); t->d = (u32)p; overflow(t, !fits(p)))
    PLAIN("addic %0, %3, 0x7fff", add(t, t->a, 0x7fff, 0, true, false))
    PLAIN("addic %0, %3, -1", add(t, t->a, 0xffffffff, 0, true, false))
    DOT("addic. %0, %3, -2", add(t, t->a, 0xfffffffe, 0, true, false))
    PLAIN("subfic %0, %3, 0", add(t, ~t->a, 0, 1, true, false))
    PLAIN("subfic %0, %3, -3", add(t, ~t->a, 0xfffffffd, 1, true, false))
    fclose(out);

    begin(folder, "rotate.inc");
    THREE("slw", 0, t->d = t->b & 32 ? 0 : t->a << (t->b & 31))
    THREE("srw", 0, t->d = t->b & 32 ? 0 : t->a >> (t->b & 31))
    THREE("sraw", 0, shift_right(t, t->b & 63))
    static const struct { u32 sh, mb, me; } shapes[] = {
        { 0, 0, 31 }, { 0, 24, 31 }, { 0, 0, 7 }, { 1, 0, 30 }, { 31, 0, 0 }, { 31, 1, 31 }, { 8, 24, 31 }, { 24, 8, 31 },
        { 5, 10, 20 }, { 5, 20, 10 }, { 16, 16, 31 }, { 16, 31, 0 }, { 27, 5, 5 }, { 4, 0, 27 }, { 4, 0, 31 }, { 13, 0, 17 },
    };
    for (u32 i = 0; i < COUNT(shapes); i++) {
        u32 sh = shapes[i].sh, m = mask(shapes[i].mb, shapes[i].me);
        char operands_[64];
        void rlwinm(struct state *t) { t->d = left(t->a, sh) & m; }
        void rlwimi(struct state *t) { t->d = (left(t->a, sh) & m) | (t->b & ~m); }
        void rlwnm(struct state *t) { t->d = left(t->a, t->b) & m; }
        void srawi(struct state *t) { shift_right(t, sh); }
        snprintf(operands_, sizeof operands_, "%%0, %%3, %u, %u, %u", sh, shapes[i].mb, shapes[i].me);
        with("rlwinm", operands_, 0, rlwinm, "OP", 0);
        with("rlwimi", operands_, 0, rlwimi, "OP", 0);
        snprintf(operands_, sizeof operands_, "%%0, %%3, %%4, %u, %u", shapes[i].mb, shapes[i].me);
        with("rlwnm", operands_, 0, rlwnm, "OP", 0);
        snprintf(operands_, sizeof operands_, "%%0, %%3, %u", sh);
        with("srawi", operands_, 0, srawi, "OP", 0);
    }
    fclose(out);

    begin(folder, "compare.inc");
    PLAIN("cmpw %3, %4", compare(t, 0, s(t->a), s(t->b)))
    PLAIN("cmpw 7, %3, %4", compare(t, 7, s(t->a), s(t->b)))
    PLAIN("cmplw 3, %3, %4", compare(t, 3, t->a, t->b))
    PLAIN("cmpwi 1, %3, -2", compare(t, 1, s(t->a), -2))
    PLAIN("cmpwi 5, %3, 0x1f", compare(t, 5, s(t->a), 0x1f))
    PLAIN("cmplwi 2, %3, 0xffff", compare(t, 2, t->a, 0xffff))
    fclose(out);
    return 0;
}
