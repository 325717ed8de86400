/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a group of ISA tests is written with. A case is named after its line in the group's source. Expected values
 * come from the manuals (MIPS32 Release 2: MD00086 instructions, MD00090 privileged resources; 24K: MD00343) and from
 * arithmetic outside the guest, never from the CPU under test.
 */
#ifndef ISA_H
#define ISA_H

#include "guest.h"

extern const char group_name[];
void group(void);

void check(u32 got, u32 want, u32 line);
#define CHECK(got, want) check((u32)(got), (u32)(want), __LINE__)
/* Prints that a part was left out, and why. */
void left_out(const char *part, const char *why);

#ifdef __MIPSEB__
#define BIG 1
#else
#define BIG 0
#endif
/* The value for a big-endian, and for a little-endian CPU. */
#define BE_LE(big, little) (BIG ? (u32)(big) : (u32)(little))

#define NOREORDER ".set push\n\t.set noreorder\n\t.set noat\n\t"
#define REORDER "\n\t.set pop"

/* rd, rs, rt */
#define RR(op, a, b, want) do { \
    u32 r_; \
    asm volatile(op " %0, %1, %2" : "=r"(r_) : "r"(a), "r"(b)); \
    CHECK(r_, want); } while (0)
/* rt, rs, immediate; also rd, rt, sa */
#define RI(op, a, b, want) do { \
    u32 r_; \
    asm volatile(op " %0, %1, " STRING(b) : "=r"(r_) : "r"(a)); \
    CHECK(r_, want); } while (0)
/* rd, rs */
#define R1(op, a, want) do { \
    u32 r_; \
    asm volatile(op " %0, %1" : "=r"(r_) : "r"(a)); \
    CHECK(r_, want); } while (0)

/*
 * What vector.S kept of the last exception, and where to go on: `resume` if it is not 0, the instruction itself again
 * after writing lo0 and lo1 through tlbwi at `index` if `retry` is 1, else the next instruction.
 */
struct exception {
    u32 count, vector, cause, epc, badvaddr, status, entryhi, context;
    u32 resume, retry, lo0, lo1, index, errorepc;
};
extern volatile struct exception exception;

/*
 * Runs `instructions`, of which the first one takes an exception; goes on after the last one. They may use %1 and %2.
 * Gives the address of the first.
 */
#define RAISE(instructions, a, b) ({ \
    u32 at_; \
    exception.count = 0; \
    asm volatile(NOREORDER \
        "la %0, 2f\n\tlui $1, %%hi(exception)\n\tsw %0, %%lo(exception + 32)($1)\n\tla %0, 1f\n\t" \
        "1: " instructions "\n\t" \
        "nop\n\t2: lui $1, %%hi(exception)\n\tsw $0, %%lo(exception + 32)($1)" REORDER \
        : "=&r"(at_) : "r"(a), "r"(b) : "memory", "$1"); \
    at_; })

/* The last RAISE took exactly one exception: this one, at `at`, in the delay slot after it (BD) or not. */
void check_exception(u32 at, u32 code, u32 bd, u32 vector, u32 line);
#define RAISES(code, instructions, a, b) \
    check_exception(RAISE(instructions, a, b), code, 0, 0x180, __LINE__)
#define RAISES_AT(vector, code, instructions, a, b) \
    check_exception(RAISE(instructions, a, b), code, 0, vector, __LINE__)
#define RAISES_BD(code, instructions, a, b) \
    check_exception(RAISE(instructions, a, b), code, 1, 0x180, __LINE__)
/* No exception. */
#define QUIET(instructions, a, b) do { RAISE(instructions, a, b); CHECK(exception.count, 0); } while (0)

#endif
