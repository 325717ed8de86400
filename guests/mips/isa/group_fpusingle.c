/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Single precision: results and flags in the four rounding modes. */
#include "fpu.h"

const char group_name[] = "fpusingle";

struct single_case {
    u16 line;
    u8 rm, flags;
    u32 a, b, want;
};
#define CASE(rm, a, b, want, flags) { __LINE__, rm, flags, a, b, want }
#include "fpu_single.inc"

/* A case is a line of fpu_single.inc. */
#define RUN(table, instruction) do { \
    for (u32 i = 0; i < sizeof table / sizeof table[0]; i++) { \
        u32 r_, fcsr_; \
        asm volatile(NOREORDER FPU \
                     "ctc1 %2, $31\n\tmtc1 %3, $f2\n\tmtc1 %4, $f4\n\tnop\n\t" instruction "\n\t" \
                     "mfc1 %0, $f0\n\tcfc1 %1, $31\n\tctc1 $0, $31" REORDER \
                     : "=&r"(r_), "=&r"(fcsr_) : "r"(table[i].rm), "r"(table[i].a), "r"(table[i].b)); \
        check(r_, table[i].want, table[i].line); \
        check(fcsr_, FCSR(table[i].rm, table[i].flags), table[i].line); \
    } } while (0)

#define ONE(instruction, a, want) do { \
    u32 r_; \
    asm volatile(NOREORDER FPU "ctc1 $0, $31\n\tmtc1 %1, $f2\n\tnop\n\t" instruction "\n\tmfc1 %0, $f0" REORDER \
                 : "=r"(r_) : "r"(a)); \
    CHECK(r_, want); } while (0)

/* r = f(a, b, c), rounded after the product and after the sum (not fused, before release 6). */
#define THREE(instruction, addend, a, b, want) do { \
    u32 r_; \
    asm volatile(NOREORDER FPU \
                 "ctc1 $0, $31\n\tmtc1 %1, $f6\n\tmtc1 %2, $f2\n\tmtc1 %3, $f4\n\tnop\n\t" instruction " $f0, $f6, $f2, $f4\n\t" \
                 "mfc1 %0, $f0" REORDER \
                 : "=r"(r_) : "r"(addend), "r"(a), "r"(b)); \
    CHECK(r_, want); } while (0)

void group(void)
{
    if (!fpu_on())
        return;
    RUN(add, "add.s $f0, $f2, $f4");
    RUN(sub, "sub.s $f0, $f2, $f4");
    RUN(mul, "mul.s $f0, $f2, $f4");
    RUN(div, "div.s $f0, $f2, $f4");
    RUN(sqrt, "sqrt.s $f0, $f2");
    ONE("abs.s $f0, $f2", 0xc0490fdb, 0x40490fdb);
    ONE("abs.s $f0, $f2", 0x80000000, 0);
    ONE("neg.s $f0, $f2", 0x40490fdb, 0xc0490fdb);
    ONE("neg.s $f0, $f2", 0x80000000, 0);
    ONE("mov.s $f0, $f2", 0x7fbfffff, 0x7fbfffff);
    ONE("recip.s $f0, $f2", 0x40800000, 0x3e800000);  /* 1 / 4 */
    ONE("rsqrt.s $f0, $f2", 0x40800000, 0x3f000000);  /* 1 / sqrt 4 */
    THREE("madd.s", 0x3f800000, 0x40000000, 0x40400000, 0x40e00000);  /* 2 * 3 + 1 */
    THREE("msub.s", 0x3f800000, 0x40000000, 0x40400000, 0x40a00000);
    THREE("nmadd.s", 0x3f800000, 0x40000000, 0x40400000, 0xc0e00000);
    THREE("nmsub.s", 0x3f800000, 0x40000000, 0x40400000, 0xc0a00000);
    /* (1 + 2^-23)^2 - (1 + 2^-22): 0 when the product is rounded first, 2^-46 when not. */
    THREE("msub.s", 0x3f800002, 0x3f800001, 0x3f800001, 0);
    /* Flags add up over operations, causes do not; a move touches neither. */
    u32 fcsr;
    asm volatile(NOREORDER FPU
                 "ctc1 $0, $31\n\tmtc1 %1, $f2\n\tmtc1 %2, $f4\n\tmtc1 $0, $f6\n\tnop\n\tdiv.s $f0, $f2, $f4\n\t"
                 "div.s $f0, $f2, $f6\n\tmov.s $f0, $f2\n\tcfc1 %0, $31\n\tctc1 $0, $31" REORDER
                 : "=r"(fcsr) : "r"(0x3f800000), "r"(0x40400000));
    CHECK(fcsr, F_Z << 12 | (F_Z | F_I) << 2);
}
