/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The decrementer and its interrupt. It depends on time, so it is not for stepping side by side. */
#include "isa.h"

const char group_name[] = "decrementer";

static void allow(void)
{
    mtmsr(MSR_ME | MSR_EE);
    /* Long enough for machines that notice late. */
    u32 before = exception.count;
    for (u32 i = 0; i < 1000000 && exception.count == before; i++)
        ;
    mtmsr(MSR_ME);
}

void group(void)
{
    /* What is left over from before. */
    mtspr(22, 0x7fffffff);
    allow();

    /* It counts down. */
    u32 a = mfspr(22), b;
    do
        b = mfspr(22);
    while (b == a);
    CHECK(b < a, true);

    /* It waits until it is allowed, and comes once. */
    exception.count = 0;
    mtspr(22, 20);
    while ((s32)mfspr(22) >= 0)
        ;
    CHECK(exception.count, 0);
    allow();
    CHECK(exception.count, 1);
    CHECK(exception.vector, VECTOR_DECREMENTER);
    CHECK(exception.srr1, MSR_ME | MSR_EE);
    allow();
    CHECK(exception.count, 1);

    /* While it is allowed. */
    mtspr(22, 2000);
    mtmsr(MSR_ME | MSR_EE);
    for (u32 i = 0; i < 100000000 && exception.count == 1; i++)
        ;
    mtmsr(MSR_ME);
    CHECK(exception.count, 2);

    /* Setting the sign bit counts. */
    mtspr(22, 0x7fffffff);
    mtspr(22, 0xffffff00);
    allow();
    CHECK(exception.count, 3);
}
