/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Loops whose number of instructions is known. Each takes its number of iterations in a0 (at least 1) and gives a value that
 * depends on all that it did. A comment tells the instructions of one iteration.
 */
#include "regs.h"

        .set    noreorder
        .set    noat

        .macro  function name
        .section .text.\name, "ax"
        .globl  \name
        .type   \name, @function
\name:
        .endm

        /* 10: no memory. */
function loop_alu
        li      $t0, 1
        li      $t1, 0x1234
1:      addu    $t0, $t0, $t1
        xor     $t1, $t1, $t0
        sll     $t2, $t0, 5
        srl     $t3, $t1, 3
        addu    $t4, $t2, $t3
        and     $t5, $t4, $t0
        or      $t6, $t5, $t1
        addiu   $a0, $a0, -1
        bne     $a0, $zero, 1b
         subu   $t1, $t6, $t0
        jr      $ra
         xor    $v0, $t0, $t1

        /* 10: eight loads, each address from the one before. a1: the ring. */
function loop_chase
        move    $v0, $a1
1:      lw      $v0, 0($v0)
        lw      $v0, 0($v0)
        lw      $v0, 0($v0)
        lw      $v0, 0($v0)
        lw      $v0, 0($v0)
        lw      $v0, 0($v0)
        lw      $v0, 0($v0)
        addiu   $a0, $a0, -1
        bne     $a0, $zero, 1b
         lw     $v0, 0($v0)
        jr      $ra
         subu   $v0, $v0, $a1

        /* 12: 16 bytes from a1 to a2. */
function loop_copy
        move    $v0, $zero
1:      lw      $t0, 0($a1)
        lw      $t1, 4($a1)
        lw      $t2, 8($a1)
        lw      $t3, 12($a1)
        sw      $t0, 0($a2)
        sw      $t1, 4($a2)
        sw      $t2, 8($a2)
        sw      $t3, 12($a2)
        addiu   $a1, $a1, 16
        addiu   $a0, $a0, -1
        bne     $a0, $zero, 1b
         addiu  $a2, $a2, 16
        jr      $ra
         nop

        /* 10: one word of the memory at a1, chosen by a random number and the mask a2, is read, changed and written. */
function loop_rmw
        li      $t0, 0x3039
        lui     $t1, 0x0019             # 1664525
        ori     $t1, $t1, 0x660d
        move    $v0, $zero
1:      mul     $t0, $t0, $t1
        addiu   $t0, $t0, 0x3c6f
        srl     $t2, $t0, 7
        and     $t2, $t2, $a2
        addu    $t2, $t2, $a1
        lw      $t3, 0($t2)
        addiu   $a0, $a0, -1
        addu    $v0, $v0, $t3
        bne     $a0, $zero, 1b
         sw     $t0, 0($t2)
        jr      $ra
         nop

        /* 6: a store to the device register at a1, and a load from it. */
function loop_mmio
        move    $v0, $zero
1:      sb      $a0, 0($a1)
        lbu     $t0, 0($a1)
        xor     $v0, $v0, $a0
        addiu   $a0, $a0, -1
        bne     $a0, $zero, 1b
         addu   $v0, $v0, $t0
        jr      $ra
         nop

        /* 15 for each miss. kuseg page N is the page N of RAM; refills_made counts. Copied to the refill vector. */
        .section .text.refill, "ax"
        .globl  refill
refill:
        mfc0    $k0, c0_badvaddr
        srl     $k0, $k0, 13
        sll     $k0, $k0, 7             # EntryLo's PFN of the even page
        ori     $k0, $k0, 0x1f          # cached, dirty, valid, global
        mtc0    $k0, c0_entrylo0
        addiu   $k0, $k0, 0x40
        mtc0    $k0, c0_entrylo1
        lui     $k0, %hi(refills_made)
        lw      $k1, %lo(refills_made)($k0)
        ehb
        tlbwr
        addiu   $k1, $k1, 1
        sw      $k1, %lo(refills_made)($k0)
        ehb
        eret
        .globl  refill_end
refill_end:
