/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The console: the first serial port, polled, and a log in memory for debuggers. */
#include "guest.h"

char guest_log[4096];
volatile u32 guest_log_used;

static void send(char c)
{
    if (guest_io == 0)
        return;
    while (!(port_read(COM1 + UART_LSR) & 0x20))
        ;
    port_write(COM1 + UART_DATA, c);
}

void put_char(char c)
{
    u32 used = guest_log_used;
    if (used < sizeof guest_log) {
        guest_log[used] = c;
        guest_log_used = used + 1;
    }
    if (c == '\n')
        send('\r');
    send(c);
}

void put_text(const char *text)
{
    while (*text)
        put_char(*text++);
}

int get_char(void)
{
    if (guest_io == 0 || !(port_read(COM1 + UART_LSR) & 1))
        return -1;
    return port_read(COM1 + UART_DATA);
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
        format++;
        char fill = *format == '0' ? '0' : ' ';
        u32 width = 0;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + (u32)(*format++ - '0');
        switch (*format) {
        case 's':
            put_text(va_arg(arguments, const char *));
            break;
        case 'c':
            put_char((char)va_arg(arguments, int));
            break;
        case 'd': {
            s32 value = va_arg(arguments, s32);
            if (value < 0)
                put_char('-');
            put_number(value < 0 ? -(u32)value : (u32)value, 10, width, fill);
            break;
        }
        case 'u':
            put_number(va_arg(arguments, u32), 10, width, fill);
            break;
        case 'x':
            put_number(va_arg(arguments, u32), 16, width, fill);
            break;
        case '%':
            put_char('%');
            break;
        default: /* an end in the middle, or a letter that is not known */
            va_end(arguments);
            return;
        }
    }
    va_end(arguments);
}
