/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* CP0 registers: what can be written, what is fixed, and the instructions that read them for user mode. */
#include "isa.h"

const char group_name[] = "cp0";

#define KEEPS(number, select, written, mask, want) do { \
    write_c0(number, select, written); \
    CHECK(read_c0(number, select) & (mask), want); } while (0)

void group(void)
{
    /* Config: release 2, a standard TLB, the byte order, kseg0's attribute can be written. */
    u32 config = read_c0(16, 0);
    CHECK(config >> 31, 1);
    CHECK(config >> 10 & 7, 1);
    CHECK(config >> 7 & 7, 1);
    CHECK(config >> 15 & 1, BIG);
    u32 config1 = read_c0(16, 1);
    CHECK(config1 >> 25 & 63, 15);
    CHECK(read_c0(15, 0) >> 16 & 0xff, 1); /* PRId: MIPS Technologies */

    KEEPS(14, 0, 0x12345678, ~0u, 0x12345678);
    KEEPS(14, 0, 0x87654321, ~0u, 0x87654321);
    KEEPS(30, 0, 0xdeadbee0, ~0u, 0xdeadbee0);
    KEEPS(0, 0, 11, 0x3f, 11);
    KEEPS(6, 0, 7, ~0u, 7);
    KEEPS(6, 0, 0, ~0u, 0);
    KEEPS(10, 0, 0xffffffff, 0xffffe0ff, 0xffffe0ff);
    KEEPS(10, 0, 0xffffffff, 0x00001f00, 0);
    KEEPS(10, 0, 0, ~0u, 0);
    KEEPS(2, 0, 0x03ffffff, ~0u, 0x03ffffff);
    KEEPS(3, 0, 0x02aaaaaa, ~0u, 0x02aaaaaa);
    KEEPS(2, 0, 0, ~0u, 0);
    KEEPS(5, 0, 0x1fffe000, ~0u, 0x1fffe000);
    KEEPS(5, 0, 0x00006000, ~0u, 0x00006000);
    KEEPS(5, 0, 0, ~0u, 0);
    KEEPS(4, 0, 0xff800000, 0xff80000f, 0xff800000);
    KEEPS(4, 0, 0, 0xff80000f, 0);
    KEEPS(11, 0, 0x13572468, ~0u, 0x13572468);
    /* BadVAddr cannot be written. */
    RAISES(EXC_ADEL, "lw $8, 1(%1)", 0x80100000, 0);
    write_c0(8, 0, 0x55555555);
    CHECK(read_c0(8, 0), 0x80100001);
    /* Cause: only IP1, IP0, IV, WP, DC. */
    u32 before = read_c0(13, 0);
    write_c0(13, 0, 0x00000300);
    CHECK(read_c0(13, 0) & 0x300, 0x300);
    write_c0(13, 0, 0x0000007c);
    CHECK(read_c0(13, 0) & 0x37c, before & 0x7c);
    write_c0(13, 0, CAUSE_IV);
    CHECK(read_c0(13, 0) & CAUSE_IV, CAUSE_IV);
    write_c0(13, 0, 0);
    CHECK(read_c0(13, 0) & CAUSE_IV, 0);
    /* EBase: bits 31 and 30 are fixed, the low ones are the number of the CPU. */
    KEEPS(15, 1, 0x80000000, ~0u, 0x80000000);
    KEEPS(15, 1, 0xffffffff, 0xfffff000, 0xbffff000);
    KEEPS(15, 1, 0x00123000, 0xfffff000, 0x80123000);
    KEEPS(15, 1, 0x80000000, ~0u, 0x80000000);
    /* Only one set of general registers: the other one is the same. */
    CHECK(read_c0(12, 2) >> 26 & 15, 0);
    u32 r;
    asm volatile(NOREORDER "li $8, 0x1234\n\tb 1f\n\tnop\n\t1: rdpgpr %0, $8\n\tb 2f\n\tnop\n\t2:" REORDER : "=r"(r) : : "$8");
    CHECK(r, 0x1234);
    asm volatile(NOREORDER "li $8, 0x4321\n\tb 1f\n\tmove $9, $0\n\t1: wrpgpr $9, $8\n\tb 2f\n\tnop\n\t2: move %0, $9" REORDER
                 : "=r"(r) : : "$8", "$9");
    CHECK(r, 0x4321);

    /* DI and EI give the old Status. No interrupt is pending that could come. */
    u32 status = read_c0(12, 0);
    asm volatile("ei %0\n\tehb" : "=r"(r) : : "memory");
    CHECK(r, status);
    CHECK(read_c0(12, 0), status | STATUS_IE);
    asm volatile("di %0\n\tehb" : "=r"(r) : : "memory");
    CHECK(r, status | STATUS_IE);
    CHECK(read_c0(12, 0), status);

    /* RDHWR: the kernel may always, but not what is not there. */
    asm volatile("rdhwr %0, $0" : "=r"(r));
    CHECK(r, 0);
    asm volatile("rdhwr %0, $1" : "=r"(r));
    CHECK(r == 0 || (r & (r - 1)) == 0, 1);
    asm volatile("rdhwr %0, $3" : "=r"(r));
    CHECK(r >= 1 && r <= 4, 1);
    RAISES(EXC_RI, ".word 0x7c08f83b", 0, 0); /* rdhwr $8, $31 */
    RAISES(EXC_RI, ".word 0x7c08503b", 0, 0); /* rdhwr $8, $10 */
}
