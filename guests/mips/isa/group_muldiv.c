/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* HI and LO, products and quotients, and release 2's instructions on bits and bytes. */
#include "isa.h"

const char group_name[] = "muldiv";

#define HILO(op, a, b, hi, lo) do { \
    u32 h_, l_; \
    asm volatile(NOREORDER op " %2, %3\n\tmfhi %0\n\tmflo %1" REORDER : "=&r"(h_), "=&r"(l_) : "r"(a), "r"(b) : "hi", "lo"); \
    CHECK(h_, hi); \
    CHECK(l_, lo); } while (0)
/* With HI and LO as given before. */
#define ACCUMULATE(op, h, l, a, b, hi, lo) do { \
    u32 h_ = (h), l_ = (l); \
    asm volatile(NOREORDER "mthi %0\n\tmtlo %1\n\t" op " %2, %3\n\tmfhi %0\n\tmflo %1" REORDER \
                 : "+r"(h_), "+r"(l_) : "r"(a), "r"(b) : "hi", "lo"); \
    CHECK(h_, hi); \
    CHECK(l_, lo); } while (0)
/* The assembler's own div is three instructions and a trap; with $0 as target it is the machine's. */
#define DIV "div $0,"
#define DIVU "divu $0,"

static void products(void)
{
    HILO("mult", 3, 4, 0, 12);
    HILO("mult", 0xffffffff, 0xffffffff, 0, 1);
    HILO("mult", 0x80000000, 0x80000000, 0x40000000, 0);
    HILO("mult", 0x80000000, 0x7fffffff, 0xc0000000, 0x80000000);
    HILO("mult", 0x12345678, 0x9abcdef0, 0xf8cc93d6, 0x242d2080);
    HILO("multu", 0xffffffff, 0xffffffff, 0xfffffffe, 1);
    HILO("multu", 0x80000000, 2, 1, 0);
    HILO("multu", 0x12345678, 0x9abcdef0, 0x0b00ea4e, 0x242d2080);
    RR("mul", 0x12345678, 0x9abcdef0, 0x242d2080);
    RR("mul", 0xffffffff, 7, 0xfffffff9);
    ACCUMULATE("madd", 0, 1, 0xffffffff, 2, 0xffffffff, 0xffffffff);
    ACCUMULATE("madd", 0, 0xffffffff, 1, 1, 1, 0);
    ACCUMULATE("madd", 0x7fffffff, 0xffffffff, 1, 1, 0x80000000, 0);
    ACCUMULATE("maddu", 0, 1, 0xffffffff, 2, 1, 0xffffffff);
    ACCUMULATE("maddu", 0xffffffff, 0xffffffff, 1, 1, 0, 0);
    ACCUMULATE("msub", 0, 0, 1, 1, 0xffffffff, 0xffffffff);
    ACCUMULATE("msub", 0, 5, 0xffffffff, 3, 0, 8);
    ACCUMULATE("msub", 1, 0, 0x10000, 0x10000, 0, 0);
    ACCUMULATE("msubu", 0, 0, 0xffffffff, 2, 0xfffffffe, 2);
    ACCUMULATE("msubu", 5, 0, 0xffffffff, 0xffffffff, 6, 0xffffffff);
}

static void quotients(void)
{
    HILO(DIV, 7, 2, 1, 3);
    HILO(DIV, 0xfffffff9, 2, 0xffffffff, 0xfffffffd); /* -7 / 2 = -3, remainder -1 */
    HILO(DIV, 7, 0xfffffffe, 1, 0xfffffffd);
    HILO(DIV, 0xfffffff9, 0xfffffffe, 0xffffffff, 3);
    HILO(DIV, 0x80000000, 1, 0, 0x80000000);
    HILO(DIVU, 0xffffffff, 2, 1, 0x7fffffff);
    HILO(DIVU, 7, 0xffffffff, 7, 0);
    HILO(DIVU, 0x80000000, 10, 8, 0x0ccccccc);
    /* Division by zero and 0x80000000 / -1 give unpredictable results but no exception (MD00086, DIV). */
    QUIET("div $0, %1, %2", 1, 0);
    QUIET("divu $0, %1, %2", 1, 0);
    QUIET("div $0, %1, %2", 0x80000000, 0xffffffff);
}

static void halves(void)
{
    u32 h, l;
    asm volatile(NOREORDER "mthi %2\n\tmtlo %3\n\tmfhi %0\n\tmflo %1" REORDER
                 : "=&r"(h), "=&r"(l) : "r"(0x13579bdf), "r"(0x2468ace0) : "hi", "lo");
    CHECK(h, 0x13579bdf);
    CHECK(l, 0x2468ace0);
}

static void bits(void)
{
    R1("clz", 0, 32);
    R1("clz", 1, 31);
    R1("clz", 0x80000000, 0);
    R1("clz", 0x00ff0000, 8);
    R1("clo", 0xffffffff, 32);
    R1("clo", 0, 0);
    R1("clo", 0xfff0ffff, 12);
    R1("clo", 0x7fffffff, 0);
    R1("seb", 0x12345680, 0xffffff80);
    R1("seb", 0xffffff7f, 0x0000007f);
    R1("seh", 0x12348000, 0xffff8000);
    R1("seh", 0xffff7fff, 0x00007fff);
    R1("wsbh", 0x12345678, 0x34127856);
    u32 r;
#define EXT(a, pos, size, want) do { \
    asm volatile("ext %0, %1, " #pos ", " #size : "=r"(r) : "r"(a)); \
    CHECK(r, want); } while (0)
    EXT(0x12345678, 0, 32, 0x12345678);
    EXT(0x12345678, 0, 1, 0);
    EXT(0x12345678, 4, 8, 0x67);
    EXT(0x92345678, 31, 1, 1);
    EXT(0x92345678, 28, 4, 9);
    EXT(0xffffffff, 1, 31, 0x7fffffff);
#define INS(into, a, pos, size, want) do { \
    r = (into); \
    asm volatile("ins %0, %1, " #pos ", " #size : "+r"(r) : "r"(a)); \
    CHECK(r, want); } while (0)
    INS(0xffffffff, 0, 0, 1, 0xfffffffe);
    INS(0x12345678, 0xff, 8, 4, 0x12345f78);
    INS(0, 0xffffffff, 31, 1, 0x80000000);
    INS(0x12345678, 0x9abcdef0, 0, 32, 0x9abcdef0);
    INS(0xffffffff, 0x12345678, 16, 16, 0x5678ffff);
    INS(0xaaaaaaaa, 5, 12, 3, 0xaaaadaaa);
}

void group(void)
{
    products();
    quotients();
    halves();
    bits();
}
