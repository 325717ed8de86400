/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a group of ISA tests is written with. A case is named after its line in the group's source, or in the table that it
 * includes. Expected values come from the manuals (PEM: MPCFPE32B; MPC604UM; MPC750UM) and from arithmetic outside the
 * guest, never from the CPU under test.
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

#define MSR_EE 0x8000u
#define MSR_PR 0x4000u
#define MSR_FP 0x2000u
#define MSR_ME 0x1000u
#define MSR_SE 0x0400u
#define MSR_BE 0x0200u
#define MSR_IR 0x0020u
#define MSR_DR 0x0010u

/*
 * What vector.S kept of the last exception, and how to go on: at `resume` if it is not 0, else behind the instruction
 * that SRR0 names (at it, for interrupts and traces); with MSR `back` if it is not 0, else as before.
 */
struct exception {
    u32 count, vector, srr0, srr1, dar, dsisr;
    u32 resume, back;
};
extern volatile struct exception exception;

/*
 * Runs `instructions` with MSR `msr`, of which one takes an exception; goes on after the last one with the MSR of before.
 * They may use %1 and %2, r0 and r11. Gives the address of the first. Where none takes an exception `sc` ends it.
 */
#define RAISE(msr, instructions, a, b) ({ \
    u32 at_; \
    exception.count = 0; \
    exception.back = mfmsr(); \
    asm volatile( \
        "lis %0, 2f@ha\n\taddi %0, %0, 2f@l\n\t" \
        "lis 11, (exception + 24)@ha\n\tstw %0, (exception + 24)@l(11)\n\t" \
        "lis %0, 1f@ha\n\taddi %0, %0, 1f@l\n\t" \
        "mtsrr0 %0\n\tmtsrr1 %3\n\trfi\n\t" \
        "1: " instructions "\n\tsc\n\t" \
        "2: li 0, 0\n\tlis 11, (exception + 24)@ha\n\tstw 0, (exception + 24)@l(11)\n\t" \
        "stw 0, (exception + 28)@l(11)" \
        : "=&b"(at_) : "b"(a), "b"(b), "r"(msr) : "memory", "0", "11", "cr0", "ctr", "lr", "xer"); \
    at_; })

/* The last RAISE took exactly one exception: this one, at `at`, with these bits of SRR1 beside those of `msr`. */
void check_exception(u32 at, u32 vector, u32 msr, u32 srr1, u32 line);
#define RAISES_IN(msr, vector, srr1, instructions, a, b) \
    check_exception(RAISE(msr, instructions, a, b), vector, msr, srr1, __LINE__)
#define RAISES(vector, srr1, instructions, a, b) RAISES_IN(MSR_ME, vector, srr1, instructions, a, b)
/* No exception but the `sc` at the end. */
#define QUIET_IN(msr, instructions, a, b) do { RAISE(msr, instructions, a, b); CHECK(exception.vector, 0xc00); } while (0)
#define QUIET(instructions, a, b) QUIET_IN(MSR_ME, instructions, a, b)
/* What the last data storage exception says. */
#define CHECK_DATA(address, bits) do { CHECK(exception.dar, address); CHECK(exception.dsisr, bits); } while (0)

#define VECTOR_DSI 0x300
#define VECTOR_ISI 0x400
#define VECTOR_ALIGNMENT 0x600
#define VECTOR_PROGRAM 0x700
#define VECTOR_FP 0x800
#define VECTOR_DECREMENTER 0x900
#define VECTOR_TRACE 0xd00
#define ILLEGAL 0x00080000u
#define PRIVILEGED 0x00040000u
#define TRAP 0x00020000u

#endif
