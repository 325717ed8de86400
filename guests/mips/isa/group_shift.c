/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Shifts and rotations; a variable amount counts modulo 32. */
#include "isa.h"

const char group_name[] = "shift";

void group(void)
{
    RI("sll", 0x80000001, 0, 0x80000001);
    RI("sll", 0x80000001, 1, 0x00000002);
    RI("sll", 0x12345678, 4, 0x23456780);
    RI("sll", 3, 31, 0x80000000);
    RI("srl", 0x80000001, 1, 0x40000000);
    RI("srl", 0x80000000, 31, 1);
    RI("srl", 0xf2345678, 8, 0x00f23456);
    RI("sra", 0x80000001, 1, 0xc0000000);
    RI("sra", 0x80000000, 31, 0xffffffff);
    RI("sra", 0x7fffffff, 31, 0);
    RI("sra", 0xf2345678, 8, 0xfff23456);
    RI("rotr", 0x12345678, 8, 0x78123456);
    RI("rotr", 0x00000001, 1, 0x80000000);
    RI("rotr", 0x80000000, 31, 0x00000001);
    RI("rotr", 0x9abcdef0, 0, 0x9abcdef0);
    RR("sllv", 1, 31, 0x80000000);
    RR("sllv", 0x12345678, 32, 0x12345678);
    RR("sllv", 0x12345678, 0xffffffe4, 0x23456780);
    RR("srlv", 0x80000000, 31, 1);
    RR("srlv", 0x80000000, 63, 1);
    RR("srlv", 0xffffffff, 0x100, 0xffffffff);
    RR("srav", 0x80000000, 4, 0xf8000000);
    RR("srav", 0x80000000, 0x84, 0xf8000000);
    RR("srav", 0x7fffffff, 30, 1);
    RR("rotrv", 0x12345678, 12, 0x67812345);
    RR("rotrv", 0x12345678, 44, 0x67812345);
    RR("rotrv", 0x12345678, 0, 0x12345678);
    /* The amount's register is the target. */
    u32 r = 3;
    asm volatile("sllv %0, %1, %0" : "+r"(r) : "r"(1));
    CHECK(r, 8);
    r = 35;
    asm volatile("rotrv %0, %0, %0" : "+r"(r));
    CHECK(r, 0x60000004);
}
