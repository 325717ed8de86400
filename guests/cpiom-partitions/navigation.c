/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The partition NAV: it moves a position along and sends it to MAINT. What it has to lose is `state`; it looks in every
 * window whether that is still what it left there, and whether it was ever started again.
 */
#include "apex.h"

#define CELLS 64

static struct {
    u32 step, position, sum, cells[CELLS];
} state = {.position = 0x00480000};

static u32 sum(void)
{
    u32 all = state.step ^ state.position;
    for (u32 n = 0; n < CELLS; n++)
        all = (all << 5 | all >> 27) ^ state.cells[n];
    return all;
}

__attribute__((section(".text.start"), noreturn)) void navigation_main(void)
{
    state.sum = sum();
    for (;;) {
        bool intact = state.sum == sum() && call(GET_START_CONDITION, 0, 0) == 0;
        state.step++;
        state.position += 0x1234;
        state.cells[state.step % CELLS] = state.position;
        state.sum = sum();
        call(WRITE_SAMPLING_MESSAGE, &state.position, 1);

        struct line line;
        line.used = 0;
        add(&line, "step ");
        add_number(&line, state.step);
        add(&line, ", position ");
        add_hex(&line, state.position);
        add(&line, intact ? ", memory intact" : ", MEMORY WAS CHANGED");
        report(&line);
        call(PERIODIC_WAIT, 0, 0);
    }
}
