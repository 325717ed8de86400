/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every exception of an ISA test: notes what the CPU says about it and goes on as isa.h says. Changes k0 and k1 only. */
#include "regs.h"

        .set    noreorder
        .set    noat
        .section .text.guest_vector, "ax"
        .globl  guest_vector
        .type   guest_vector, @function
guest_vector:
        lui     $k0, %hi(exception)
        addiu   $k0, $k0, %lo(exception)
        sw      $k1, 4($k0)
        lw      $k1, 0($k0)
        addiu   $k1, $k1, 1
        sw      $k1, 0($k0)
        mfc0    $k1, c0_epc
        sw      $k1, 12($k0)
        mfc0    $k1, c0_badvaddr
        sw      $k1, 16($k0)
        mfc0    $k1, c0_status
        sw      $k1, 20($k0)
        mfc0    $k1, c0_entryhi
        sw      $k1, 24($k0)
        mfc0    $k1, c0_context
        sw      $k1, 28($k0)
        mfc0    $k1, c0_errorepc
        sw      $k1, 52($k0)
        mfc0    $k1, c0_cause
        sw      $k1, 8($k0)
        andi    $k1, $k1, 0x7c
        bne     $k1, $zero, 1f
         mfc0   $k1, c0_status
        ins     $k1, $zero, 0, 1        # an interrupt: no second one until the test allows it
        mtc0    $k1, c0_status
        b       3f
         nop
1:      lw      $k1, 36($k0)
        bne     $k1, $zero, 4f
         lw     $k1, 32($k0)
        bne     $k1, $zero, 2f
         nop
        mfc0    $k1, c0_epc
        addiu   $k1, $k1, 4
2:      mtc0    $k1, c0_epc
        mfc0    $k1, c0_status          # a test goes on in kernel mode
        ins     $k1, $zero, 4, 1
        mtc0    $k1, c0_status
3:      ehb
        eret
4:      sw      $zero, 36($k0)
        lw      $k1, 40($k0)
        mtc0    $k1, c0_entrylo0
        lw      $k1, 44($k0)
        mtc0    $k1, c0_entrylo1
        lw      $k1, 48($k0)
        mtc0    $k1, c0_index
        ehb
        tlbwi
        b       3b
         nop
        .size   guest_vector, . - guest_vector
