/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a program without an operating system needs on a PowerPC: a log in memory, the end. It touches no device. */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;

#define STRING_(x) #x
#define STRING(x) STRING_(x)

#define mfspr(number) ({ u32 value_; asm volatile("mfspr %0, " STRING(number) : "=r"(value_)); value_; })
#define mtspr(number, value) asm volatile("mtspr " STRING(number) ", %0\n\tisync" : : "r"(value) : "memory")
#define mfmsr() ({ u32 value_; asm volatile("mfmsr %0" : "=r"(value_)); value_; })
#define mtmsr(value) asm volatile("mtmsr %0\n\tisync" : : "r"(value) : "memory")

#define REG8(address) (*(volatile u8 *)(uintptr_t)(address))
#define REG16(address) (*(volatile u16 *)(uintptr_t)(address))
#define REG32(address) (*(volatile u32 *)(uintptr_t)(address))

/* Everything printed, for a debugger; guest_log_used bytes of it. What does not fit is not logged. */
extern char guest_log[4096];
extern volatile u32 guest_log_used;
void put_char(char c);
/* %s %u %x, a width with or without a leading 0 */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
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
