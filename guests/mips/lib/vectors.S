/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Saves the registers as `struct frame` on the stack, calls guest_exception, goes back to where the frame says. */
#include "regs.h"

#define FRAME (16 + 40 * 4)             /* the arguments' place, then 39 words */
#define AT(word) (16 + 4 * (word))($sp)

        .set    noreorder
        .set    noat
        .section .text.guest_vector, "ax"
        .globl  guest_vector
        .type   guest_vector, @function
guest_vector:
        move    $k0, $sp
        addiu   $sp, $sp, -FRAME
        sw      $k0, AT(29)
        sw      $k1, AT(38)
        sw      $zero, AT(0)
        sw      $1, AT(1)
        .irp    n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 30, 31
        sw      $\n, AT(\n)
        .endr
        sw      $zero, AT(26)
        sw      $zero, AT(27)
        mfhi    $t0
        mflo    $t1
        mfc0    $t2, c0_status
        mfc0    $t3, c0_cause
        mfc0    $t4, c0_epc
        mfc0    $t5, c0_badvaddr
        sw      $t0, AT(32)
        sw      $t1, AT(33)
        sw      $t2, AT(34)
        sw      $t3, AT(35)
        sw      $t4, AT(36)
        sw      $t5, AT(37)
        jal     guest_exception
         addiu  $a0, $sp, 16
        lw      $t0, AT(32)
        lw      $t1, AT(33)
        lw      $t2, AT(34)
        lw      $t4, AT(36)
        mthi    $t0
        mtlo    $t1
        mtc0    $t2, c0_status          # EXL is still set in it
        mtc0    $t4, c0_epc
        ehb
        lw      $1, AT(1)
        .irp    n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 30, 31
        lw      $\n, AT(\n)
        .endr
        lw      $sp, AT(29)
        eret
        .size   guest_vector, . - guest_vector
