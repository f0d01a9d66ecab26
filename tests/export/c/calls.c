/* Calls of a network of sequences in other orders than the example's: reads two recordings of RANDHET_STEPS frames, prints
 * a line of class and sums for each call. */
#include <stdio.h>

#include "randhet.h"

#define COUNT (RANDHET_STEPS * RANDHET_INPUTS)

static randhet_value frames[2 * COUNT];

static void print(int32_t best)
{
    int32_t i;
    printf("%ld", (long)best);
    for (i = 0; i < RANDHET_OUTPUTS; i++) {
        printf(" %lld", (long long)randhet_sums()[i]);
    }
    printf("\n");
}

static void steps(const randhet_value *first, int32_t count)
{
    for (; count > 0; count--) {
        randhet_step(first);
        first += RANDHET_INPUTS;
    }
}

int main(void)
{
    long value;
    int32_t i;
    for (i = 0; i < 2 * COUNT; i++) {
        if (scanf("%ld", &value) != 1) {
            return 1;
        }
        frames[i] = (randhet_value)value;
    }
    randhet_seed(1u);
    printf("%ld\n", (long)randhet_prediction()); /* nothing was shown */
    print(randhet_classify(frames));
    steps(frames + COUNT, RANDHET_STEPS - 1);
    printf("%ld\n", (long)randhet_prediction()); /* a step is missing */
    print(randhet_classify(frames + COUNT));     /* what was broken off is forgotten */
    randhet_reset();
    steps(frames, RANDHET_STEPS);
    print(randhet_prediction());
    steps(frames + COUNT, RANDHET_STEPS); /* the second piece of one recording */
    print(randhet_prediction());
    return 0;
}
