/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The partition MAINT: it shows what NAV sends. In its third window it follows a pointer that is wrong and stores into NAV's
 * data. Started again after that, it does without the faulty part.
 */
#include "apex.h"

/* The place of NAV's data, known from the linker script: what a wild pointer may hit. */
extern u32 navigation_data[];

static u32 window;

__attribute__((section(".text.start"), noreturn)) void maintenance_main(void)
{
    u32 restarts = call(GET_START_CONDITION, 0, 0);
    struct line hello;
    hello.used = 0;
    if (restarts) {
        add(&hello, "started again by the health monitor, degraded");
        report(&hello);
    }
    for (;;) {
        u32 position = 0;
        call(READ_SAMPLING_MESSAGE, &position, 1);
        window++;

        struct line line;
        line.used = 0;
        add(&line, "window ");
        add_number(&line, window);
        add(&line, ", NAV is at ");
        add_hex(&line, position);
        report(&line);

        if (window == 3 && restarts == 0) {
            struct line wild;
            wild.used = 0;
            *(volatile u32 *)(navigation_data + 1) = 0xdeadbeef;
            add(&wild, "THE STORE WENT THROUGH");
            report(&wild);
        }
        call(PERIODIC_WAIT, 0, 0);
    }
}
