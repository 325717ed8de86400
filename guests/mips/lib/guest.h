/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a program without an operating system needs on Flatview's `mips` board: a console, the ISA ports, the command
 * line, memory that may not answer, interrupts, the end. It also runs on QEMU's `malta`, which has the same chips
 * elsewhere; guest_init (called before main) finds out which of the two this is.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "regs.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;

#define STRING_(x) #x
#define STRING(x) STRING_(x)

#define read_c0(number, select) ({ \
    u32 value_; \
    asm volatile("mfc0 %0, $" STRING(number) ", " STRING(select) : "=r"(value_)); \
    value_; })
#define write_c0(number, select, value) \
    asm volatile("mtc0 %z0, $" STRING(number) ", " STRING(select) "\n\tehb" : : "Jr"(value) : "memory")

/* A physical address below 512 MiB as the uncached and as the cached window show it. */
#define KSEG1(physical) ((physical) | 0xa0000000u)
#define KSEG0(physical) ((physical) | 0x80000000u)

#define REG8(address) (*(volatile u8 *)(uintptr_t)(address))
#define REG32(address) (*(volatile u32 *)(uintptr_t)(address))

/* The board that this is. */
enum board { BOARD_NONE, BOARD_MIPS, BOARD_MALTA };
extern enum board guest_board;
extern u32 guest_ram_size; /* bytes */
extern const char *guest_command_line;

/* Written by a debugger before the first instruction; crt0.S says where. */
extern volatile u32 guest_console;
#define CONSOLE_FIND 0 /* the serial port of the board */
#define CONSOLE_NONE 1 /* touch no device: only guest_log, and an endless loop at the end */

/* Everything printed, for a debugger; guest_log_used bytes of it. What does not fit is not logged. */
extern char guest_log[4096];
extern volatile u32 guest_log_used;

/* ISA ports. */
extern u32 guest_io; /* where port 0 is, as a kseg1 address; 0 if there are none */
u8 port_read(u32 port);
void port_write(u32 port, u8 value);

#define COM1 0x3f8
#define UART_DATA 0
#define UART_IER 1
#define UART_FCR 2
#define UART_LCR 3
#define UART_MCR 4
#define UART_LSR 5
#define UART_SCRATCH 7

/* The console. */
void put_char(char c);
void put_text(const char *text);
int get_char(void); /* -1: nothing was typed */
/* %s %c %d %u %x, a width with or without a leading 0, %% */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The registers at an exception, in the order in which vectors.S saves them. */
struct frame {
    u32 reg[32]; /* reg[0] is zero; reg[26] and reg[27] are lost */
    u32 hi, lo, status, cause, epc, badvaddr, vector;
};
/* Called for every exception but the expected ones. A program may have its own; this one prints and ends. */
void guest_exception(struct frame *frame);
/* Called for an interrupt with those of Cause.IP that Status.IM lets through (bit 0 is IP0). */
void guest_interrupt(struct frame *frame, u32 pending);

/* Reads or writes 1, 2 or 4 bytes. Gives 0, or else the exception's code plus 1. */
u32 probe_read(u32 address, u32 size, u32 *value);
u32 probe_write(u32 address, u32 size, u32 value);

/* Makes stores into code visible to fetches. */
void sync_code(const void *start, u32 size);

extern volatile u32 guest_status;
void guest_reset(void) __attribute__((noreturn));
void guest_halt(void) __attribute__((noreturn));
void guest_done(void) __attribute__((noreturn)); /* an endless loop, where a debugger waits */

/* C's, which the compiler calls too. */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);

#endif
