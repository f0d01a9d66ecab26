/* Decays that a cipher draws: additions, exclusive ors and rotations. Only networks that draw by ChaCha20 have this file.
 *
 * The draws of a layer at one step are a keystream of ChaCha20 (RFC 8439, section 2.4): its key are eight words made from
 * the seed, its nonce (number of the layer, low and high word of the number of the step), its counter the block of 64
 * neurons in (channel, row, column) order. */
#ifndef RANDHET_CHACHA_H
#define RANDHET_CHACHA_H

#include "randhet.h"

/* What lasts, in place of registers: the key, steps so far, images so far, the lower word of each first. To begin anew
 * after another randhet_seed, set the last four words to 0. */
#define RANDHET_CHACHA_STEPS 8
#define RANDHET_CHACHA_IMAGES 10

/* A layer that draws: `decays` are those of its neurons at this step, in (row, column, channel) order. */
struct randhet_keyed {
    int32_t layer;
    int32_t neurons, channels, pixels;
    int32_t per_image;       /* 1: every step of an image uses the same draws */
    const uint16_t *table;   /* the decay of each draw */
    uint16_t *decays;
};

/* Draw for every neuron of a layer, at each step before its neurons. */
void randhet_chacha_draw(const struct randhet_keyed *keyed);

/* Count a step, after the last layer. */
void randhet_chacha_next(void);

#endif
