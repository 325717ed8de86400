/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Loads and stores of every width, and the halves of an unaligned word, in both byte orders. */
#include "isa.h"

const char group_name[] = "memory";

static union {
    u8 byte[32];
    u32 word[8];
} memory;

static void fill(void)
{
    for (u32 i = 0; i < sizeof memory; i++)
        memory.byte[i] = (u8)(0x80 + i * 3);
}

#define LOAD(op, offset, want) do { \
    u32 r_; \
    asm volatile(op " %0, " STRING(offset) "(%1)" : "=r"(r_) : "r"(&memory.byte[8]) : "memory"); \
    CHECK(r_, want); } while (0)
/* With what the target had before. */
#define MERGE(op, offset, before, want) do { \
    u32 r_ = (before); \
    asm volatile(op " %0, " STRING(offset) "(%1)" : "+r"(r_) : "r"(&memory.byte[8]) : "memory"); \
    CHECK(r_, want); } while (0)
#define STORE(op, offset, value) \
    asm volatile(op " %0, " STRING(offset) "(%1)" : : "r"(value), "r"(&memory.byte[8]) : "memory")

/* The bytes from `byte[8]`: 98 9b 9e a1 a4 a7 aa ad; before it: 8c 8f 92 95. */
static void loads(void)
{
    fill();
    LOAD("lb", 0, 0xffffff98);
    LOAD("lbu", 0, 0x98);
    LOAD("lb", 3, 0xffffffa1);
    LOAD("lbu", -1, 0x95);
    LOAD("lh", 0, BE_LE(0xffff989b, 0xffff9b98));
    LOAD("lhu", 2, BE_LE(0x9ea1, 0xa19e));
    LOAD("lhu", -2, BE_LE(0x9295, 0x9592));
    LOAD("lw", 0, BE_LE(0x989b9ea1, 0xa19e9b98));
    LOAD("lw", 4, BE_LE(0xa4a7aaad, 0xadaaa7a4));
    LOAD("lw", -4, BE_LE(0x8c8f9295, 0x95928f8c));
    memory.byte[8] = 0x7f;
    LOAD("lb", 0, 0x7f);
    LOAD("lh", 0, BE_LE(0x7f9b, 0xffff9b7f));
    /* The target is the base. */
    u32 r = (u32)&memory.word[1];
    memory.word[1] = 0x01020304;
    asm volatile("lw %0, 0(%0)" : "+r"(r) : : "memory");
    CHECK(r, 0x01020304);
}

static void stores(void)
{
    fill();
    STORE("sb", 0, 0x12345611);
    STORE("sb", 3, 0xffffff22);
    CHECK(memory.word[2], BE_LE(0x119b9e22, 0x229e9b11));
    STORE("sh", 2, 0x12343344);
    CHECK(memory.word[2], BE_LE(0x119b3344, 0x33449b11));
    STORE("sh", 0, 0x5566);
    CHECK(memory.word[2], BE_LE(0x55663344, 0x33445566));
    STORE("sw", 4, 0x01020304);
    CHECK(memory.byte[12], BE_LE(1, 4));
    CHECK(memory.byte[15], BE_LE(4, 1));
    STORE("sw", -4, 0xa5a55a5a);
    CHECK(memory.word[1], 0xa5a55a5a);
    CHECK(memory.byte[3], 0x89);
    CHECK(memory.byte[16], 0xb0);
}

static void unaligned_loads(void)
{
    fill();
    /* MD00086, LWL and LWR: the table of bytes for every offset in both byte orders. */
    MERGE("lwl", 0, 0x11223344, BE_LE(0x989b9ea1, 0x98223344));
    MERGE("lwl", 1, 0x11223344, BE_LE(0x9b9ea144, 0x9b983344));
    MERGE("lwl", 2, 0x11223344, BE_LE(0x9ea13344, 0x9e9b9844));
    MERGE("lwl", 3, 0x11223344, BE_LE(0xa1223344, 0xa19e9b98));
    MERGE("lwr", 0, 0x11223344, BE_LE(0x11223398, 0xa19e9b98));
    MERGE("lwr", 1, 0x11223344, BE_LE(0x1122989b, 0x11a19e9b));
    MERGE("lwr", 2, 0x11223344, BE_LE(0x11989b9e, 0x1122a19e));
    MERGE("lwr", 3, 0x11223344, BE_LE(0x989b9ea1, 0x112233a1));
    u32 r;
#define WORD_AT(offset, want) do { \
    asm volatile("ulw %0, " STRING(offset) "(%1)" : "=&r"(r) : "r"(&memory.byte[8]) : "memory"); \
    CHECK(r, want); } while (0)
    WORD_AT(1, BE_LE(0x9b9ea1a4, 0xa4a19e9b));
    WORD_AT(2, BE_LE(0x9ea1a4a7, 0xa7a4a19e));
    WORD_AT(3, BE_LE(0xa1a4a7aa, 0xaaa7a4a1));
}

static void unaligned_stores(void)
{
#define PART(op, offset, want) do { \
    memory.word[2] = 0xaabbccdd; \
    STORE(op, offset, 0x11223344); \
    CHECK(memory.word[2], want); } while (0)
    PART("swl", 0, BE_LE(0x11223344, 0xaabbcc11));
    PART("swl", 1, BE_LE(0xaa112233, 0xaabb1122));
    PART("swl", 2, BE_LE(0xaabb1122, 0xaa112233));
    PART("swl", 3, BE_LE(0xaabbcc11, 0x11223344));
    PART("swr", 0, BE_LE(0x44bbccdd, 0x11223344));
    PART("swr", 1, BE_LE(0x3344ccdd, 0x223344dd));
    PART("swr", 2, BE_LE(0x223344dd, 0x3344ccdd));
    PART("swr", 3, BE_LE(0x11223344, 0x44bbccdd));
    fill();
    asm volatile("usw %0, 3(%1)" : : "r"(0x01020304), "r"(&memory.byte[8]) : "memory");
    CHECK(memory.byte[10], 0x9e);
    CHECK(memory.byte[11], BE_LE(1, 4));
    CHECK(memory.byte[14], BE_LE(4, 1));
    CHECK(memory.byte[15], 0xad);
}

/* A store through one window is seen through the other, and by a fetch. */
static void windows(void)
{
    volatile u32 *uncached = (volatile u32 *)((u32)&memory.word[3] | 0x20000000);
    volatile u32 *cached = &memory.word[3];
    asm volatile("cache 0x15, 0(%0)" : : "r"(cached) : "memory");
    *uncached = 0x13572468;
    CHECK(*cached, 0x13572468);
    asm volatile("pref 0, 0(%0)\n\tpref 1, 0(%0)\n\tpref 30, 4(%0)\n\tsync" : : "r"(cached) : "memory");
    CHECK(*cached, 0x13572468);
}

void group(void)
{
    loads();
    stores();
    unaligned_loads();
    unaligned_stores();
    windows();
}
