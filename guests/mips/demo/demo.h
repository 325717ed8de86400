/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the demo's two halves know of each other: interrupts and clocks in demo.c, what one types in commands.c. */
#ifndef DEMO_H
#define DEMO_H

#include "guest.h"

/* Counted by the interrupts: Count/Compare's (IP7), and the i8254's that comes through the i8259 (IP2). */
extern volatile u32 cpu_ticks, pit_ticks;

/* A character that the serial port's interrupt has put by, or -1. */
int typed(void);

void tour(void);
void show_ticks(void);
void prompt(void) __attribute__((noreturn));

#endif
