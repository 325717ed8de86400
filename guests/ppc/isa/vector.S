/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every exception of an ISA test: notes what the CPU says about it and goes on as isa.h says. Changes SPRG1 to SPRG3 only. */
        .section .text.guest_vector, "ax"
        .globl  guest_vector
        .type   guest_vector, @function
guest_vector:
        mfcr    12
        mtsprg  3, 12
        lis     12, exception@ha
        addi    12, 12, exception@l
        stw     11, 4(12)
        mfsrr0  11
        stw     11, 8(12)
        mfsrr1  11
        stw     11, 12(12)
        mfdar   11
        stw     11, 16(12)
        mfdsisr 11
        stw     11, 20(12)
        lwz     11, 0(12)
        addi    11, 11, 1
        stw     11, 0(12)
        lwz     11, 28(12)
        cmpwi   11, 0
        beq     1f
        mtsrr1  11
1:      lwz     11, 24(12)
        cmpwi   11, 0
        bne     2f
        lwz     11, 4(12)
        cmpwi   11, 0x500
        beq     3f
        cmpwi   11, 0x900
        beq     3f
        cmpwi   11, 0xc00
        beq     3f
        cmpwi   11, 0xd00
        beq     3f
        mfsrr0  11
        addi    11, 11, 4
2:      mtsrr0  11
3:      mfsprg  11, 3
        mtcr    11
        mfsprg  12, 2
        mfsprg  11, 1
        rfi
        .size   guest_vector, . - guest_vector
