/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * From the ELF's entry to main, without firmware and with addresses as they are. Puts a stub at every exception vector from 0x100 on;
 * each goes to guest_vector with the vector's offset in r11, and what was in r11 and r12 in SPRG1 and SPRG2.
 */
        .section .text.start, "ax"
        .globl  _start
        .type   _start, @function
_start:
        lis     1, 1f@ha
        addi    1, 1, 1f@l
        mtsrr0  1
        li      0, 0x1000               /* machine checks are exceptions; all else is off */
        mtsrr1  0
        rfi
1:
        lis     1, _bss@ha
        addi    1, 1, _bss@l
        lis     2, _bss_end@ha
        addi    2, 2, _bss_end@l
        li      0, 0
1:      cmplw   1, 2
        bge     2f
        stw     0, 0(1)
        addi    1, 1, 4
        b       1b

2:      li      3, 0x100
        lis     4, guest_vector@ha
        addi    4, 4, guest_vector@l
        oris    4, 4, 0x4800            /* ba guest_vector */
        ori     4, 4, 2
        lis     5, stub@ha
        addi    5, 5, stub@l
3:      lwz     6, 0(5)
        stw     6, 0(3)
        lwz     6, 4(5)
        stw     6, 4(3)
        lwz     6, 8(5)
        or      6, 6, 3                 /* the offset is filled in */
        stw     6, 8(3)
        stw     4, 12(3)
        dcbst   0, 3
        sync
        icbi    0, 3
        addi    3, 3, 0x100
        cmpwi   3, 0x3000
        blt     3b
        isync

        lis     1, (_stack - 32)@ha
        addi    1, 1, (_stack - 32)@l
        stw     0, 0(1)
        bl      main
        b       guest_done

stub:   mtsprg  1, 11
        mtsprg  2, 12
        li      11, 0
        .size   _start, . - _start

        .section .text.guest_done, "ax"
        .globl  guest_done
        .type   guest_done, @function
guest_done:
        b       guest_done
        .size   guest_done, . - guest_done
