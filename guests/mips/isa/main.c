/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Runs the group that this image has and says how it went. */
#include "isa.h"

volatile struct exception exception;
static u32 checks, failures;

void check(u32 got, u32 want, u32 line)
{
    checks++;
    if (got == want)
        return;
    if (++failures <= 30)
        print("FAIL %s case %u got %08x want %08x\n", group_name, line, got, want);
}

void check_exception(u32 at, u32 code, u32 bd, u32 vector, u32 line)
{
    check(exception.count, 1, line);
    if (exception.count == 0)
        return;
    check(exception.cause >> 2 & 31, code, line);
    check(exception.cause >> 31, bd, line);
    check(exception.epc, at, line);
    check(exception.vector, vector, line);
    check(exception.status & STATUS_EXL, STATUS_EXL, line);
}

void left_out(const char *part, const char *why)
{
    print("left out: %s %s: %s\n", group_name, part, why);
}

int main(void)
{
    /* No entry of the TLB may match anything: different addresses in kseg0, which is not mapped. */
    u32 entries = (read_c0(16, 1) >> 25 & 63) + 1;
    for (u32 i = 0; i < entries; i++) {
        write_c0(0, 0, i);
        write_c0(10, 0, 0x80000000 + (i << 13));
        write_c0(2, 0, 0);
        write_c0(3, 0, 0);
        write_c0(5, 0, 0);
        asm volatile("tlbwi" : : : "memory");
    }
    write_c0(10, 0, 0);
    write_c0(6, 0, 0);
    group();
    if (failures == 0)
        print("ok %s\n", group_name);
    print("end %s: %u checks, %u failed\n", group_name, checks, failures);
    return failures != 0;
}
