/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The log in memory. */
#include "guest.h"

char guest_log[4096];
volatile u32 guest_log_used;

void put_char(char c)
{
    u32 used = guest_log_used;
    if (used < sizeof guest_log) {
        guest_log[used] = c;
        guest_log_used = used + 1;
    }
}

static void put_number(u32 value, u32 base, u32 width, char fill)
{
    char digits[10];
    u32 n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    for (; width > n; width--)
        put_char(fill);
    while (n > 0)
        put_char(digits[--n]);
}

void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put_char(*format);
            continue;
        }
        char fill = *++format == '0' ? '0' : ' ';
        u32 width = 0;
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (u32)(*format - '0');
        if (*format == 's') {
            for (const char *text = va_arg(arguments, const char *); *text; text++)
                put_char(*text);
        } else {
            put_number(va_arg(arguments, u32), *format == 'x' ? 16 : 10, width, fill);
        }
    }
    va_end(arguments);
}
