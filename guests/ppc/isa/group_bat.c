/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Block address translation: sizes, modes, protection, instructions and data. */
#include "isa.h"
#include "mmu.h"

const char group_name[] = "bat";

#define ON (MSR_ME | MSR_DR)
#define USER (ON | MSR_PR)

static u32 load(u32 msr, u32 address)
{
    REG32(0x00400000) = 0xdead;
    RAISE(msr, "lwz 0, 0(%1)\n\tlis 11, 0x40\n\tstw 0, 0(11)", address, 0);
    return exception.vector == 0xc00 ? REG32(0x00400000) : exception.vector;
}

void group(void)
{
    identity_bats();
    clear_table();
    for (u32 n = 0; n < 16; n++)
        set_segment(n, 0x1000 + n);
    for (u32 at = 0x00800000; at < 0x00c00000; at += 0x20000) {
        REG32(at) = at;
        REG32(at + 0x1fffc) = at + 0x1fffc;
    }

    /* 128 KiB, 256 KiB, 1 MiB and 4 MiB at 0x90000000. */
    static const u32 sizes[] = { 0x20000, 0x40000, 0x100000, 0x400000 };
    for (u32 i = 0; i < 4; i++) {
        u32 size = sizes[i], length = (size >> 17) - 1;
        mtspr(538, 0);
        mtspr(539, 0x00800002);
        mtspr(538, 0x90000000 | length << 2 | 3);
        CHECK(load(ON, 0x90000000), 0x00800000);
        CHECK(load(ON, 0x90000000 + size - 4), 0x00800000 + size - 4);
        CHECK(load(ON, 0x90000000 + size), VECTOR_DSI);
        CHECK_DATA(0x90000000 + size, 0x40000000);
        CHECK(load(ON, 0x90000000 - 4), VECTOR_DSI);
    }

    /* Supervisor's and users' valid bits. */
    mtspr(538, 0x90000000 | 2);
    CHECK(load(ON, 0x90000000), 0x00800000);
    CHECK(load(USER, 0x90000000), VECTOR_DSI);
    mtspr(538, 0x90000000 | 1);
    CHECK(load(ON, 0x90000000), VECTOR_DSI);
    CHECK(load(USER, 0x90000000), 0x00800000);

    /* Protection. */
    for (u32 pp = 0; pp < 4; pp++) {
        mtspr(538, 0);
        mtspr(539, 0x00820000 | pp);
        mtspr(538, 0x90000000 | 3);
        CHECK(load(ON, 0x90000000), pp ? 0x00820000 : VECTOR_DSI);
        if (!pp)
            CHECK_DATA(0x90000000, 0x08000000);
        RAISE(USER, "stw 0, 16(%1)", 0x90000000, 0);
        CHECK(exception.vector, pp == 2 ? 0xc00 : VECTOR_DSI);
        if (pp != 2)
            CHECK_DATA(0x90000010, 0x0a000000);
    }

    /* A BAT comes before a page. */
    map_page(0x1009, 0x90000000, 0x00840000, 2, false);
    mtspr(538, 0);
    mtspr(539, 0x00820002);
    mtspr(538, 0x90000000 | 3);
    CHECK(load(ON, 0x90000000), 0x00820000);
    mtspr(538, 0);
    CHECK(load(ON, 0x90000000), 0x00840000);

    /* The last of four. Instructions have their own. */
    mtspr(543, 0x00860002);
    mtspr(542, 0xfffe0000 | 3);
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", 0xfffe0010, 0);
    CHECK(exception.vector, VECTOR_ISI);
    CHECK(exception.srr1, MSR_ME | MSR_IR | 0x40000000);
    CHECK(load(ON, 0xfffe0000), 0x00860000);
    REG32(0x00880010) = 0x44000002;
    asm volatile("dcbst 0, %0\n\tsync\n\ticbi 0, %0\n\tisync" : : "r"(0x00880010) : "memory");
    mtspr(535, 0x00880002);
    mtspr(534, 0xfffe0000 | 3);
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", 0xfffe0010, 0);
    CHECK(exception.vector, 0xc00);
    CHECK(exception.srr0, 0xfffe0014);
    mtspr(534, 0);
    mtspr(535, 0x00880000);
    mtspr(534, 0xfffe0000 | 3);
    RAISE(MSR_ME | MSR_IR, "mtctr %1\n\tbctr", 0xfffe0010, 0);
    CHECK(exception.vector, VECTOR_ISI);
    CHECK(exception.srr1, MSR_ME | MSR_IR | 0x08000000);
}
