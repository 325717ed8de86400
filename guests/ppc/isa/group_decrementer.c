/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The decrementer and its interrupt. It depends on time, so it is not for stepping side by side. */
#include "isa.h"

const char group_name[] = "decrementer";

/* Lets interrupts in: until one came, if one is to come, however late a busy host lets the machine notice. */
static void allow(bool comes)
{
    u32 before = exception.count, most = comes ? 2000000000 : 1000000;
    mtmsr(MSR_ME | MSR_EE);
    for (u32 i = 0; i < most && exception.count == before; i++)
        ;
    mtmsr(MSR_ME);
}

void group(void)
{
    /* What is left over from before. */
    mtspr(22, 0x7fffffff);
    allow(false);

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
    allow(true);
    CHECK(exception.count, 1);
    CHECK(exception.vector, VECTOR_DECREMENTER);
    CHECK(exception.srr1, MSR_ME | MSR_EE);
    allow(false);
    CHECK(exception.count, 1);

    /* While it is allowed. */
    mtspr(22, 2000);
    mtmsr(MSR_ME | MSR_EE);
    for (u32 i = 0; i < 2000000000 && exception.count == 1; i++)
        ;
    mtmsr(MSR_ME);
    CHECK(exception.count, 2);

    /* Setting the sign bit counts. */
    mtspr(22, 0x7fffffff);
    mtspr(22, 0xffffff00);
    allow(true);
    CHECK(exception.count, 3);
}
