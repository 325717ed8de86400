/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The demo: says hello, looks at the memory of the board, lets two clocks tick, and then does what one types. */
#include "demo.h"

volatile u32 cpu_ticks, pit_ticks;
static volatile u32 spurious;

/* Ports of the interrupt controllers and of the timer (82C59A and 82C54 data sheets). */
#define PIC_MASTER 0x20
#define PIC_SLAVE 0xa0
#define PIC_EOI 0x20
#define PIC_POLL 0x0c
#define PIT_COUNTER0 0x40
#define PIT_CONTROL 0x43
#define PIT_HZ 1193182
#define IRQ_PIT 0
#define IRQ_CASCADE 2
#define IRQ_COM1 4

#define IP_PIC 0x04
#define IP_CPU_TIMER 0x80
#define TICKS_A_SECOND 100

/* Count's steps from one tick to the next: 10 ms at the board's 100 MHz. */
#define CPU_TICK 1000000

static char input[64];
static volatile u32 input_head, input_tail;

int typed(void)
{
    if (input_tail == input_head)
        return -1;
    char c = input[input_tail % sizeof input];
    input_tail++;
    return (u8)c;
}

static void serial_interrupt(void)
{
    int c;
    while ((c = get_char()) >= 0) {
        if (input_head - input_tail < sizeof input) {
            input[input_head % sizeof input] = (char)c;
            input_head++;
        }
    }
}

/* Asks the controllers by a poll which line it is: the CPU has no cycle for acknowledging. */
static void pic_interrupt(void)
{
    port_write(PIC_MASTER, PIC_POLL);
    u8 answer = port_read(PIC_MASTER);
    if (!(answer & 0x80)) {
        spurious++;
        return;
    }
    u32 irq = answer & 7;
    if (irq == IRQ_CASCADE) {
        port_write(PIC_SLAVE, PIC_POLL);
        port_read(PIC_SLAVE);
        port_write(PIC_SLAVE, PIC_EOI);
    } else if (irq == IRQ_PIT) {
        pit_ticks++;
    } else if (irq == IRQ_COM1) {
        serial_interrupt();
    } else {
        spurious++;
    }
    port_write(PIC_MASTER, PIC_EOI);
}

void guest_interrupt(struct frame *frame, u32 pending)
{
    (void)frame;
    if (pending & IP_CPU_TIMER) {
        cpu_ticks++;
        write_c0(11, 0, read_c0(9, 0) + CPU_TICK); /* takes the interrupt back as well */
    }
    if (pending & IP_PIC)
        pic_interrupt();
}

static void start_controllers(void)
{
    static const u8 words[][2] = { { PIC_MASTER, 0x20 }, { PIC_SLAVE, 0x28 } };
    for (u32 i = 0; i < 2; i++) {
        u32 port = words[i][0];
        port_write(port, 0x11);                            /* ICW1: cascaded, edges, with ICW4 */
        port_write(port + 1, words[i][1]);                 /* ICW2: no one reads it here */
        port_write(port + 1, i == 0 ? 1 << IRQ_CASCADE : IRQ_CASCADE);
        port_write(port + 1, 1);                           /* ICW4 */
    }
    port_write(PIC_MASTER + 1, (u8)~(1 << IRQ_PIT | 1 << IRQ_COM1));
    port_write(PIC_SLAVE + 1, 0xff);
}

static void start_clocks(void)
{
    u32 divisor = PIT_HZ / TICKS_A_SECOND;
    port_write(PIT_CONTROL, 0x34); /* counter 0, both bytes, mode 2 */
    port_write(PIT_COUNTER0, divisor & 0xff);
    port_write(PIT_COUNTER0, divisor >> 8);
    port_write(COM1 + UART_IER, 1); /* an interrupt for each character */
    write_c0(11, 0, read_c0(9, 0) + CPU_TICK);
    write_c0(12, 0, (IP_CPU_TIMER | IP_PIC) << 8 | STATUS_IE);
}

void show_ticks(void)
{
    print("CPU timer (IP7): %u ticks; i8254 (i8259, IP2): %u ticks of 1/%u s; spurious: %u\n", cpu_ticks, pit_ticks,
          TICKS_A_SECOND, spurious);
}

/* Waits until both have ticked some times; says which one does not. Bounded by Count, which needs no interrupt. */
static void watch_clocks(void)
{
    u32 start = read_c0(9, 0), shown = 0;
    print("Ticks:");
    while ((shown < 5 || pit_ticks < 5) && read_c0(9, 0) - start < 100 * CPU_TICK) {
        if (cpu_ticks > shown && shown < 5) {
            shown++;
            print(" %u", shown);
        }
    }
    print("\n");
    show_ticks();
    if (cpu_ticks < 5)
        print("The CPU timer does not tick.\n");
    if (pit_ticks < 5)
        print("The i8254 does not tick, or its interrupt does not come through.\n");
}

int main(void)
{
    print("\nFlatview demo: a MIPS program without an operating system, %s-endian, on %s\n",
#ifdef __MIPSEB__
          "big",
#else
          "little",
#endif
          guest_board == BOARD_MIPS ? "the mips board" : guest_board == BOARD_MALTA ? "malta" : "nothing that it knows");
    print("Processor %08x, Config %08x, entered at 80100000\n", read_c0(15, 0), read_c0(16, 0));
    if (*guest_command_line)
        print("It was told: %s\n", guest_command_line);
    print("\n");
    tour();
    print("\n");
    start_controllers();
    start_clocks();
    watch_clocks();
    print("\nType help.\n");
    prompt();
}
