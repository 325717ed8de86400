/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * From the ELF's entry to main. Needs no firmware: the CPU may come from reset (Status.BEV and ERL set) or from a boot
 * loader. Puts a stub at every exception vector of base 0x80000000; each goes to guest_vector with the vector's
 * offset in k1.
 */
#include "regs.h"

        .set    noreorder
        .section .text.start, "ax"
        .globl  _start
        .type   _start, @function
_start:
        b       1f
         nop
        /* At _start + 8, so that a debugger needs no symbols. */
        .globl  guest_console
guest_console:
        .word   0
        .word   0

1:      move    $s0, $a0                # what QEMU's malta tells: argc, argv, environment, RAM size
        move    $s1, $a1
        move    $s2, $a2
        move    $s3, $a3
        mtc0    $zero, c0_status        # kernel mode, no interrupts, vectors in RAM
        mtc0    $zero, c0_cause
        lui     $t0, 0x8000
        mtc0    $t0, c0_ebase
        ehb

        la      $t0, _bss
        la      $t1, _bss_end
        b       3f
         nop
2:      sw      $zero, 0($t0)
        addiu   $t0, $t0, 4
3:      bne     $t0, $t1, 2b
         nop
        la      $sp, _stack - 16

        la      $s4, vectors
4:      lhu     $s5, 0($s4)
        addiu   $s4, $s4, 2
        lui     $t0, 0x8000
        or      $t0, $t0, $s5
        la      $t1, stub
        lw      $t2, 0($t1)
        sw      $t2, 0($t0)
        lw      $t2, 4($t1)
        sw      $t2, 4($t0)
        lw      $t2, 8($t1)
        sw      $t2, 8($t0)
        lw      $t2, 12($t1)
        or      $t2, $t2, $s5
        sw      $t2, 12($t0)
        synci   0($t0)
        bne     $s5, $zero, 4b          # offset 0 is the last one
         nop
        sync

        move    $a0, $s0
        move    $a1, $s1
        move    $a2, $s2
        jal     guest_init
         move   $a3, $s3
        jal     main
         nop
        la      $t0, guest_status
        sw      $v0, 0($t0)
        jal     guest_halt
         nop

stub:   lui     $k0, %hi(guest_vector)
        addiu   $k0, $k0, %lo(guest_vector)
        jr      $k0
         ori    $k1, $zero, 0           # the offset is filled in

        /* Cache error, general, interrupt, and the vectored interrupts 1 to 7 with IntCtl.VS = 1; TLB refill. */
vectors:
        .half   0x100, 0x180, 0x200, 0x220, 0x240, 0x260, 0x280, 0x2a0, 0x2c0, 0x2e0, 0
        .align  2
        .size   _start, . - _start

        .section .text.guest_done, "ax"
        .globl  guest_done
        .type   guest_done, @function
guest_done:
        b       guest_done
         nop
        .size   guest_done, . - guest_done
