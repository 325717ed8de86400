/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cache operations do no harm, and code that changes itself runs as changed after SYNCI. */
#include "isa.h"

const char group_name[] = "cache";

static u32 data[64] __attribute__((aligned(64)));

#define CACHE(op) asm volatile("cache " #op ", 0(%0)" : : "r"(&data[8]) : "memory")

static void operations(void)
{
    for (u32 i = 0; i < 64; i++)
        data[i] = i * 0x01010101;
    CACHE(0x15); /* hit writeback invalidate D: the memory is up to date */
    CACHE(0x19); /* hit writeback D */
    CACHE(0x11); /* hit invalidate D: a clean line */
    CACHE(0x01); /* index writeback invalidate D */
    CACHE(0x10); /* hit invalidate I */
    CACHE(0x00); /* index invalidate I */
    CACHE(0x04); /* index load tag I */
    CACHE(0x05); /* index load tag D */
    for (u32 i = 0; i < 64; i++)
        CHECK(data[i], i * 0x01010101);
    /* TagLo 0 is an invalid line. */
    write_c0(28, 0, 0);
    write_c0(28, 2, 0);
    CACHE(0x08); /* index store tag I */
    for (u32 i = 0; i < 64; i++)
        CHECK(data[i], i * 0x01010101);
}

static u32 code[64] __attribute__((aligned(64)));

static u32 call(void *at)
{
    u32 (*function)(void) = (u32 (*)(void))at;
    return function();
}

static void changing_code(void)
{
    for (u32 n = 0; n < 20; n++) {
        code[0] = 0x03e00008; /* jr $31 */
        code[1] = 0x24020000 | n; /* li $2, n */
        sync_code(code, 8);
        CHECK(call(code), n);
        CHECK(call(code), n);
    }
    /* By a store of half an instruction, through the other window. */
    *(volatile u16 *)(((u32)&code[1] | 0x20000000) + (BIG ? 2 : 0)) = 0x777;
    sync_code(code, 8);
    CHECK(call(code), 0x777);
    /* Code that changes what comes after itself: sw, synci, sync, jr.hb to it. */
    code[0] = 0xac850018;          /* sw $5, 24($4): the word at code[6] */
    code[1] = 0x049f0018;          /* synci 24($4) */
    code[2] = 0x0000000f;          /* sync */
    code[3] = 0x24880018;          /* addiu $8, $4, 24 */
    code[4] = 0x01000408;          /* jr.hb $8 */
    code[5] = 0x24020001;          /* li $2, 1 */
    code[6] = 0x24020002;          /* li $2, 2, to be replaced */
    code[7] = 0x03e00008;          /* jr $31 */
    code[8] = 0x24420100;          /* addiu $2, $2, 0x100 */
    sync_code(code, 36);
    u32 (*patch)(u32 *, u32) = (u32 (*)(u32 *, u32))(void *)code;
    CHECK(patch(code, 0x24020002), 0x102);
    CHECK(patch(code, 0x24020033), 0x133);
    CHECK(patch(code, 0x24420044), 0x145); /* addiu $2, $2, 0x44 */
    CHECK(patch(code, 0x24020002), 0x102);
}

void group(void)
{
    operations();
    changing_code();
}
