/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Branches and jumps: taken or not, what the delay slot does, what is linked. */
#include "isa.h"

const char group_name[] = "branch";

/* Bit 0: the delay slot ran; bit 1: what follows it ran, so the branch was not taken. */
#define PATH(branch, a, b) ({ \
    u32 path_ = 0; \
    asm volatile(NOREORDER branch "\n\tori %0, %0, 1\n\tori %0, %0, 2\n\t1:" REORDER \
                 : "+&r"(path_) : "r"(a), "r"(b) : "$31", "$1"); \
    path_; })
#define TAKEN 1
#define NOT_TAKEN 3
#define NULLIFIED 2 /* a likely branch that is not taken runs no delay slot */

#define BRANCH(op, a, b, taken) do { \
    CHECK(PATH(op " %1, %2, 1f", a, b), (taken) ? TAKEN : NOT_TAKEN); \
    CHECK(PATH(op "l %1, %2, 1f", a, b), (taken) ? TAKEN : NULLIFIED); } while (0)
#define BRANCH_ZERO(op, a, taken) do { \
    CHECK(PATH(op " %1, 1f", a, 0), (taken) ? TAKEN : NOT_TAKEN); \
    CHECK(PATH(op "l %1, 1f", a, 0), (taken) ? TAKEN : NULLIFIED); } while (0)

static void conditions(void)
{
    BRANCH("beq", 1, 1, 1);
    BRANCH("beq", 1, 2, 0);
    BRANCH("beq", 0x80000000, 0, 0);
    BRANCH("bne", 1, 1, 0);
    BRANCH("bne", 1, 0x80000001, 1);
    BRANCH_ZERO("blez", 0, 1);
    BRANCH_ZERO("blez", 1, 0);
    BRANCH_ZERO("blez", 0x80000000, 1);
    BRANCH_ZERO("bgtz", 0, 0);
    BRANCH_ZERO("bgtz", 1, 1);
    BRANCH_ZERO("bgtz", 0xffffffff, 0);
    BRANCH_ZERO("bltz", 0, 0);
    BRANCH_ZERO("bltz", 0x7fffffff, 0);
    BRANCH_ZERO("bltz", 0x80000000, 1);
    BRANCH_ZERO("bgez", 0, 1);
    BRANCH_ZERO("bgez", 0x7fffffff, 1);
    BRANCH_ZERO("bgez", 0xffffffff, 0);
    BRANCH_ZERO("bltzal", 0x80000000, 1);
    BRANCH_ZERO("bltzal", 1, 0);
    BRANCH_ZERO("bgezal", 0, 1);
    BRANCH_ZERO("bgezal", 0x80000000, 0);
    CHECK(PATH("b 1f", 0, 0), TAKEN);
}

static void jumps(void)
{
    CHECK(PATH("j 1f", 0, 0), TAKEN);
    CHECK(PATH("jal 1f", 0, 0), TAKEN);
    CHECK(PATH("bal 1f", 0, 0), TAKEN);
    u32 path = 0, target, link;
#define TO_REGISTER(jump) do { \
    path = 0; \
    asm volatile(NOREORDER "la %1, 1f\n\t" jump "\n\tori %0, %0, 1\n\tori %0, %0, 2\n\t1:" REORDER \
                 : "+&r"(path), "=&r"(target) : : "$31"); \
    CHECK(path, TAKEN); } while (0)
    TO_REGISTER("jr %1");
    TO_REGISTER("jalr %1");
    TO_REGISTER("jr.hb %1");
    TO_REGISTER("jalr.hb %1");
    /* The link is the address after the delay slot; a branch that is not taken links too. */
#define LINK(jump, a) do { \
    u32 want_; \
    asm volatile(NOREORDER "la %1, 2f\n\tmove $31, $0\n\t" jump "\n\tnop\n\t2: nop\n\t1: move %0, $31" REORDER \
                 : "=&r"(link), "=&r"(want_) : "r"(a) : "$31", "$1"); \
    CHECK(link, want_); } while (0)
    LINK("jal 1f", 0);
    LINK("bal 1f", 0);
    LINK("bltzal %2, 1f", 0xffffffff);
    LINK("bltzal %2, 1f", 0);
    LINK("bgezal %2, 1f", 0);
    LINK("bgezal %2, 1f", 0xffffffff);
    LINK("bltzall %2, 1f", 0xffffffff);
    LINK("bltzall %2, 1f", 0);
    LINK("bgezall %2, 1f", 0);
    LINK("bgezall %2, 1f", 0xffffffff);
    /* Another register than $31. */
    u32 want;
    asm volatile(NOREORDER "la %1, 2f\n\tla $8, 1f\n\tjalr $9, $8\n\tnop\n\t2: nop\n\t1: move %0, $9" REORDER
                 : "=&r"(link), "=&r"(want) : : "$8", "$9");
    CHECK(link, want);
}

static void delay_slots(void)
{
    u32 r, want;
    /* The delay slot changes the condition's register: the branch has looked already. */
    asm volatile(NOREORDER "li $8, 1\n\tli %0, 0\n\tbne $8, $0, 1f\n\tmove $8, $0\n\tli %0, 1\n\t1:" REORDER
                 : "=&r"(r) : : "$8");
    CHECK(r, 0);
    /* The delay slot changes the jump's register. */
    asm volatile(NOREORDER "la $8, 1f\n\tli %0, 0\n\tjr $8\n\tmove $8, $0\n\tli %0, 1\n\t1:" REORDER : "=&r"(r) : : "$8");
    CHECK(r, 0);
    /* The delay slot of a jump sees the link. */
    asm volatile(NOREORDER "la %1, 2f\n\tjal 1f\n\tmove %0, $31\n\t2: nop\n\t1:" REORDER
                 : "=&r"(r), "=&r"(want) : : "$31");
    CHECK(r, want);
    /* The delay slot loads. */
    asm volatile(NOREORDER "move $8, $0\n\tb 1f\n\tlw $8, 0(%1)\n\tnop\n\t1: move %0, $8" REORDER
                 : "=&r"(r) : "r"(&want), "m"(want) : "$8");
    CHECK(r, want);
    /* Instructions that only order others. */
    asm volatile(NOREORDER "li %0, 1\n\tssnop\n\tehb\n\tsync\n\tpause\n\tli %0, 2" REORDER : "=&r"(r) : : "memory");
    CHECK(r, 2);
    /* Backwards, many times. */
    asm volatile(NOREORDER "move %0, $0\n\tli $8, 100\n\t1: addiu $8, $8, -1\n\tbne $8, $0, 1b\n\taddiu %0, %0, 3" REORDER
                 : "=&r"(r) : : "$8");
    CHECK(r, 300);
    asm volatile(NOREORDER "move %0, $0\n\tli $8, 100\n\t1: addiu $8, $8, -1\n\tbgtzl $8, 1b\n\taddiu %0, %0, 3" REORDER
                 : "=&r"(r) : : "$8");
    CHECK(r, 297);
    /* The target of a branch may be its own delay slot: that runs twice. */
    asm volatile(NOREORDER "move %0, $0\n\tb 1f\n\t1: addiu %0, %0, 1" REORDER : "=&r"(r));
    CHECK(r, 2);
}

void group(void)
{
    conditions();
    jumps();
    delay_slots();
}
