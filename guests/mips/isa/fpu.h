/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the FPU's groups share. Compiled without floating point: registers are named, values are bits. */
#ifndef FPU_H
#define FPU_H

#include "isa.h"

#define FPU ".set hardfloat\n\t.set fp=32\n\t"
#define FPU64 ".set hardfloat\n\t.set fp=64\n\t"

/* FCSR: what one operation leaves there, with the rounding mode `rm` and no exception enabled. */
#define FCSR(rm, flags) ((rm) | (flags) << 2 | (flags) << 12)
#define F_I 0x01
#define F_U 0x02
#define F_O 0x04
#define F_Z 0x08
#define F_V 0x10
#define FCSR_ENABLE(flags) ((flags) << 7)
#define CAUSE_OF(fcsr) ((fcsr) >> 12 & 63)

/* False, and said, where there is no FPU (a 24Kc). */
static inline bool fpu_on(void)
{
    if (!(read_c0(16, 1) & 1)) {
        left_out("all", "this CPU says that it has no FPU (Config1.FP is 0)");
        return false;
    }
    write_c0(12, 0, (read_c0(12, 0) & ~STATUS_FR) | STATUS_CU1);
    return true;
}

static inline u32 fcsr_read(void)
{
    u32 r;
    asm volatile(NOREORDER FPU "cfc1 %0, $31" REORDER : "=r"(r));
    return r;
}

static inline void fcsr_write(u32 value)
{
    asm volatile(NOREORDER FPU "ctc1 %0, $31" REORDER : : "r"(value));
}

#endif
