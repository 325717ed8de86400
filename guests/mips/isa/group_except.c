/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Exceptions: which code, at which address, in a delay slot or not, from user mode, and within an exception. */
#include "isa.h"

const char group_name[] = "except";

static void overflow(void)
{
    RAISES(EXC_OV, "add $8, %1, %2", 0x7fffffff, 1);
    RAISES(EXC_OV, "add $8, %1, %2", 0x80000000, 0xffffffff);
    RAISES(EXC_OV, "addi $8, %1, 1", 0x7fffffff, 0);
    RAISES(EXC_OV, "addi $8, %1, -1", 0x80000000, 0);
    RAISES(EXC_OV, "sub $8, %1, %2", 0x80000000, 1);
    RAISES(EXC_OV, "sub $8, %1, %2", 0, 0x80000000);
    RAISES(EXC_OV, "sub $8, %1, %2", 0x7fffffff, 0xffffffff);
    QUIET("addu $8, %1, %2", 0x7fffffff, 1);
    /* The target keeps its value. */
    u32 r;
    asm volatile(NOREORDER "li $8, 0x1234\n\tlui $9, 0x7fff\n\tori $9, $9, 0xffff\n\taddi $8, $9, 1\n\tmove %0, $8" REORDER
                 : "=r"(r) : : "$8", "$9", "memory");
    CHECK(r, 0x1234);
    RAISES_BD(EXC_OV, "b 2f\n\tadd $8, %1, %2", 0x7fffffff, 1);
}

static void calls(void)
{
    RAISES(EXC_SYS, "syscall", 0, 0);
    RAISES(EXC_SYS, "syscall 0x12345", 0, 0);
    RAISES(EXC_BP, "break", 0, 0);
    RAISES(EXC_BP, "break 7", 0, 0);
    RAISES_BD(EXC_SYS, "b 2f\n\tsyscall", 0, 0);
    RAISES_BD(EXC_BP, "bnel %1, $0, 2f\n\tbreak", 1, 0);
    RAISES_BD(EXC_SYS, "jr %1\n\tsyscall", (u32)group, 0);
    RAISES_BD(EXC_SYS, "jalr $8, %1\n\tsyscall", (u32)group, 0);
    /* The slot of a likely branch that is not taken is not run. */
    QUIET("beql %1, $0, 2f\n\tsyscall", 1, 0);
    /* A branch that is not taken has a delay slot all the same. */
    RAISES_BD(EXC_SYS, "beq %1, $0, 2f\n\tsyscall", 1, 0);
}

static void reserved(void)
{
    RAISES(EXC_RI, ".word 0x0000003f", 0, 0); /* SPECIAL, function 63 */
    RAISES(EXC_RI, ".word 0x04040000", 0, 0); /* REGIMM, 4 */
    RAISES(EXC_RI, ".word 0x7c00003f", 0, 0); /* SPECIAL3, function 63 */
    RAISES(EXC_RI, ".word 0x0000002d", 0, 0); /* daddu, of the 64-bit architecture */
    RAISES(EXC_RI, ".word 0xdc000000", 0, 0); /* ld, of the 64-bit architecture */
    RAISES_BD(EXC_RI, "b 2f\n\t.word 0x0000003f", 0, 0);
}

static void coprocessors(void)
{
    u32 status = read_c0(12, 0);
    write_c0(12, 0, status & ~(STATUS_CU1 | STATUS_CU2));
    RAISES(EXC_CPU, ".word 0x44080000", 0, 0); /* mfc1 $8, $f0 */
    CHECK(exception.cause >> 28 & 3, 1);
    RAISES(EXC_CPU, ".word 0xc4400000", 0, 0); /* lwc1 $f0, 0($2) */
    CHECK(exception.cause >> 28 & 3, 1);
    RAISES(EXC_CPU, ".word 0xc8400000", 0, 0); /* lwc2 $0, 0($2) */
    CHECK(exception.cause >> 28 & 3, 2);
    RAISES(EXC_CPU, ".word 0xe8400000", 0, 0); /* swc2 $0, 0($2) */
    CHECK(exception.cause >> 28 & 3, 2);
    RAISES_BD(EXC_CPU, "b 2f\n\t.word 0x44080000", 0, 0);
    write_c0(12, 0, status);
}

static u32 buffer[8];

static void addresses(void)
{
    u32 base = (u32)buffer;
#define ADDRESS(code, op, offset) do { \
    RAISES(code, op " $8, " #offset "(%1)", base, 0); \
    CHECK(exception.badvaddr, base + offset); } while (0)
    ADDRESS(EXC_ADEL, "lh", 1);
    ADDRESS(EXC_ADEL, "lhu", 3);
    ADDRESS(EXC_ADEL, "lw", 1);
    ADDRESS(EXC_ADEL, "lw", 2);
    ADDRESS(EXC_ADEL, "lw", 3);
    ADDRESS(EXC_ADES, "sh", 1);
    ADDRESS(EXC_ADES, "sw", 1);
    ADDRESS(EXC_ADES, "sw", 2);
    ADDRESS(EXC_ADES, "sw", 3);
    RAISES_BD(EXC_ADEL, "b 2f\n\tlw $8, 2(%1)", base, 0);
    CHECK(exception.badvaddr, base + 2);
    /* A store that faults stores nothing. */
    buffer[0] = 0x11111111;
    buffer[1] = 0x22222222;
    RAISES(EXC_ADES, "sw $0, 2(%1)", base, 0);
    CHECK(buffer[0], 0x11111111);
    CHECK(buffer[1], 0x22222222);
    /* A jump to half a word: the fetch faults, not the jump. */
    exception.count = 0;
    u32 link, to = (u32)group + 2;
    asm volatile(NOREORDER
                 "la %0, 1f\n\tlui $1, %%hi(exception)\n\tsw %0, %%lo(exception + 32)($1)\n\tjr %1\n\tnop\n\t"
                 "1: lui $1, %%hi(exception)\n\tsw $0, %%lo(exception + 32)($1)" REORDER
                 : "=&r"(link) : "r"(to) : "memory", "$1");
    check_exception(to, EXC_ADEL, 0, 0x180, __LINE__);
    CHECK(exception.badvaddr, to);
}

/* Where a program in user mode is mapped. */
#define USER_PAGE 0x00400000

/* Runs two instructions in user mode: `instruction` and, if it does nothing, `syscall`. Gives the code of what came. */
static u32 run_user(u32 instruction, u32 a)
{
    u32 *page = (u32 *)0x80200000; /* RAM that the program is not in */
    page[0] = instruction;
    page[1] = 0x0000000c; /* syscall */
    page[2] = 0;
    sync_code(page, 12);
    u32 pfn = ((u32)page & 0x1fffffff) >> 12;
    write_c0(10, 0, USER_PAGE);
    write_c0(2, 0, pfn << 6 | 0x1f); /* cached, dirty, valid, global */
    write_c0(3, 0, (pfn + 1) << 6 | 0x1f);
    write_c0(0, 0, 3);
    write_c0(5, 0, 0);
    asm volatile("tlbwi" : : : "memory");
    exception.count = 0;
    u32 status = read_c0(12, 0);
    asm volatile(NOREORDER
                 "la $8, 1f\n\tlui $1, %%hi(exception)\n\tsw $8, %%lo(exception + 32)($1)\n\t"
                 "mtc0 %0, $12\n\tmtc0 %1, $14\n\tehb\n\tmove $8, %2\n\teret\n\t"
                 "1: lui $1, %%hi(exception)\n\tsw $0, %%lo(exception + 32)($1)" REORDER
                 : : "r"(status | STATUS_UM | STATUS_EXL), "r"(USER_PAGE), "r"(a) : "memory", "$1", "$8");
    write_c0(12, 0, status);
    return exception.cause >> 2 & 31;
}

static void within(void)
{
    /* With EXL set an exception goes to the general vector and keeps EPC and BD (MD00090, "Exception processing"). */
    u32 status = read_c0(12, 0), epc;
    write_c0(14, 0, 0x80001234);
    exception.count = 0;
    asm volatile(NOREORDER
                 "la %0, 1f\n\tlui $1, %%hi(exception)\n\tsw %0, %%lo(exception + 32)($1)\n\t"
                 "mtc0 %1, $12\n\tehb\n\tb 2f\n\tsyscall\n\t2: nop\n\t"
                 "1: lui $1, %%hi(exception)\n\tsw $0, %%lo(exception + 32)($1)" REORDER
                 : "=&r"(epc) : "r"(status | STATUS_EXL) : "memory", "$1");
    CHECK(exception.count, 1);
    CHECK(exception.epc, 0x80001234);
    CHECK(exception.cause >> 2 & 31, EXC_SYS);
    CHECK(exception.vector, 0x180);
    CHECK(read_c0(12, 0), status); /* ERET has cleared EXL */

    /* With ERL set, ERET goes to ErrorEPC and clears ERL, not EXL. */
    u32 r;
    asm volatile(NOREORDER
                 "la $8, 1f\n\tmtc0 $8, $30\n\tla $8, 2f\n\tmtc0 $8, $14\n\tmtc0 %1, $12\n\tehb\n\tli %0, 1\n\teret\n\t"
                 "2: li %0, 2\n\t1: nop" REORDER
                 : "=&r"(r) : "r"(status | STATUS_ERL | STATUS_EXL) : "$8", "memory");
    CHECK(r, 1);
    CHECK(read_c0(12, 0), status | STATUS_EXL);
    write_c0(12, 0, status);
}

static void user(void)
{
    CHECK(run_user(0x00000000, 0), EXC_SYS);                    /* nop */
    CHECK(run_user(0x40096000, 0), EXC_CPU);                    /* mfc0 $9, Status */
    CHECK(run_user(0x42000018, 0), EXC_CPU);                    /* eret */
    CHECK(run_user(0x8d090000, 0x80100000), EXC_ADEL);          /* lw $9, 0($8), the kernel's */
    CHECK(run_user(0xad090000, 0x80100000), EXC_ADES);          /* sw $9, 0($8) */
    CHECK(run_user(0x8d090000, 0xa0100000), EXC_ADEL);
    CHECK(run_user(0x8d090000, 0xc0000000), EXC_ADEL);
    CHECK(run_user(0x8d090000, USER_PAGE + 2), EXC_ADEL);
    CHECK(run_user(0xbd000000, USER_PAGE), EXC_CPU);            /* cache 0, 0($8) */
    CHECK(run_user(0x8d090000, USER_PAGE + 4), EXC_SYS);        /* its own page */
}

void group(void)
{
    overflow();
    calls();
    reserved();
    coprocessors();
    addresses();
    within();
    user();
}
