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

void check_exception(u32 at, u32 vector, u32 msr, u32 srr1, u32 line)
{
    check(exception.count, 1, line);
    check(exception.vector, vector, line);
    check(exception.srr0, at, line);
    check(exception.srr1, srr1 | msr, line);
}

void left_out(const char *part, const char *why)
{
    print("left out: %s %s: %s\n", group_name, part, why);
}

int main(void)
{
    group();
    if (failures == 0)
        print("ok %s\n", group_name);
    print("end %s: %u checks, %u failed\n", group_name, checks, failures);
    return failures != 0;
}
