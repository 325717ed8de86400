/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Something to debug: nested calls, variables that change, a structure, and an end. Built without optimisation and with
 * what debuggers want to know. */
#include "guest.h"

struct point {
    int x, y;
};

volatile int total;                         /* goes up in the innermost call */
volatile struct point corner = {3, -4};     /* is read once a round */
volatile unsigned char unaligned[8];        /* is written in pieces */

static void store_unaligned(unsigned value)
{
#ifdef __mips__
    __asm__ volatile("swl %0, 1(%1)\n\tswr %0, 4(%1)" : : "r"(value), "r"(unaligned) : "memory");
#else
    __asm__ volatile("stw %0, 1(%1)" : : "r"(value), "b"(unaligned) : "memory");
#endif
}

#ifdef __powerpc__
/* Where exceptions go; here there are none. */
void guest_vector(void)
{
    guest_done();
}
#endif

static int inner(int depth, int step)
{
    int result = depth * 10 + step;
    total += step;
    return result;
}

static int middle(int depth)
{
    int sum = 0;
    for (int step = 1; step <= 3; step++)
        sum += inner(depth, step);
    return sum + corner.x;
}

int outer(int depth)
{
    int sum = middle(depth);
    sum += middle(depth + 1);
    return sum;
}

int main(void)
{
    int result = outer(2);
    store_unaligned(0x11223344);
    print("total %d, result %d\n", total, result);
    return 0;
}
