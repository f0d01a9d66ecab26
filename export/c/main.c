/* An example: read images or recordings as integers from standard input, print class and sums of each. Replace it by your
 * board's program: it needs randhet_classify, or randhet_reset, randhet_step and randhet_prediction; randhet_sums; and a
 * randhet_entropy of the board's own.
 *
 * With --stream what is read are the pieces of one recording: the network is reset once, before the first. */
#include <stdio.h>
#include <string.h>

#include "randhet.h"

static randhet_value frame[RANDHET_INPUTS];

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

/* RANDHET_INPUTS integers into `frame`: 1 read, 0 end of the input, -1 not an integer, too few, or out of range. */
static int read_frame(void)
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
        frame[i] = (randhet_value)value;
    }
    return 1;
}

/* One image, from a reset. Returns what read_frame does. */
static int show_image(void)
{
    const int got = read_frame();
    if (got > 0) {
        (void)randhet_classify(frame);
    }
    return got;
}

/* All steps of a recording or a piece of one, a frame at each; of a piece that is an image, the image at the first.
 * Returns what read_frame does, -1 where frames are missing. */
static int show_piece(void)
{
    int32_t step;
    for (step = 0; step < RANDHET_STEPS; step++) {
        if (step == 0 || RANDHET_FRAME != 0) {
            const int got = read_frame();
            if (got <= 0) {
                return step == 0 ? got : -1;
            }
        }
        randhet_step(frame);
    }
    return 1;
}

static void answer(void)
{
    const int32_t best = randhet_prediction();
    int32_t i;
    printf("class %ld%s%s, sums", (long)best, *randhet_class(best) != '\0' ? " " : "", randhet_class(best));
    for (i = 0; i < RANDHET_OUTPUTS; i++) {
        printf(" %lld", (long long)randhet_sums()[i]);
    }
    printf("\n");
}

/* 1 where a seed was set, 0 where there is no entropy. */
static int seeded(void)
{
#ifdef RANDHET_SEED
    randhet_seed(RANDHET_SEED); /* the network's file has it: everybody knows the draws */
#else
    const uint64_t seed = randhet_entropy();
    if (RANDHET_DRAWN > 0 && seed == 0u) {
        return 0;
    }
    randhet_seed(seed);
#endif
    return 1;
}

int main(int count, char **arguments)
{
    const int stream = count == 2 && strcmp(arguments[1], "--stream") == 0;
    int (*const show)(void) = RANDHET_FRAME == 0 && stream == 0 ? show_image : show_piece;
    int got;
    if (count > 1 && stream == 0) {
        fprintf(stderr, "the only argument is --stream\n");
        return 1;
    }
    if (seeded() == 0) {
        fprintf(stderr, "no entropy to seed the network with\n");
        return 1;
    }
    randhet_reset();
    for (got = show(); got > 0; got = show()) {
        answer();
        if (stream == 0) {
            randhet_reset(); /* the next recording knows nothing of this one */
        }
    }
    if (got < 0) {
        fprintf(stderr, "%s %ld integers from %ld to %ld\n",
                RANDHET_FRAME != 0 ? "a recording is frames, one a step, of" : "an image is", (long)RANDHET_INPUTS,
                (long)RANDHET_INPUT_LOW, (long)RANDHET_INPUT_HIGH);
        return 1;
    }
    return 0;
}
