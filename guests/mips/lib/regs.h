/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Names of CP0 registers for assembler and C, as in MIPS32 PRA (MD00090), chapter "CP0 registers". */
#ifndef REGS_H
#define REGS_H

#ifdef __ASSEMBLER__
#define c0_index    $0
#define c0_random   $1
#define c0_entrylo0 $2
#define c0_entrylo1 $3
#define c0_context  $4
#define c0_pagemask $5
#define c0_wired    $6
#define c0_badvaddr $8
#define c0_count    $9
#define c0_entryhi  $10
#define c0_compare  $11
#define c0_status   $12
#define c0_cause    $13
#define c0_epc      $14
#define c0_ebase    $15, 1
#define c0_errorepc $30
#endif

#define STATUS_IE   0x00000001
#define STATUS_EXL  0x00000002
#define STATUS_ERL  0x00000004
#define STATUS_UM   0x00000010
#define STATUS_IM   0x0000ff00
#define STATUS_BEV  0x00400000
#define STATUS_FR   0x04000000
#define STATUS_CU0  0x10000000
#define STATUS_CU1  0x20000000
#define STATUS_CU2  0x40000000

#define CAUSE_IV    0x00800000
#define CAUSE_DC    0x08000000
#define CAUSE_TI    0x40000000
#define CAUSE_BD    0x80000000

/* Cause.ExcCode */
#define EXC_INT   0
#define EXC_MOD   1
#define EXC_TLBL  2
#define EXC_TLBS  3
#define EXC_ADEL  4
#define EXC_ADES  5
#define EXC_IBE   6
#define EXC_DBE   7
#define EXC_SYS   8
#define EXC_BP    9
#define EXC_RI    10
#define EXC_CPU   11
#define EXC_OV    12
#define EXC_TR    13
#define EXC_FPE   15

#endif
