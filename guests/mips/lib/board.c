/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Which board this is, what it tells a program, and how a program ends on it. */
#include "guest.h"

/* `mips`: the parameter block, and the register that resets (+0) or ends (+4) the machine when 42 is stored to it. */
#define PARAMETERS KSEG1(0x00fffef8)
#define PARAMETER_MAGIC 0x12345678
#define MIPS_IO KSEG1(0x14000000)
#define MIPS_CONTROL KSEG1(0x1fbf0000)

/* `malta`: its soft reset register (MD00048, "SOFTRES"), and the GT-64120 that PCI is behind. */
#define MALTA_SOFTRES KSEG1(0x1f000500)
#define MALTA_GORESET 0x42
#define MALTA_IO KSEG1(0x18000000)
#define GT_AT_RESET KSEG1(0x14000000)
#define GT_MOVED KSEG1(0x1be00000)
#define GT_PCI0_IO_LOW 0x48
#define GT_PCI0_IO_HIGH 0x50

enum board guest_board;
u32 guest_ram_size;
u32 guest_io;
const char *guest_command_line = "";
volatile u32 guest_status;

/* The GT-64120's registers are little-endian. */
static u32 gt_order(u32 value)
{
#ifdef __MIPSEB__
    return __builtin_bswap32(value);
#else
    return value;
#endif
}

/* Moves the window of PCI I/O to 0x18000000, where MIPS's own boot monitor has it (GT-64120 data sheet, "CPU address decode"). */
static void malta_init(void)
{
    u32 gt = REG32(GT_MOVED + GT_PCI0_IO_LOW) != 0 ? GT_MOVED : GT_AT_RESET;
    REG32(gt + GT_PCI0_IO_LOW) = gt_order(0x18000000 >> 21);
    REG32(gt + GT_PCI0_IO_HIGH) = gt_order(0x40);
    guest_io = MALTA_IO;
}

void guest_init(u32 argc, const char *const *argv, u32 environment, u32 ram_size)
{
    (void)environment;
    if (guest_console == CONSOLE_NONE)
        return;
    if (REG32(PARAMETERS + 4) == PARAMETER_MAGIC) {
        guest_board = BOARD_MIPS;
        guest_io = MIPS_IO;
        guest_ram_size = REG32(PARAMETERS);
        guest_command_line = (const char *)(PARAMETERS + 8);
    } else {
        guest_board = BOARD_MALTA;
        guest_ram_size = ram_size;
        if (argc > 1)
            guest_command_line = argv[1];
        malta_init();
    }
    port_write(COM1 + UART_IER, 0);
    port_write(COM1 + UART_LCR, 0x80); /* the divisor: 115200 baud */
    port_write(COM1 + 0, 1);
    port_write(COM1 + 1, 0);
    port_write(COM1 + UART_LCR, 3); /* 8 bits, no parity */
    port_write(COM1 + UART_FCR, 7); /* FIFOs on and empty */
    port_write(COM1 + UART_MCR, 0xb); /* DTR, RTS, and OUT2, which lets the interrupt out */
}

u8 port_read(u32 port)
{
    return REG8(guest_io + port);
}

void port_write(u32 port, u8 value)
{
    REG8(guest_io + port) = value;
}

/* All that was printed must have left before the machine stops. */
static void drain(void)
{
    if (guest_io != 0) {
        while (!(port_read(COM1 + UART_LSR) & 0x40))
            ;
    }
}

void guest_reset(void)
{
    drain();
    if (guest_board == BOARD_MIPS)
        REG32(MIPS_CONTROL) = 42;
    else if (guest_board == BOARD_MALTA)
        REG32(MALTA_SOFTRES) = MALTA_GORESET;
    guest_done();
}

void guest_halt(void)
{
    drain();
    if (guest_board == BOARD_MIPS)
        REG32(MIPS_CONTROL + 4) = 42;
    else if (guest_board == BOARD_MALTA)
        REG32(MALTA_SOFTRES) = MALTA_GORESET; /* ends QEMU with -no-reboot */
    guest_done();
}
