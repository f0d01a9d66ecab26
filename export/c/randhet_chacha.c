/* Decays that a cipher draws. See randhet_chacha.h. */
#include "randhet_chacha.h"

#define WORDS 16

static uint32_t rotated(uint32_t word, int bits)
{
    return (word << bits) | (word >> (32 - bits));
}

/* The quarter round of RFC 8439. */
static void quarter(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *a += *b;
    *d = rotated(*d ^ *a, 16);
    *c += *d;
    *b = rotated(*b ^ *c, 12);
    *a += *b;
    *d = rotated(*d ^ *a, 8);
    *c += *d;
    *b = rotated(*b ^ *c, 7);
}

/* One block of 64 bytes: the words of `start`, mixed in 20 rounds, plus themselves. */
static void block(const uint32_t *start, uint32_t *x)
{
    int32_t i;
    for (i = 0; i < WORDS; i++) {
        x[i] = start[i];
    }
    for (i = 10; i > 0; i--) {
        quarter(&x[0], &x[4], &x[8], &x[12]);
        quarter(&x[1], &x[5], &x[9], &x[13]);
        quarter(&x[2], &x[6], &x[10], &x[14]);
        quarter(&x[3], &x[7], &x[11], &x[15]);
        quarter(&x[0], &x[5], &x[10], &x[15]);
        quarter(&x[1], &x[6], &x[11], &x[12]);
        quarter(&x[2], &x[7], &x[8], &x[13]);
        quarter(&x[3], &x[4], &x[9], &x[14]);
    }
    for (i = 0; i < WORDS; i++) {
        x[i] += start[i];
    }
}

/* What is mixed: a constant, the key, the number of the block, the layer, the number of the step or image. */
static void begin(const struct randhet_keyed *keyed, uint32_t *start)
{
    const uint32_t *state = randhet_memory.registers;
    const uint32_t *round = state + (keyed->per_image != 0 ? RANDHET_CHACHA_IMAGES : RANDHET_CHACHA_STEPS);
    int32_t i;
    start[0] = 0x61707865u;
    start[1] = 0x3320646Eu;
    start[2] = 0x79622D32u;
    start[3] = 0x6B206574u;
    for (i = 0; i < 8; i++) {
        start[4 + i] = state[i];
    }
    start[12] = 0u;
    start[13] = (uint32_t)keyed->layer;
    start[14] = round[0];
    start[15] = round[1];
}

void randhet_chacha_draw(const struct randhet_keyed *keyed)
{
    uint32_t start[WORDS], x[WORDS], word = 0u;
    int32_t left, used = 64, pixel = 0, place = 0, channel = 0;
    if (keyed->per_image != 0 && randhet_memory.done > 1) {
        return; /* one draw per image: the decays of its first step stand */
    }
    begin(keyed, start);
    for (left = keyed->neurons; left > 0; left--) {
        if (used == 64) {
            block(start, x);
            start[12]++;
            used = 0;
        }
        if ((used & 3) == 0) {
            word = x[used >> 2];
        }
        keyed->decays[place] = keyed->table[word & 255u];
        word >>= 8;
        used++;
        /* draws go pixel by pixel through a channel, decays lie channel by channel in a pixel */
        pixel++;
        if (pixel < keyed->pixels) {
            place += keyed->channels;
        } else {
            pixel = 0;
            channel++;
            place = channel;
        }
    }
}

/* A number of two words, plus one. */
static void count(uint32_t *words)
{
    words[0]++;
    if (words[0] == 0u) {
        words[1]++;
    }
}

void randhet_chacha_next(void)
{
    count(randhet_memory.registers + RANDHET_CHACHA_STEPS);
    if (randhet_memory.done == RANDHET_STEPS) {
        count(randhet_memory.registers + RANDHET_CHACHA_IMAGES);
    }
}
