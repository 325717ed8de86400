/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Loads and stores of every width, with update and index, reversed, misaligned, over the end of a page; code that changes itself. */
#include "isa.h"

const char group_name[] = "memory";

static u8 space[8192] __attribute__((aligned(4096)));

static void fill(void)
{
    for (u32 i = 0; i < sizeof space; i++)
        space[i] = (u8)(i * 7 + 0x81);
}

#define LOAD(text, base, index, want, base_after) do { \
    u32 d_, a_ = (u32)(base); \
    asm volatile(text : "=&r"(d_), "+b"(a_) : "r"(index) : "memory"); \
    CHECK(d_, want); \
    CHECK(a_, base_after); \
} while (0)

static u32 byte(u32 at) { return (u8)(at * 7 + 0x81); }
static u32 half(u32 at) { return byte(at) << 8 | byte(at + 1); }
static u32 word(u32 at) { return half(at) << 16 | half(at + 2); }
static u32 sign(u32 v, u32 bits) { return v >> (bits - 1) & 1 ? v | ~0u << bits : v; }
static u32 swap(u32 v) { return v << 24 | (v & 0xff00) << 8 | (v >> 8 & 0xff00) | v >> 24; }

static void loads(void)
{
    const u32 at[] = { 16, 17, 18, 19, 32, 33, 34, 35, 4092, 4093, 4094, 4095 };
    for (u32 i = 0; i < sizeof at / sizeof *at; i++) {
        u32 o = at[i], p = (u32)space + o;
        LOAD("lbz %0, 0(%1)", p, 0, byte(o), p);
        LOAD("lbz %0, -3(%1)", p + 3, 0, byte(o), p + 3);
        LOAD("lbzu %0, 5(%1)", p - 5, 0, byte(o), p);
        LOAD("lbzx %0, %1, %2", p - 100, 100, byte(o), p - 100);
        LOAD("lbzux %0, %1, %2", p + 100, -100, byte(o), p);
        LOAD("lhz %0, 2(%1)", p - 2, 0, half(o), p - 2);
        LOAD("lhzu %0, -6(%1)", p + 6, 0, half(o), p);
        LOAD("lhzx %0, %1, %2", p, 0, half(o), p);
        LOAD("lhzux %0, %1, %2", p - 9, 9, half(o), p);
        LOAD("lha %0, 2(%1)", p - 2, 0, sign(half(o), 16), p - 2);
        LOAD("lhau %0, -2(%1)", p + 2, 0, sign(half(o), 16), p);
        LOAD("lhax %0, %1, %2", p, 0, sign(half(o), 16), p);
        LOAD("lhaux %0, %1, %2", p - 7, 7, sign(half(o), 16), p);
        LOAD("lwz %0, 0x7ffc(%1)", p - 0x7ffc, 0, word(o), p - 0x7ffc);
        LOAD("lwzu %0, -0x8000(%1)", p + 0x8000, 0, word(o), p);
        LOAD("lwzx %0, %1, %2", p, 0, word(o), p);
        LOAD("lwzux %0, %1, %2", p - 7, 7, word(o), p);
        LOAD("lwzx %0, 0, %2", 5, p, word(o), 5);
        LOAD("lhbrx %0, %1, %2", p, 0, swap(half(o)) >> 16, p);
        LOAD("lwbrx %0, %1, %2", p - 1, 1, swap(word(o)), p - 1);
    }
}

/* Stores `0x9abcdef1`; the bytes around stay. */
#define STORE(text, base, index, base_after, at, size, want) do { \
    u32 a_ = (u32)(base); \
    REG32((u32)space + 8) = REG32((u32)space + 12) = REG32((u32)space + 16) = 0x55555555; \
    asm volatile(text : "+b"(a_) : "r"(0x9abcdef1), "r"(index) : "memory"); \
    CHECK(a_, base_after); \
    u32 got_ = 0; \
    for (u32 i_ = 0; i_ < (size); i_++) \
        got_ = got_ << 8 | space[(at) + i_]; \
    CHECK(got_, want); \
    CHECK(space[(at) - 1], 0x55); \
    CHECK(space[(at) + (size)], 0x55); \
} while (0)

static void stores(void)
{
    u32 p = (u32)space;
    for (u32 o = 9; o < 14; o++) {
        STORE("stb %1, 1(%0)", p + o - 1, 0, p + o - 1, o, 1, 0xf1);
        STORE("stbu %1, 1(%0)", p + o - 1, 0, p + o, o, 1, 0xf1);
        STORE("stbx %1, %0, %2", p + o - 4, 4, p + o - 4, o, 1, 0xf1);
        STORE("stbux %1, %0, %2", p + o - 4, 4, p + o, o, 1, 0xf1);
        STORE("sth %1, 0(%0)", p + o, 0, p + o, o, 2, 0xdef1);
        STORE("sthu %1, -1(%0)", p + o + 1, 0, p + o, o, 2, 0xdef1);
        STORE("sthx %1, %0, %2", p + o - 4, 4, p + o - 4, o, 2, 0xdef1);
        STORE("sthux %1, %0, %2", p + o - 4, 4, p + o, o, 2, 0xdef1);
        STORE("stw %1, 0(%0)", p + o, 0, p + o, o, 4, 0x9abcdef1);
        STORE("stwu %1, 0x10(%0)", p + o - 0x10, 0, p + o, o, 4, 0x9abcdef1);
        STORE("stwx %1, 0, %2", 1, p + o, 1, o, 4, 0x9abcdef1);
        STORE("stwux %1, %0, %2", p + o - 4, 4, p + o, o, 4, 0x9abcdef1);
        STORE("sthbrx %1, %0, %2", p, o, p, o, 2, 0xf1de);
        STORE("stwbrx %1, %0, %2", p, o, p, o, 4, 0xf1debc9a);
    }
    /* A register that is stored and moved on. */
    u32 a = p + 8;
    asm volatile("stwu %0, 4(%0)" : "+b"(a) : : "memory");
    CHECK(a, p + 12);
    CHECK(REG32(p + 12), p + 8);
    /* Over the end of a page. */
    asm volatile("stw %0, 0(%1)" : : "r"(0x11223344), "b"(p + 4094) : "memory");
    CHECK(space[4094] << 24 | space[4095] << 16 | space[4096] << 8 | space[4097], 0x11223344);
}

static void blocks(void)
{
    u32 p = (u32)space + 256;
    for (u32 i = 0; i < 96; i++)
        REG8(p + i) = 0x77;
    asm volatile("dcbz %0, %1" : : "b"(p), "r"(32 + 13) : "memory");
    CHECK(REG32(p + 28), 0x77777777);
    for (u32 i = 32; i < 64; i += 4)
        CHECK(REG32(p + i), 0);
    CHECK(REG32(p + 64), 0x77777777);
    asm volatile("dcbt 0, %0\n\tdcbtst 0, %0\n\tdcbst 0, %0\n\tdcbf 0, %0\n\tsync\n\teieio" : : "r"(p) : "memory");
    CHECK(REG32(p + 64), 0x77777777);
}

/* Code that is written: li r3, 1 and then li r3, 2, each run twice. */
static void code(void)
{
    u32 p = (u32)space + 4096, got;
    REG32(p + 4) = 0x4e800020;
    for (u32 i = 1; i < 5; i++) {
        REG32(p) = 0x38600000 | i;
        asm volatile("dcbst 0, %0\n\tsync\n\ticbi 0, %0\n\tsync\n\tisync" : : "r"(p) : "memory");
        for (u32 j = 0; j < 2; j++) {
            asm volatile("mtctr %1\n\tbctrl\n\tmr %0, 3" : "=r"(got) : "r"(p) : "3", "ctr", "lr");
            CHECK(got, i);
        }
    }
}

void group(void)
{
    fill();
    loads();
    stores();
    blocks();
    code();
}
