/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Arithmetic, logic, comparison, conditional moves; overflow is in group_except.c. */
#include "isa.h"

const char group_name[] = "alu";

static void arithmetic(void)
{
    RR("add", 1, 2, 3);
    RR("add", 0xffffffff, 1, 0);
    RR("add", 0x7ffffffe, 1, 0x7fffffff);
    RR("add", 0x80000001, 0xffffffff, 0x80000000);
    RI("addi", 5, -6, 0xffffffff);
    RI("addi", 0xffff8000, 32767, 0xffffffff);
    RI("addi", 0x80000000, 32767, 0x80007fff);
    RR("addu", 0x7fffffff, 1, 0x80000000);
    RR("addu", 0x80000000, 0x80000000, 0);
    RR("addu", 0x12345678, 0x87654321, 0x99999999);
    RI("addiu", 0x7fffffff, 1, 0x80000000);
    RI("addiu", 0, -32768, 0xffff8000);
    RI("addiu", 0x00010000, -1, 0x0000ffff);
    RR("sub", 3, 5, 0xfffffffe);
    RR("sub", 0x80000000, 0, 0x80000000);
    RR("sub", 0xffffffff, 0x80000000, 0x7fffffff);
    RR("subu", 0x80000000, 1, 0x7fffffff);
    RR("subu", 0, 1, 0xffffffff);
    RR("subu", 0, 0x80000000, 0x80000000);
}

static void logic(void)
{
    RR("and", 0xff00ff00, 0x0ff00ff0, 0x0f000f00);
    RI("andi", 0xffffffff, 0x8001, 0x00008001);
    RR("or", 0xff00ff00, 0x0ff00ff0, 0xfff0fff0);
    RI("ori", 0x12340000, 0xfedc, 0x1234fedc);
    RR("xor", 0xff00ff00, 0x0ff00ff0, 0xf0f0f0f0);
    RI("xori", 0xffffffff, 0xffff, 0xffff0000);
    RR("nor", 0xff00ff00, 0x0ff00ff0, 0x000f000f);
    RR("nor", 0, 0, 0xffffffff);
    u32 r;
    asm volatile("lui %0, 0x8001" : "=r"(r));
    CHECK(r, 0x80010000);
    asm volatile("lui %0, 0x7fff" : "=r"(r));
    CHECK(r, 0x7fff0000);
}

static void comparison(void)
{
    RR("slt", 1, 2, 1);
    RR("slt", 2, 2, 0);
    RR("slt", 0x80000000, 0x7fffffff, 1);
    RR("slt", 0x7fffffff, 0x80000000, 0);
    RR("slt", 0xffffffff, 0, 1);
    RI("slti", 0xffffffff, 0, 1);
    RI("slti", 0, -1, 0);
    RI("slti", 0x80000000, -32768, 1);
    RI("slti", 0xffff8000, -32768, 0);
    RR("sltu", 0x80000000, 0x7fffffff, 0);
    RR("sltu", 0x7fffffff, 0x80000000, 1);
    RR("sltu", 0, 0xffffffff, 1);
    RR("sltu", 7, 7, 0);
    /* The immediate is sign-extended and then compared without sign. */
    RI("sltiu", 0xffff7fff, -32768, 1);
    RI("sltiu", 0xffff8000, -32768, 0);
    RI("sltiu", 5, -1, 1);
    RI("sltiu", 0, 1, 1);
    RI("sltiu", 1, 1, 0);
}

static void moves(void)
{
    u32 r = 0x11111111;
    asm volatile("movz %0, %1, %2" : "+r"(r) : "r"(0x22222222), "r"(1));
    CHECK(r, 0x11111111);
    asm volatile("movz %0, %1, %2" : "+r"(r) : "r"(0x22222222), "r"(0));
    CHECK(r, 0x22222222);
    asm volatile("movn %0, %1, %2" : "+r"(r) : "r"(0x33333333), "r"(0));
    CHECK(r, 0x22222222);
    asm volatile("movn %0, %1, %2" : "+r"(r) : "r"(0x33333333), "r"(0x80000000));
    CHECK(r, 0x33333333);
    /* The same register as source, condition and target. */
    r = 5;
    asm volatile("movn %0, %0, %0" : "+r"(r));
    CHECK(r, 5);
}

static void register_zero(void)
{
    u32 r;
    asm volatile(NOREORDER "addiu $0, $0, 5\n\taddu %0, $0, $0" REORDER : "=r"(r));
    CHECK(r, 0);
    asm volatile(NOREORDER "lui $0, 5\n\tori %0, $0, 3" REORDER : "=r"(r));
    CHECK(r, 3);
    asm volatile(NOREORDER "lw $0, 0(%1)\n\tmove %0, $0" REORDER : "=r"(r) : "r"(&group_name));
    CHECK(r, 0);
    asm volatile(NOREORDER "slt $0, $0, %1\n\tmove %0, $0" REORDER : "=r"(r) : "r"(1));
    CHECK(r, 0);
    /* Source and target are one register. */
    r = 0x40000001;
    asm volatile("addu %0, %0, %0" : "+r"(r));
    CHECK(r, 0x80000002);
    asm volatile("xor %0, %0, %0" : "+r"(r));
    CHECK(r, 0);
}

void group(void)
{
    arithmetic();
    logic();
    comparison();
    moves();
    register_zero();
}
