/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exception vectors and the change between partitions and the executive. All of the RAM but a partition's own pages is
 * protected while it runs, the executive's pages too: the first thing a vector does is to lift the protection, with
 * registers alone. SPRG2 holds the context that runs.
 */
#include "board.h"

#define MSR_EE 0x8000
#define MSR_ME 0x1000
#define SAVED_LR 128
#define SAVED_CTR 132
#define SAVED_CR 136
#define SAVED_XER 140
#define SAVED_SRR0 144
#define SAVED_SRR1 148

        .section .vectors, "ax"
        .macro vector offset
        .org    \offset
        mtsprg  0, %r3
        mtsprg  1, %r4
        li      %r4, \offset
        b       enter
        .endm

        vector  0x100
        vector  0x200
        vector  0x300
        vector  0x400
        vector  0x500
        vector  0x600
        vector  0x700
        vector  0x800
        vector  0x900
        vector  0xc00
        vector  0xd00
        vector  0x1300
        vector  0x1400

        .text
enter:
        mtsprg  3, %r5
        lis     %r3, SDRAM_CTRL@h
        ori     %r3, %r3, SDRAM_CTRL@l
        li      %r5, 6                  /* both interrupts, no protection */
        stw     %r5, 0(%r3)
        eieio
        mfsprg  %r3, 2
        stw     %r0, 0(%r3)
        stw     %r1, 4(%r3)
        stw     %r2, 8(%r3)
        mfsprg  %r0, 0
        stw     %r0, 12(%r3)
        mfsprg  %r0, 1
        stw     %r0, 16(%r3)
        mfsprg  %r0, 3
        stw     %r0, 20(%r3)
        stmw    %r6, 24(%r3)
        mflr    %r0
        stw     %r0, SAVED_LR(%r3)
        mfctr   %r0
        stw     %r0, SAVED_CTR(%r3)
        mfcr    %r0
        stw     %r0, SAVED_CR(%r3)
        mfxer   %r0
        stw     %r0, SAVED_XER(%r3)
        mfsrr0  %r0
        stw     %r0, SAVED_SRR0(%r3)
        mfsrr1  %r0
        stw     %r0, SAVED_SRR1(%r3)
        lis     %r1, executive_stack@ha
        addi    %r1, %r1, executive_stack@l - 16
        bl      executive
/* r3: the context to go on with */
resume:
        mtsprg  2, %r3
        lwz     %r0, SAVED_LR(%r3)
        mtlr    %r0
        lwz     %r0, SAVED_CTR(%r3)
        mtctr   %r0
        lwz     %r0, SAVED_CR(%r3)
        mtcr    %r0
        lwz     %r0, SAVED_XER(%r3)
        mtxer   %r0
        lwz     %r0, SAVED_SRR0(%r3)
        mtsrr0  %r0
        lwz     %r0, SAVED_SRR1(%r3)
        mtsrr1  %r0
        lis     %r4, SDRAM_CTRL@h
        ori     %r4, %r4, SDRAM_CTRL@l
        li      %r5, 7                  /* from here on no store but to the partition's pages */
        stw     %r5, 0(%r4)
        eieio
        lmw     %r6, 24(%r3)
        lwz     %r0, 0(%r3)
        lwz     %r1, 4(%r3)
        lwz     %r2, 8(%r3)
        lwz     %r4, 16(%r3)
        lwz     %r5, 20(%r3)
        lwz     %r3, 12(%r3)
        rfi

/*
 * From the reset, or from a loader. HID0 is 0: no caches, and EMCP is clear, so that the machine check pin is not looked
 * at. A store that the SDRAM controller refuses is a machine check already, by the bus; the pin would be a second one
 * while MSR[ME] is 0, which stops the CPU for good.
 */
        .global _start
_start:
        li      %r0, 0
        mtspr   1008, %r0
        isync
        li      %r3, MSR_ME             /* MSR[IP] = 0: the vectors are in RAM */
        mtmsr   %r3
        isync
        lis     %r1, executive_stack@ha
        addi    %r1, %r1, executive_stack@l - 16
        bl      executive_start
        b       resume

/* Runs while no partition does: the CPU dozes until the next interrupt. */
        .global idle
idle:
        mfmsr   %r3
        oris    %r3, %r3, 4             /* MSR[POW] */
        sync
        mtmsr   %r3
        isync
        b       idle
