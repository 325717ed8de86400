/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A small executive with partitions in space and time, after ARINC 653. In time: each partition has its window in a frame,
 * which the timers tell. In space: while a partition runs, the SDRAM controller refuses every store outside its data.
 * What goes wrong goes to the health monitor, which restarts the partition that did it, and no other.
 */
#include "apex.h"

#define MSR_EE 0x8000
#define MSR_PR 0x4000
#define MSR_ME 0x1000
#define HID0_DOZE 0x00800000
#define MOST_RESTARTS 3
/* Windows after which the demonstration ends, of each partition. */
#define ENOUGH 6

struct context {
    u32 gpr[32], lr, ctr, cr, xer, pc, msr;
};

struct partition {
    const char *name;
    void (*main)(void);
    u32 text, data; /* pages */
    const u32 *first_data, *first_data_end; /* what its data begin with */
    u32 begin, end; /* ticks of its window */
    struct context context;
    bool stopped;
    u32 windows, restarts;
};

extern void navigation_main(void), maintenance_main(void), idle(void);
extern u32 navigation_text[], navigation_data[], navigation_first[], navigation_first_end[];
extern u32 maintenance_text[], maintenance_data[], maintenance_first[], maintenance_first_end[];
extern u32 executive_bss[], executive_bss_end[];

static struct partition partitions[2];
static struct context idle_context;
static struct partition *current; /* runs, or will when the executive is left */
static u32 slot;                  /* whose window is next, or is now */
static bool inside;               /* its window */
static u32 sampling_port[8];
static u32 violations;

/* The console. */

static void put(char c)
{
    while (!(UART_LSR & UART_EMPTY))
        ;
    UART_DATA = (u8)c;
}

static void put_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            put('\r');
        put(*text);
    }
}

static void put_hex(u32 value)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
}

static void put_number(u32 value)
{
    if (value >= 10)
        put_number(value / 10);
    put((char)('0' + value % 10));
}

static void put_line(const char *who, const char *text, u32 bytes)
{
    put_text(who);
    put_text(": ");
    while (bytes--)
        put(*text++);
    put_text("\n");
}

/* Partitions. */

/* Pages have their bits from the top: page 0 is bit 31. All of the program is in word 0. */
static u32 page_bit(u32 address)
{
    return 0x80000000u >> address / PAGE;
}

static void start_at(struct context *context, u32 pc, u32 stack, u32 msr)
{
    for (u32 n = 0; n < 32; n++)
        context->gpr[n] = 0;
    context->gpr[1] = stack;
    context->lr = context->ctr = context->cr = context->xer = 0;
    context->pc = pc;
    context->msr = msr;
}

/* As it was loaded: data, stack, registers. */
static void cold_start(struct partition *p)
{
    u32 *data = (u32 *)p->data;
    const u32 *from = p->first_data;
    for (u32 n = 0; n < PAGE / 4; n++)
        data[n] = from < p->first_data_end ? *from++ : 0;
    start_at(&p->context, (u32)p->main, p->data + PAGE - 16, MSR_EE | MSR_PR | MSR_ME);
}

static void run(struct partition *p)
{
    current = p;
    /* Its own data alone can be written. */
    SDRAM_DATA(0) = p ? ~page_bit(p->data) : 0xffffffff;
}

static struct partition *owner(u32 address)
{
    for (u32 n = 0; n < 2; n++)
        if (address - partitions[n].text < PAGE || address - partitions[n].data < PAGE)
            return &partitions[n];
    return 0;
}

/* The health monitor. */

static void restart(struct partition *p)
{
    p->restarts++;
    p->stopped = p->restarts > MOST_RESTARTS;
    put_text(p->stopped ? "; it is stopped\n" : "; it is restarted\n");
    cold_start(p);
    run(p->stopped ? 0 : p);
}

static __attribute__((noreturn)) void fail(u32 vector, u32 pc)
{
    put_text("executive: exception ");
    put_hex(vector);
    put_text(" at ");
    put_hex(pc);
    put_text(", all stops\n");
    TIMER_CTRL = 0;
    for (;;)
        ;
}

static void machine_check(struct context *context)
{
    if (!current || MCP_CURRENT != MCP_VIOLATION)
        fail(0x200, context->pc);
    u32 address = SDRAM_VIOL_ADDR, info = SDRAM_VIOL_INFO;
    struct partition *victim = owner(address);
    SDRAM_STATUS = 3;
    violations++;
    put_text("health monitor: ");
    put_text(current->name);
    put_text(" stored ");
    put_number(info >> 16 & 0xff);
    put_text(" bytes at ");
    put_hex(address);
    put_text(info & VIOL_CODE ? ", code of " : ", data of ");
    put_text(victim ? victim->name : "the executive");
    put_text(", refused by the SDRAM controller");
    restart(current);
}

static void fault(struct context *context, u32 vector)
{
    if (!current)
        fail(vector, context->pc);
    put_text("health monitor: ");
    put_text(current->name);
    put_text(" has exception ");
    put_hex(vector);
    restart(current);
}

/* Windows. */

static void next_window(void)
{
    TIMER_WIN_BEGIN = partitions[slot].begin;
    TIMER_WIN_END = partitions[slot].end;
}

static void end(void)
{
    TIMER_CTRL = 0;
    run(0);
    put_text("executive: violations: ");
    put_number(violations);
    put_text("; restarts: ");
    for (u32 n = 0; n < 2; n++) {
        put_text(partitions[n].name);
        put(' ');
        put_number(partitions[n].restarts);
        put_text(n ? "\nexecutive: the end\n" : ", ");
    }
}

static void window_event(void)
{
    u32 events = TIMER_STATUS & TIMER_EVENTS;
    TIMER_STATUS = events;
    struct partition *p = &partitions[slot];
    if (events & WINDOW_BEGAN && !inside) {
        inside = true;
        /* A host that was busy elsewhere can make this so late that the window is over. */
        if (!p->stopped && !(events & WINDOW_ENDED)) {
            p->windows++;
            run(p);
        }
    }
    if (events & WINDOW_ENDED && inside) {
        inside = false;
        run(0);
        slot ^= 1;
        next_window();
        if (slot == 0 && partitions[0].windows >= ENOUGH && partitions[1].windows >= ENOUGH)
            end();
    }
}

static void interrupt(void)
{
    u32 line;
    while ((line = ITN_CURRENT) != NO_LINE) {
        if (line == ITN_WINDOW)
            window_event();
        else
            ITN_ENABLE &= ~(1u << line); /* nobody's */
    }
}

/* Services. */

static bool reaches(const struct partition *p, u32 address, u32 bytes, bool writes)
{
    u32 in_data = address - p->data, in_text = address - p->text;
    return (in_data < PAGE && bytes <= PAGE - in_data)
        || (!writes && in_text < PAGE && bytes <= PAGE - in_text);
}

static u32 service(struct partition *p, u32 number, u32 where, u32 size)
{
    u32 *words = (u32 *)where;
    switch (number) {
    case PERIODIC_WAIT:
        run(0);
        return DONE;
    case REPORT_MESSAGE:
        if (!reaches(p, where, size, false))
            return INVALID_PARAM;
        put_line(p->name, (const char *)where, size);
        return DONE;
    case WRITE_SAMPLING_MESSAGE:
    case READ_SAMPLING_MESSAGE:
        if (where % 4 || size > 8 || !reaches(p, where, size * 4, number == READ_SAMPLING_MESSAGE))
            return INVALID_PARAM;
        for (u32 n = 0; n < size; n++)
            if (number == READ_SAMPLING_MESSAGE)
                words[n] = sampling_port[n];
            else
                sampling_port[n] = words[n];
        return DONE;
    case GET_START_CONDITION:
        return p->restarts;
    default:
        return INVALID_PARAM;
    }
}

/* Called by every vector with what was interrupted; gives what goes on. */
struct context *executive(struct context *context, u32 vector)
{
    switch (vector) {
    case 0x200:
        machine_check(context);
        break;
    case 0x500:
        interrupt();
        break;
    case 0x900: /* the decrementer runs, and nobody wants it */
        break;
    case 0xc00:
        if (!current)
            fail(vector, context->pc);
        context->gpr[3] = service(current, context->gpr[0], context->gpr[3], context->gpr[4]);
        break;
    default:
        fault(context, vector);
    }
    return current ? &current->context : &idle_context;
}

struct context *executive_start(void)
{
    for (u32 *word = executive_bss; word < executive_bss_end; word++)
        *word = 0;
    UART_LCR = 3;
    put_text("executive: two partitions in windows of a frame of 50 ms\n");

    struct partition *nav = &partitions[0], *maint = &partitions[1];
    nav->name = "NAV";
    nav->main = navigation_main;
    nav->text = (u32)navigation_text;
    nav->data = (u32)navigation_data;
    nav->first_data = navigation_first;
    nav->first_data_end = navigation_first_end;
    nav->begin = 2;
    nav->end = 24;
    maint->name = "MAINT";
    maint->main = maintenance_main;
    maint->text = (u32)maintenance_text;
    maint->data = (u32)maintenance_data;
    maint->first_data = maintenance_first;
    maint->first_data_end = maintenance_first_end;
    maint->begin = 26;
    maint->end = 48;
    start_at(&idle_context, (u32)idle, 0, MSR_EE | MSR_ME);
    asm volatile("sync; mtspr 1008, %0; isync" : : "r"(HID0_DOZE));

    for (u32 n = 0; n < 2; n++) {
        cold_start(&partitions[n]);
        /* Which pages are code: what a violation is told to be. */
        SDRAM_CODE(0) |= page_bit(partitions[n].text);
    }
    SDRAM_CODE(0) |= page_bit(0);
    for (u32 word = 0; word < SDRAM_WORDS; word++)
        SDRAM_DATA(word) = 0xffffffff;

    MCP_LEVEL = MCP_ENABLE = 1 << MCP_VIOLATION;
    ITN_LEVEL = ITN_ENABLE = 1 << ITN_WINDOW;
    TIMER_PRESCALE = 16600;
    TIMER_PERIOD = 1; /* a tick is a millisecond */
    TIMER_FRAME = 50;
    next_window();
    TIMER_STATUS = TIMER_EVENTS;
    TIMER_CTRL = TIMER_RUN | TIMER_WINDOW_IRQ;
    return &idle_context;
}
