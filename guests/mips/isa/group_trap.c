/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Traps on a condition. */
#include "isa.h"

const char group_name[] = "trap";

#define TRAP(op, a, b, trapped) do { \
    if (trapped) \
        RAISES(EXC_TR, op " %1, %2", a, b); \
    else \
        QUIET(op " %1, %2", a, b); } while (0)
#define TRAPI(op, a, immediate, trapped) do { \
    if (trapped) \
        RAISES(EXC_TR, op " %1, " #immediate, a, 0); \
    else \
        QUIET(op " %1, " #immediate, a, 0); } while (0)

void group(void)
{
    TRAP("teq", 1, 1, 1);
    TRAP("teq", 1, 2, 0);
    TRAP("tne", 1, 2, 1);
    TRAP("tne", 1, 1, 0);
    TRAP("tge", 1, 1, 1);
    TRAP("tge", 0xffffffff, 0, 0);
    TRAP("tge", 0, 0xffffffff, 1);
    TRAP("tgeu", 0xffffffff, 0, 1);
    TRAP("tgeu", 0, 0xffffffff, 0);
    TRAP("tlt", 0xffffffff, 0, 1);
    TRAP("tlt", 1, 1, 0);
    TRAP("tltu", 0, 0xffffffff, 1);
    TRAP("tltu", 0xffffffff, 0, 0);
    TRAPI("teqi", 0xffffffff, -1, 1);
    TRAPI("teqi", 1, -1, 0);
    TRAPI("tnei", 1, -1, 1);
    TRAPI("tnei", 0xffff8000, -32768, 0);
    TRAPI("tgei", 0, -1, 1);
    TRAPI("tgei", 0xfffffffe, -1, 0);
    /* Sign-extended, then without sign. */
    TRAPI("tgeiu", 5, -1, 0);
    TRAPI("tgeiu", 0xffffffff, -1, 1);
    TRAPI("tlti", 0xfffffffe, -1, 1);
    TRAPI("tlti", 0, 0, 0);
    TRAPI("tltiu", 5, -1, 1);
    TRAPI("tltiu", 0xffffffff, -1, 0);
    RAISES_BD(EXC_TR, "b 2f\n\tteq $0, $0", 0, 0);
    RAISES(EXC_TR, "teq $0, $0, 0x155", 0, 0);
}
