/* An example: read images as integers from standard input, print class and sums of each. Replace it by your board's
 * program: it needs randhet_classify, randhet_sums, and a randhet_entropy of the board's own. */
#include <stdio.h>

#include "randhet.h"

static randhet_value image[RANDHET_INPUTS];

/* 64 bits that nobody can guess: here from the operating system. 0 where there are none. */
uint64_t randhet_entropy(void)
{
    unsigned char bytes[8];
    uint64_t bits = 0u;
    int i;
    FILE *file = fopen("/dev/urandom", "rb");
    if (file == NULL) {
        return 0u;
    }
    if (fread(bytes, 1, sizeof bytes, file) == sizeof bytes) {
        for (i = 0; i < 8; i++) {
            bits = (bits << 8) | bytes[i];
        }
    }
    (void)fclose(file);
    return bits;
}

/* RANDHET_INPUTS integers into `image`: 1 read, 0 end of the input, -1 not an integer, too few, or out of range. */
static int read_image(void)
{
    long value;
    int32_t i;
    for (i = 0; i < RANDHET_INPUTS; i++) {
        const int got = scanf("%ld", &value);
        if (got == EOF && i == 0) {
            return 0;
        }
        if (got != 1 || value < RANDHET_INPUT_LOW || value > RANDHET_INPUT_HIGH) {
            return -1;
        }
        image[i] = (randhet_value)value;
    }
    return 1;
}

int main(void)
{
#ifdef RANDHET_SEED
    const uint64_t seed = RANDHET_SEED; /* the network's file has it: everybody knows the draws */
#else
    const uint64_t seed = randhet_entropy();
    if (RANDHET_DRAWN > 0 && seed == 0u) {
        fprintf(stderr, "no entropy to seed the network with\n");
        return 1;
    }
#endif
    int got;
    randhet_seed(seed);
    for (got = read_image(); got > 0; got = read_image()) {
        const int32_t best = randhet_classify(image);
        int32_t i;
        printf("class %ld%s%s, sums", (long)best, *randhet_class(best) != '\0' ? " " : "", randhet_class(best));
        for (i = 0; i < RANDHET_OUTPUTS; i++) {
            printf(" %lld", (long long)randhet_sums()[i]);
        }
        printf("\n");
    }
    if (got < 0) {
        fprintf(stderr, "an image is %ld integers from %ld to %ld\n", (long)RANDHET_INPUTS, (long)RANDHET_INPUT_LOW,
                (long)RANDHET_INPUT_HIGH);
        return 1;
    }
    return 0;
}
