/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a partition can ask of the executive, after ARINC 653's APEX: a system call each, its number in r0. A partition is
 * user code; it has its own pages and nothing else. All of this is inlined, so that partitions share no code.
 */
#ifndef APEX_H
#define APEX_H

#include "board.h"

enum service {
    PERIODIC_WAIT,          /* the rest of this window is given up; returns in the next one */
    REPORT_MESSAGE,         /* text, bytes: a line on the console, with the partition's name before it */
    WRITE_SAMPLING_MESSAGE, /* words, how many: what the port holds from now on */
    READ_SAMPLING_MESSAGE,  /* words, how many: what it holds */
    GET_START_CONDITION,    /* how many times the health monitor has restarted the partition */
    SERVICES
};

#define DONE 0
#define INVALID_PARAM 1

static inline __attribute__((always_inline)) u32 call(enum service service, const void *where, u32 size)
{
    register u32 r0 asm("r0") = service;
    register u32 r3 asm("r3") = (u32)where;
    register u32 r4 asm("r4") = size;
    asm volatile("sc" : "+r"(r3), "+r"(r0), "+r"(r4) : : "memory", "cr0", "ctr", "lr");
    return r3;
}

/* A line that is put together before it is reported. */
struct line {
    char text[80];
    u32 used;
};

static inline __attribute__((always_inline)) void add(struct line *line, const char *text)
{
    while (*text && line->used < sizeof line->text)
        line->text[line->used++] = *text++;
}

static inline __attribute__((always_inline)) void add_hex(struct line *line, u32 value)
{
    for (int shift = 28; shift >= 0 && line->used < sizeof line->text; shift -= 4)
        line->text[line->used++] = "0123456789abcdef"[value >> shift & 15];
}

static inline __attribute__((always_inline)) void add_number(struct line *line, u32 value)
{
    char digits[10];
    u32 n = 0;
    do
        digits[n++] = '0' + value % 10;
    while (value /= 10);
    while (n && line->used < sizeof line->text)
        line->text[line->used++] = digits[--n];
}

static inline __attribute__((always_inline)) void report(const struct line *line)
{
    call(REPORT_MESSAGE, line->text, line->used);
}
#endif
