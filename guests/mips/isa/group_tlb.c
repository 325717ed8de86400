/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The TLB without Random: entries, matches, refill, invalid, modified, ASIDs, page sizes, fetches, bus errors. */
#include "tlb.h"

const char group_name[] = "tlb";

/* Four pages of RAM that the program is not in. */
static u32 (*const page)[1024] = (u32(*)[1024])0x80200000;
#define VA 0x00400000

static void set_asid(u32 asid)
{
    write_c0(10, 0, asid);
}

static void entries(void)
{
    tlb_write(5, 0x12346000 | 0x42, LO(0x00123000, LO_RAM), LO(0x00456000, LO_UNCACHED | LO_V), 0);
    write_c0(10, 0, 0);
    write_c0(2, 0, 0);
    write_c0(3, 0, 0);
    write_c0(0, 0, 5);
    asm volatile("tlbr\n\tehb" : : : "memory");
    CHECK(read_c0(10, 0), 0x12346042);
    CHECK(read_c0(2, 0), LO(0x00123000, LO_RAM));
    CHECK(read_c0(3, 0), LO(0x00456000, LO_UNCACHED | LO_V));
    CHECK(read_c0(5, 0), 0);
    write_c0(10, 0, 0);
    /* G is the AND of both halves, and read back in both. */
    tlb_write(5, 0x12346000, LO(0x00123000, LO_RAM | LO_G), LO(0x00456000, LO_RAM), 0);
    write_c0(0, 0, 5);
    asm volatile("tlbr\n\tehb" : : : "memory");
    CHECK(read_c0(2, 0) & LO_G, 0);
    CHECK(read_c0(3, 0) & LO_G, 0);
    tlb_write(5, 0x12346000, LO(0x00123000, LO_RAM | LO_G), LO(0x00456000, LO_RAM | LO_G), 0x6000);
    write_c0(0, 0, 5);
    asm volatile("tlbr\n\tehb" : : : "memory");
    CHECK(read_c0(2, 0) & LO_G, LO_G);
    CHECK(read_c0(3, 0) & LO_G, LO_G);
    CHECK(read_c0(5, 0), 0x6000);
    write_c0(5, 0, 0);
    /* TLBP. */
    tlb_write(5, 0x12346000 | 7, LO(0x00123000, LO_RAM), LO(0x00456000, LO_RAM), 0);
    CHECK(tlb_find(0x12346000 | 7), 5);
    CHECK(tlb_find(0x12346000 | 8), NOT_FOUND);
    CHECK(tlb_find(0x12348000 | 7), NOT_FOUND);
    tlb_write(5, 0x12346000 | 7, LO(0x00123000, LO_G), LO(0x00456000, LO_G), 0);
    CHECK(tlb_find(0x12346000 | 8), 5); /* global, and not valid: it matches all the same */
    tlb_clear(5);
    CHECK(tlb_find(0x12346000 | 7), NOT_FOUND);
    set_asid(0);
}

static void translation(void)
{
    volatile u32 *even = (volatile u32 *)VA, *odd = (volatile u32 *)(VA + 0x1000);
    page[0][3] = 0x10203040;
    page[3][3] = 0x50607080;
    tlb_write(0, VA, LO(PHYSICAL(page[0]), LO_RAM), LO(PHYSICAL(page[3]), LO_RAM), 0);
    CHECK(even[3], 0x10203040);
    CHECK(odd[3], 0x50607080);
    even[4] = 0xcafe;
    odd[4] = 0xbabe;
    CHECK(page[0][4], 0xcafe);
    CHECK(page[3][4], 0xbabe);
    /* An entry that is written again is the new one at once. */
    tlb_write(0, VA, LO(PHYSICAL(page[3]), LO_RAM), LO(PHYSICAL(page[0]), LO_RAM), 0);
    CHECK(even[4], 0xbabe);
    CHECK(odd[4], 0xcafe);
    tlb_clear(0);
    RAISES_AT(0, EXC_TLBL, "lw $8, 0(%1)", VA, 0);
}

static void misses(void)
{
    set_asid(0x5a);
    RAISES_AT(0, EXC_TLBL, "lw $8, 0x124(%1)", VA + 0x3000, 0);
    CHECK(exception.badvaddr, VA + 0x3124);
    CHECK(exception.entryhi, (VA + 0x2000) | 0x5a);
    CHECK(exception.context & 0x007ffff0, (VA + 0x2000) >> 13 << 4);
    RAISES_AT(0, EXC_TLBS, "sb $8, 1(%1)", 0x7fffe000, 0);
    CHECK(exception.badvaddr, 0x7fffe001);
    CHECK(exception.entryhi, 0x7fffe05a);
    RAISES_AT(0, EXC_TLBL, "lbu $8, 0(%1)", 0xc0000000, 0);
    CHECK(exception.entryhi, 0xc000005a);
    RAISES_AT(0, EXC_TLBS, "sh $8, 0(%1)", 0xffffe000, 0);
    CHECK(exception.context & 0x007ffff0, 0x007ffff0);
    /* In a delay slot. */
    check_exception(RAISE("b 2f\n\tlw $8, 0(%1)", VA, 0), EXC_TLBL, 1, 0, __LINE__);
    /* Other instructions that load and store. */
    RAISES_AT(0, EXC_TLBL, "lwl $8, 1(%1)", VA, 0);
    CHECK(exception.badvaddr, VA + 1);
    RAISES_AT(0, EXC_TLBS, "swr $8, 2(%1)", VA, 0);
    CHECK(exception.badvaddr, VA + 2);
    RAISES_AT(0, EXC_TLBL, "lwr $8, 2(%1)", VA, 0);
    CHECK(exception.badvaddr, VA + 2);
    RAISES_AT(0, EXC_TLBS, "swl $8, 1(%1)", VA, 0);
    CHECK(exception.badvaddr, VA + 1);
    RAISES_AT(0, EXC_TLBL, "ll $8, 4(%1)", VA, 0);
    CHECK(exception.badvaddr, VA + 4);
    /* Misaligned comes before unmapped. */
    RAISES(EXC_ADEL, "lw $8, 1(%1)", VA, 0);
    /* PTEBase is software's, and kept. */
    write_c0(4, 0, 0xff800000);
    RAISES_AT(0, EXC_TLBL, "lw $8, 0(%1)", VA, 0);
    CHECK(exception.context, 0xff800000 | VA >> 13 << 4);
    write_c0(4, 0, 0);
    /* The target of a load that faults keeps its value. */
    u32 r;
    asm volatile(NOREORDER "li $8, 77\n\tlw $8, 0(%1)\n\tmove %0, $8" REORDER : "=r"(r) : "r"(VA) : "$8", "memory");
    CHECK(r, 77);
    set_asid(0);
}

static void within(void)
{
    /* With EXL set a miss goes to the general vector. */
    u32 status = read_c0(12, 0), at;
    exception.count = 0;
    write_c0(14, 0, 0x80004444);
    asm volatile(NOREORDER
                 "la %0, 1f\n\tlui $1, %%hi(exception)\n\tsw %0, %%lo(exception + 32)($1)\n\t"
                 "mtc0 %1, $12\n\tehb\n\tlw $8, 0(%2)\n\tnop\n\t"
                 "1: lui $1, %%hi(exception)\n\tsw $0, %%lo(exception + 32)($1)" REORDER
                 : "=&r"(at) : "r"(status | STATUS_EXL), "r"(VA) : "memory", "$1", "$8");
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0x180);
    CHECK(exception.cause >> 2 & 31, EXC_TLBL);
    CHECK(exception.epc, 0x80004444);
    CHECK(exception.badvaddr, VA);
    /* With ERL set kuseg is neither mapped nor cached: address is physical address (MD00090, "kuseg when ERL"). */
    u32 value;
    page[1][7] = 0x77665544;
    asm volatile(NOREORDER "mtc0 %1, $12\n\tehb\n\tlw %0, 0(%2)\n\tmtc0 %3, $12\n\tehb" REORDER
                 : "=&r"(value) : "r"(status | STATUS_ERL), "r"(PHYSICAL(&page[1][7])), "r"(status) : "memory");
    CHECK(value, 0x77665544);
}

static void permissions(void)
{
    u32 p0 = PHYSICAL(page[0]), p1 = PHYSICAL(page[1]);
    /* Not valid: the general vector. */
    tlb_write(2, VA, LO(p0, LO_CACHED | LO_D), LO(p1, LO_RAM), 0);
    RAISES(EXC_TLBL, "lw $8, 8(%1)", VA, 0);
    CHECK(exception.badvaddr, VA + 8);
    CHECK(exception.entryhi, VA);
    RAISES(EXC_TLBS, "sw $8, 8(%1)", VA, 0);
    QUIET("lw $8, 8(%1)", VA + 0x1000, 0);
    /* Not dirty. */
    tlb_write(2, VA, LO(p0, LO_RAM), LO(p1, LO_CACHED | LO_V), 0);
    page[1][2] = 0x1111;
    QUIET("sw $0, 8(%1)", VA, 0);
    QUIET("lw $8, 8(%1)", VA + 0x1000, 0);
    RAISES(EXC_MOD, "sw $0, 8(%1)", VA + 0x1000, 0);
    CHECK(exception.badvaddr, VA + 0x1008);
    CHECK(exception.entryhi, VA);
    CHECK(page[1][2], 0x1111);
    RAISES(EXC_MOD, "sb $0, 9(%1)", VA + 0x1000, 0);
    RAISES(EXC_MOD, "swl $0, 9(%1)", VA + 0x1000, 0);
    RAISES_BD(EXC_MOD, "b 2f\n\tsh $0, 10(%1)", VA + 0x1000, 0);
    tlb_clear(2);
}

static void retry(void)
{
    /* The handler maps the page, and the instruction runs again. */
    u32 r;
    page[2][5] = 0x2468ace0;
    exception.count = 0;
    exception.lo0 = LO(PHYSICAL(page[2]), LO_RAM);
    exception.lo1 = 0;
    exception.index = 9;
    exception.retry = 1;
    asm volatile("lw %0, 20(%1)" : "=r"(r) : "r"(VA) : "memory");
    CHECK(exception.count, 1);
    CHECK(exception.vector, 0);
    CHECK(r, 0x2468ace0);
    /* A store to it, in a delay slot: the branch runs again. */
    tlb_clear(9);
    exception.count = 0;
    exception.retry = 1;
    asm volatile(NOREORDER "li $8, 0x55\n\tli %0, 0\n\tb 1f\n\tsw $8, 24(%1)\n\tli %0, 1\n\t1:" REORDER
                 : "=&r"(r) : "r"(VA) : "$8", "memory");
    CHECK(exception.count, 1);
    CHECK(exception.cause >> 31, 1);
    CHECK(r, 0);
    CHECK(page[2][6], 0x55);
    /* Modified: the handler makes it writable; tlbwi replaces the same entry. */
    tlb_write(9, VA, LO(PHYSICAL(page[2]), LO_CACHED | LO_V), 0, 0);
    exception.count = 0;
    exception.retry = 1;
    asm volatile("sw %0, 24(%1)" : : "r"(0x66), "r"(VA) : "memory");
    CHECK(exception.count, 1);
    CHECK(exception.cause >> 2 & 31, EXC_MOD);
    CHECK(page[2][6], 0x66);
    tlb_clear(9);
}

static void address_spaces(void)
{
    page[0][0] = 0xa0;
    page[1][0] = 0xa1;
    page[2][0] = 0xa2;
    tlb_write(1, VA | 1, LO(PHYSICAL(page[0]), LO_RAM), 0, 0);
    tlb_write(2, VA | 2, LO(PHYSICAL(page[1]), LO_RAM), 0, 0);
    tlb_write(3, (VA + 0x2000) | 1, LO(PHYSICAL(page[2]), LO_RAM | LO_G), LO(0, LO_G), 0);
    volatile u32 *at = (volatile u32 *)VA, *global = (volatile u32 *)(VA + 0x2000);
    set_asid(1);
    CHECK(*at, 0xa0);
    CHECK(*global, 0xa2);
    set_asid(2);
    CHECK(*at, 0xa1);
    CHECK(*global, 0xa2);
    set_asid(3);
    RAISES_AT(0, EXC_TLBL, "lw $8, 0(%1)", VA, 0);
    CHECK(exception.entryhi, VA | 3);
    CHECK(*global, 0xa2);
    set_asid(1);
    CHECK(*at, 0xa0);
    set_asid(0);
    tlb_clear(1);
    tlb_clear(2);
    tlb_clear(3);
}

static void sizes(void)
{
    u32 physical = PHYSICAL(&page[1][11]);
    page[1][11] = 0x600dcafe;
    /* 4 KiB to 256 MiB; the mask is that of both halves of the pair. */
    for (u32 shift = 12; shift <= 28; shift += 2) {
        u32 size = 1u << shift, offset = physical & (size - 1), frame = physical - offset;
        u32 va = 0x20000000;
        tlb_write(4, va, LO(frame, LO_RAM), LO(frame, LO_CACHED | LO_V), (2 * size - 1) & 0x1fffe000);
        check(REG32(va + offset), 0x600dcafe, __LINE__ * 100 + shift);
        check(REG32(va + size + offset), 0x600dcafe, __LINE__ * 100 + shift);
        REG32(va + offset) = shift;
        check(page[1][11], shift, __LINE__ * 100 + shift);
        page[1][11] = 0x600dcafe;
        RAISES(EXC_MOD, "sw $0, 0(%1)", va + size + offset, 0);
        check(exception.badvaddr, va + size + offset, __LINE__ * 100 + shift);
        /* Beyond the pair. */
        RAISES_AT(0, EXC_TLBL, "lw $8, 0(%1)", va + 2 * size, 0);
        check(tlb_find(va + 2 * size - 0x2000), 4, __LINE__ * 100 + shift);
        check(tlb_find(va + 2 * size), NOT_FOUND, __LINE__ * 100 + shift);
    }
    tlb_clear(4);
}

static void segments(void)
{
    page[0][0] = 0x99;
    tlb_write(6, 0xc0000000, LO(PHYSICAL(page[0]), LO_RAM), LO(PHYSICAL(page[1]), LO_RAM), 0);
    CHECK(REG32(0xc0000000), 0x99);
    tlb_write(6, 0xffffe000, LO(PHYSICAL(page[1]), LO_RAM), LO(PHYSICAL(page[0]), LO_RAM), 0);
    CHECK(REG32(0xfffff000), 0x99);
    tlb_write(6, 0, LO(PHYSICAL(page[0]), LO_RAM), 0, 0);
    u32 r;
    asm volatile("lw %0, 0($0)" : "=r"(r) : : "memory");
    CHECK(r, 0x99);
    tlb_clear(6);
    /* kseg0 and kseg1 do not look at it. */
    tlb_write(6, (u32)page[0], LO(PHYSICAL(page[1]), LO_RAM), LO(PHYSICAL(page[1]), LO_RAM), 0);
    CHECK(page[0][0], 0x99);
    CHECK(REG32(PHYSICAL(page[0]) | 0xa0000000), 0x99);
    tlb_clear(6);
}

/* Jumps to `to`, whose fetch is to fault; what comes back is checked by the caller. */
static void jump(u32 to)
{
    u32 at;
    exception.count = 0;
    asm volatile(NOREORDER
                 "la %0, 1f\n\tlui $1, %%hi(exception)\n\tsw %0, %%lo(exception + 32)($1)\n\tjalr %1\n\tnop\n\t"
                 "1: lui $1, %%hi(exception)\n\tsw $0, %%lo(exception + 32)($1)" REORDER
                 : "=&r"(at) : "r"(to) : "memory", "$1", "$2", "$31");
}

static void fetches(void)
{
    jump(VA + 0x10);
    check_exception(VA + 0x10, EXC_TLBL, 0, 0, __LINE__);
    CHECK(exception.badvaddr, VA + 0x10);
    tlb_write(7, VA, LO(PHYSICAL(page[0]), LO_CACHED), LO(PHYSICAL(page[1]), LO_CACHED | LO_V), 0);
    jump(VA + 0x14);
    check_exception(VA + 0x14, EXC_TLBL, 0, 0x180, __LINE__);
    CHECK(exception.badvaddr, VA + 0x14);
    /* Code in a mapped page. */
    page[1][0] = 0x03e00008; /* jr $31 */
    page[1][1] = 0x24020042; /* li $2, 0x42 */
    sync_code(page[1], 8);
    u32 r;
    asm volatile(NOREORDER "jalr %1\n\tnop\n\tmove %0, $2" REORDER : "=r"(r) : "r"(VA + 0x1000) : "$2", "$31", "memory");
    CHECK(r, 0x42);
    /* A branch at the end of a page, its delay slot in one that is not mapped: BD, and EPC is the branch. */
    page[1][1023] = 0x03e00008; /* jr $31 */
    sync_code(&page[1][1023], 4);
    jump(VA + 0x1ffc);
    check_exception(VA + 0x1ffc, EXC_TLBL, 1, 0, __LINE__);
    CHECK(exception.badvaddr, VA + 0x2000);
    /* Straight on into a page that is not mapped. */
    page[1][1023] = 0;
    sync_code(&page[1][1023], 4);
    jump(VA + 0x1ffc);
    check_exception(VA + 0x2000, EXC_TLBL, 0, 0, __LINE__);
    tlb_clear(7);
}

/* Nothing answers at 1.5 GiB, neither on the `mips` board nor on malta. */
#define NOTHING 0x60000000

static void bus_errors(void)
{
    tlb_write(8, VA, LO(NOTHING, LO_UNCACHED | LO_V | LO_D), LO(NOTHING, LO_UNCACHED | LO_V | LO_D), 0);
    RAISES(EXC_DBE, "lw $8, 0(%1)", VA, 0);
    RAISES(EXC_DBE, "lbu $8, 0x123(%1)", VA, 0);
    RAISES_BD(EXC_DBE, "b 2f\n\tlh $8, 0x122(%1)", VA, 0);
    jump(VA);
    check_exception(VA, EXC_IBE, 0, 0x180, __LINE__);
    u32 r;
    asm volatile(NOREORDER "li $8, 78\n\tlw $8, 0(%1)\n\tmove %0, $8" REORDER : "=r"(r) : "r"(VA) : "$8", "memory");
    CHECK(r, 78);
    tlb_clear(8);
}

void group(void)
{
    entries();
    translation();
    misses();
    within();
    permissions();
    retry();
    address_spaces();
    sizes();
    segments();
    fetches();
    bus_errors();
}
