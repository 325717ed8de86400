/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What happens at an exception in a program that has no handler of its own, and accesses that may end in one. */
#include "guest.h"

static volatile bool probing;
static volatile u32 probe_result;

static const char *const names[32] = {
    "interrupt", "TLB modified", "TLB load or fetch", "TLB store", "address error, load or fetch",
    "address error, store", "bus error, fetch", "bus error, data", "syscall", "breakpoint",
    "reserved instruction", "coprocessor unusable", "overflow", "trap", "exception 14", "floating point",
};

/* A stack that the broken program cannot have broken is not promised: this tells what it can. */
__attribute__((weak)) void guest_interrupt(struct frame *frame, u32 pending)
{
    print("\nunexpected interrupt, pending %02x, at %08x\n", pending, frame->epc);
    guest_status = 1;
    guest_halt();
}

__attribute__((weak)) void guest_exception(struct frame *frame)
{
    u32 code = frame->cause >> 2 & 31;
    if (code == EXC_INT) {
        guest_interrupt(frame, (frame->cause & frame->status) >> 8 & 0xff);
        return;
    }
    if (probing) {
        probe_result = code + 1;
        frame->epc += 4; /* never a delay slot, see below */
        return;
    }
    const char *name = names[code] ? names[code] : "exception";
    print("\n%s (code %u) at %08x, address %08x, status %08x, cause %08x, vector %03x\n", name, code, frame->epc,
          frame->badvaddr, frame->status, frame->cause, frame->vector);
    for (u32 i = 0; i < 32; i++)
        print("%s$%02u %08x", i % 4 ? "  " : "\n", i, frame->reg[i]);
    print("\n");
    guest_status = 1;
    guest_halt();
}

/* The access is one instruction outside any delay slot; the register keeps its value if it does not happen. */
#define ACCESS(instruction) \
    asm volatile(".set push\n\t.set noreorder\n\tnop\n\t" instruction " %0, 0(%1)\n\tnop\n\t.set pop" \
                 : "+r"(word) : "r"(address) : "memory")

u32 probe_read(u32 address, u32 size, u32 *value)
{
    u32 word = 0;
    probe_result = 0;
    probing = true;
    if (size == 1)
        ACCESS("lbu");
    else if (size == 2)
        ACCESS("lhu");
    else
        ACCESS("lw");
    probing = false;
    *value = word;
    return probe_result;
}

u32 probe_write(u32 address, u32 size, u32 word)
{
    probe_result = 0;
    probing = true;
    if (size == 1)
        ACCESS("sb");
    else if (size == 2)
        ACCESS("sh");
    else
        ACCESS("sw");
    probing = false;
    return probe_result;
}

void sync_code(const void *start, u32 size)
{
    u32 at = (u32)start & ~15u, end = (u32)start + size;
    for (; at < end; at += 16)
        asm volatile("synci 0(%0)" : : "r"(at) : "memory");
    asm volatile("sync" : : : "memory");
}
