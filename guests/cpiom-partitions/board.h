/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The cpiom board as docs/boards/cpiom-registers.md has it. Bit 0 is the least significant. */
#ifndef BOARD_H
#define BOARD_H

#define SDRAM_CTRL 0x2000a000 /* 0 protect, 1 interrupt on violation, 2 on error */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;

#define REG(address) (*(volatile u32 *)(address))
#define REG8(address) (*(volatile u8 *)(address))

#define SDRAM_STATUS REG(0x2000a004)
#define SDRAM_VIOL_ADDR REG(0x2000a008)
#define SDRAM_VIOL_INFO REG(0x2000a00c)
#define SDRAM_CODE(word) REG(0x2000b000 + 4 * (word))
#define SDRAM_DATA(word) REG(0x2000c000 + 4 * (word))
#define SDRAM_WORDS 256
#define VIOL_CODE 2

#define TIMER_CTRL REG(0x20006000)
#define TIMER_PRESCALE REG(0x20006004)
#define TIMER_PERIOD REG(0x20006008)
#define TIMER_STATUS REG(0x20006010)
#define TIMER_WIN_BEGIN REG(0x20006014)
#define TIMER_WIN_END REG(0x20006018)
#define TIMER_FRAME REG(0x2000601c)
#define TIMER_RUN 1
#define TIMER_WINDOW_IRQ 4
#define WINDOW_BEGAN 2
#define WINDOW_ENDED 4
#define TIMER_EVENTS 15

#define MCP_ENABLE REG(0x20007204)
#define MCP_LEVEL REG(0x2000720c)
#define MCP_CURRENT REG(0x20007230)
#define ITN_ENABLE REG(0x20007304)
#define ITN_LEVEL REG(0x2000730c)
#define ITN_CURRENT REG(0x20007330)
#define MCP_VIOLATION 0
#define ITN_WINDOW 1
#define NO_LINE 0x3f

#define UART 0x20008000
#define UART_DATA REG8(UART)
#define UART_LCR REG8(UART + 3)
#define UART_LSR REG8(UART + 5)
#define UART_EMPTY 0x20

/* What the SDRAM controller protects in one piece. */
#define PAGE 0x2000
#endif
#endif
