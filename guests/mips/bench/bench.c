/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Benchmark loops. The command line names them, each with how often: "alu 100 copy 20"; without a command line each runs
 * once. A pass always does the same from the same state, so its result is known; a wrong one is said.
 *
 * For each it prints one line:
 *   NAME passes N instructions I result XXXXXXXX ok ticks T
 * I: instructions of one pass, T: Count's over all passes.
 */
#include "guest.h"

u32 loop_alu(u32 iterations);
u32 loop_chase(u32 iterations, const void *ring);
u32 loop_copy(u32 iterations, const void *from, void *to);
u32 loop_rmw(u32 iterations, u32 base, u32 mask);
u32 loop_mmio(u32 iterations, u32 reg);
extern const u32 refill[], refill_end[];
volatile u32 refills_made;

/* RAM that no linker gave away: 4 MiB at physical 4 MiB. */
#define ARENA 0x00400000
#define ARENA_WORDS (1u << 20)
static u32 *const arena = (u32 *)KSEG0(ARENA);

static u32 seed;

static u32 random(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed;
}

static u32 run_alu(void)
{
    return loop_alu(100000);
}

/* A ring through 256 KiB in an order that no two neighbours share. */
static void prepare_chase(void)
{
    u32 size = 1 << 16;
    for (u32 i = 0; i < size; i++)
        arena[(i * 40503) % size] = (u32)&arena[((i + 1) * 40503) % size];
}

static u32 run_chase(void)
{
    return loop_chase(100000, arena);
}

static void prepare_copy(void)
{
    seed = 1;
    for (u32 i = 0; i < 1 << 16; i++)
        arena[i] = random();
}

static u32 run_copy(void)
{
    loop_copy(1 << 14, arena, arena + (1 << 18));
    return arena[1 << 18] ^ arena[(1 << 18) + (1 << 16) - 1];
}

/*
 * A pass leaves the same numbers in memory whatever was there, and its result depends on what was there: so one pass here
 * makes all those that are measured equal.
 */
static void clear_and_run(u32 mask)
{
    for (u32 i = 0; i < 1 << 18; i++)
        arena[i] = 0;
    /* kuseg page N is page N of RAM. */
    u32 *vector = (u32 *)KSEG0(0), n = (u32)(refill_end - refill);
    for (u32 i = 0; i < n; i++)
        vector[i] = refill[i];
    sync_code(vector, n * 4);
    write_c0(5, 0, 0);
    write_c0(6, 0, 0);
    write_c0(10, 0, 0);
    loop_rmw(100000, (u32)arena, mask);
}

static void prepare_rmw(void)
{
    clear_and_run(0xffffc);
}

static void prepare_mapped(void)
{
    clear_and_run(0xfffc);
}

static u32 run_rmw(void)
{
    return loop_rmw(100000, (u32)arena, 0xffffc);
}

/* 64 KiB through the TLB: eight entries hold it. */
static u32 run_mapped(void)
{
    return loop_rmw(100000, ARENA, 0xfffc);
}

/* 1 MiB through the TLB: most accesses miss. */
static u32 run_refill(void)
{
    return loop_rmw(100000, ARENA, 0xffffc);
}

static u32 run_mmio(void)
{
    return guest_io != 0 ? loop_mmio(20000, guest_io + COM1 + UART_SCRATCH) : 0;
}

static void quicksort(s32 *low, s32 *high)
{
    while (low < high) {
        s32 pivot = low[(high - low) / 2], *i = low, *j = high;
        while (i <= j) {
            while (*i < pivot)
                i++;
            while (*j > pivot)
                j--;
            if (i <= j) {
                s32 t = *i;
                *i++ = *j;
                *j-- = t;
            }
        }
        if (j - low < high - i) {
            quicksort(low, j);
            low = i;
        } else {
            quicksort(i, high);
            high = j;
        }
    }
}

static u32 run_sort(void)
{
    s32 *numbers = (s32 *)arena;
    u32 n = 1 << 13, sum = 0;
    seed = 42;
    for (u32 i = 0; i < n; i++)
        numbers[i] = (s32)random();
    quicksort(numbers, numbers + n - 1);
    for (u32 i = 1; i < n; i++) {
        if (numbers[i - 1] > numbers[i])
            return 0xffffffff;
        sum = sum * 31 + (u32)numbers[i];
    }
    return sum;
}

static u32 run_matrix(void)
{
    enum { N = 48 };
    u32(*a)[N] = (u32(*)[N])arena, (*b)[N] = a + N, (*c)[N] = b + N;
    u32 sum = 0;
    seed = 7;
    for (u32 i = 0; i < N; i++) {
        for (u32 j = 0; j < N; j++) {
            a[i][j] = random();
            b[i][j] = random();
        }
    }
    for (u32 i = 0; i < N; i++) {
        for (u32 j = 0; j < N; j++) {
            u32 dot = 0;
            for (u32 k = 0; k < N; k++)
                dot += a[i][k] * b[k][j];
            c[i][j] = dot;
            sum = sum * 31 + dot;
        }
    }
    return sum;
}

/* Words are written one after the other, found again, and counted in a hash table. */
static u32 run_string(void)
{
    char *text = (char *)arena;
    u8 *table = (u8 *)arena + (1 << 17);
    u32 used = 0, words = 3000, sum = 0;
    seed = 99;
    memset(table, 0, 1024);
    for (u32 i = 0; i < words; i++) {
        u32 length = 2 + (random() >> 24 & 7);
        for (u32 j = 0; j < length; j++)
            text[used++] = (char)('a' + (random() >> 20) % 26);
        text[used++] = 0;
    }
    for (u32 at = 0; at < used;) {
        u32 hash = 5381, length = strlen(text + at);
        for (u32 j = 0; j < length; j++)
            hash = hash * 33 + (u8)text[at + j];
        table[hash % 1024]++;
        if (strcmp(text + at, "me") < 0)
            sum++;
        memcpy(text + (1 << 16) + at, text + at, length + 1);
        at += length + 1;
    }
    if (memcmp(text, text + (1 << 16), used) != 0)
        return 0xffffffff;
    for (u32 i = 0; i < 1024; i++)
        sum = sum * 31 + table[i];
    return sum;
}

/*
 * Instructions of a pass: those of the loops are iterations times what loops.S says; those of the programs in C were
 * counted with QEMU (guests/README.md says how). Refills come on top, 15 instructions each; how many there are depends on
 * the CPU's choice of random entries.
 */
static const struct {
    const char *name;
    void (*prepare)(void);
    u32 (*run)(void);
    u32 instructions, want;
} benchmarks[] = {
    { "alu", 0, run_alu, 1000000, 0xffbbffed },
    { "chase", prepare_chase, run_chase, 1000000, 0x00018c00 },
    { "copy", prepare_copy, run_copy, 196608, 0x04e1596d },
    { "rmw", prepare_rmw, run_rmw, 1000000, 0xceca1bd0 },
    { "mapped", prepare_mapped, run_mapped, 1000000, 0xceca1bd0 },
    { "refill", prepare_rmw, run_refill, 1000000, 0xceca1bd0 },
    { "mmio", 0, run_mmio, 120000, 0x00189c00 },
    { "sort", 0, run_sort, 1504061, 0x9aef0a63 },
    { "matrix", 0, run_matrix, 979859, 0xf6f4f000 },
    { "string", 0, run_string, 1162477, 0xed472d10 },
};

static bool measure(u32 which, u32 passes)
{
    u32 result = benchmarks[which].want;
    bool right = true;
    if (benchmarks[which].prepare)
        benchmarks[which].prepare();
    refills_made = 0;
    u32 start = read_c0(9, 0);
    for (u32 i = 0; i < passes; i++) {
        result = benchmarks[which].run();
        right &= result == benchmarks[which].want;
    }
    u32 ticks = read_c0(9, 0) - start;
    print("%s passes %u instructions %u result %08x %s ticks %u", benchmarks[which].name, passes,
          benchmarks[which].instructions, result, right ? "ok" : "WRONG", ticks);
    if (refills_made != 0)
        print(" refills %u", refills_made);
    print("\n");
    return right;
}

/* The next word of the command line, up to `size` - 1 characters of it; an empty one at the end. */
static const char *word(const char *line, char *into, u32 size)
{
    u32 n = 0;
    while (*line == ' ')
        line++;
    for (; *line && *line != ' '; line++) {
        if (n + 1 < size)
            into[n++] = *line;
    }
    into[n] = 0;
    return line;
}

int main(void)
{
    enum { COUNT = sizeof benchmarks / sizeof benchmarks[0] };
    const char *line = guest_command_line;
    char name[16], times[12];
    bool right = true;
    line = word(line, name, sizeof name);
    if (!*name) {
        for (u32 i = 0; i < COUNT; i++)
            right &= measure(i, 1);
    }
    for (; *name; line = word(line, name, sizeof name)) {
        u32 which = 0, passes = 0;
        while (which < COUNT && strcmp(benchmarks[which].name, name) != 0)
            which++;
        line = word(line, times, sizeof times);
        for (char *c = times; *c >= '0' && *c <= '9'; c++)
            passes = passes * 10 + (u32)(*c - '0');
        if (which == COUNT || passes == 0) {
            print("'%s %s' is not NAME PASSES; the names are", name, times);
            for (u32 i = 0; i < COUNT; i++)
                print(" %s", benchmarks[i].name);
            print("\n");
            return 2;
        }
        right &= measure(which, passes);
    }
    print("end bench: %s\n", right ? "ok" : "WRONG");
    return !right;
}
