/* Kernels of an integer spiking network: additions, shifts and comparisons only.
 *
 * No library, no heap, no floating point, no recursion; no multiplication, division or remainder. All memory that is
 * written lies in one arena. `network.h` holds the sizes of one network, `network.c` its constants and its layers.
 */
#ifndef RANDHET_H
#define RANDHET_H

#include <stdint.h>

#include "network.h"

/* --- for programs -------------------------------------------------------------------------------------------------- */

/* Set the registers that decays are drawn from. Take 64 bits that nobody can guess: whoever knows the seed knows every
 * draw. The network must be seeded once before the first image; it then runs on from image to image. */
void randhet_seed(uint64_t seed);

/* Supplied by the program: 64 bits of the board's own entropy. Only main.c calls it. */
uint64_t randhet_entropy(void);

/* Run one image from a reset, RANDHET_INPUTS values in (channel, row, column) order, for RANDHET_STEPS steps. A network of
 * sequences takes RANDHET_STEPS frames of RANDHET_INPUTS values, one after another. Return the class, as
 * randhet_prediction does. */
int32_t randhet_classify(const randhet_value *image);

/* Forget what was shown: set membrane potentials, currents and the spikes of the step before to 0. Call it before each
 * image or recording. Left out between the pieces of one recording, each of RANDHET_STEPS steps, they carry on. */
void randhet_reset(void);

/* Run one time step. A network of sequences reads a frame at every step; one of images reads the image at the first of
 * RANDHET_STEPS steps alone, and each piece of a recording begins with a first step. */
void randhet_step(const randhet_value *frame);

/* The class, once all RANDHET_STEPS steps are done: the number of the largest sum, the lowest of equals. -1 before, and
 * where the network draws and was not seeded. */
int32_t randhet_prediction(void);

/* What is read of the last image or piece, RANDHET_OUTPUTS numbers in (channel, row, column) order: the sums of the
 * last layer over the steps; where it is a leaky read-out its sums, last or largest membrane potentials. */
const randhet_sum *randhet_sums(void);

/* How often a current or a membrane potential left 24 bits during the last image or piece. */
uint32_t randhet_saturations(void);

/* States of the RANDHET_CORES registers, to save and restore them. */
uint32_t *randhet_registers(void);

/* --- memory -------------------------------------------------------------------------------------------------------- */

struct randhet_memory {
    int32_t words[RANDHET_WORDS];         /* membrane potentials, sums of one pixel, sums of the image itself */
    uint32_t registers[RANDHET_CORES + 1]; /* one per core, one more than there are: none may be none */
    uint32_t saturations;
    int32_t done;                         /* steps of the image that were run, this one included */
    randhet_sum sums[RANDHET_OUTPUTS];
    randhet_value values[RANDHET_VALUES]; /* what layers send, (row, column, channel) */
    uint8_t draws[RANDHET_DRAWS];         /* of one layer at one step, (channel, row, column) */
};

/* Bytes of memory that is written, the stack aside. */
#define RANDHET_ARENA (sizeof(struct randhet_memory))

extern struct randhet_memory randhet_memory;

/* --- layers: positions are numbers of elements in `words` or `values` ------------------------------------------------ */

/* Positions in nested loops go from row to row by a precomputed step, never by where the inner loop ended: a compiler may
 * compute that end by a multiplication.
 *
 * Convolution: a[o, y, x] = sum of w[o, c, i, j] * s[c, y*stride + i*dilation - padding, ...]. A dense layer is one of a
 * single pixel. Steps through memory are precomputed. */
struct randhet_window {
    const int8_t *weight;      /* (row, column, input channel, output channel of its group) */
    int32_t in;                /* values read */
    int32_t height, width;     /* of what is read */
    int32_t groups, channels;  /* input channels of one group */
    int32_t outputs, all;      /* output channels of one group, of all groups */
    int32_t rows, columns;     /* of the window */
    int32_t down, across;      /* output rows and columns */
    int32_t top, left;         /* row and column of the first window's first tap: minus the padding */
    int32_t origin;            /* the same as a number of values */
    int32_t tap_y, tap_x;      /* from tap to tap, in rows and columns: the dilation */
    int32_t tap_row, tap_step; /* the same in values */
    int32_t row_weights, tap_weights, group_weights; /* weights of a row of taps, of a tap, of its part for one group */
    int32_t stride_y, stride_x;
    int32_t next_row, next;    /* from window to window, in values: to the row below, to the right */
    int32_t sums;              /* words: the sums of one pixel, or of all where they are held */
    int32_t held;              /* 1: what is read is the same at every step, the sums are made once per image */
};

/* Registers of a layer: its neurons in (channel, row, column) order, split into cores. */
struct randhet_cores {
    int32_t layer;
    int32_t first;     /* register of its first core */
    int32_t neurons;
    int32_t per_core;
    int32_t per_image; /* 1: every step of an image uses the same draws */
};

/* Leaky integrate-and-fire, see randhet_lif. */
struct randhet_lif {
    int32_t layer;
    const int32_t *threshold;          /* per output channel */
    const int32_t *bias;               /* per output channel, or per neuron (row, column, channel) */
    int32_t bias_step;                 /* 0, or output channels where it is per neuron */
    const uint16_t *decay;             /* one, or one per neuron, or the table of draws */
    int32_t decay_step;                /* from neuron to neuron */
    const struct randhet_cores *cores; /* where decays are drawn, else 0 */
    int32_t k, f;
    int32_t edge;                      /* 2^25 >> f */
    int32_t subtract;                  /* 1: a spike lowers the membrane potential by the threshold; 0: to zero */
    int32_t pixels;                    /* neurons of one channel */
    int32_t membrane;                  /* words */
    int32_t out;                       /* values */
};

/* Leaky integrate-and-fire with what fewer layers have, see randhet_late. */
struct randhet_late {
    const struct randhet_lif *lif;
    const int32_t *floor; /* the lowest membrane potential: one, or one per output channel */
    int32_t floor_step;   /* from channel to channel */
    int32_t late;         /* 1: the reset of a spike is done at the next step */
    int32_t silent;       /* 1: a leaky read-out, which sends its membrane potential to no layer and never spikes */
};

/* Loihi's current-based neuron, see randhet_cuba. */
struct randhet_cuba {
    int32_t layer;
    const int32_t *threshold; /* per output channel; a leaky read-out never reaches it */
    const int32_t *bias;
    int32_t bias_step;
    int32_t f;
    uint32_t keep_current, keep_voltage; /* 0..4096, what is kept of 4096 parts */
    int32_t current, voltage;            /* words */
    int32_t out;                         /* values */
};

/* Sums over the steps, without spikes. */
struct randhet_read_out {
    int32_t layer;
    const int32_t *bias;
    int32_t bias_step;
    int32_t membrane; /* words */
};

/* Sums that are sent as they are, see randhet_send. */
struct randhet_send {
    int32_t layer, out;
};

struct randhet_add {
    int32_t layer;
    const int32_t *in; /* values, `terms` of them */
    int32_t terms, out, count;
};

/* Sum over windows, without padding. */
struct randhet_pool {
    int32_t layer, in, out;
    int32_t channels, rows, columns, down, across;
    int32_t tap_row, tap_step, next_row, next; /* as in randhet_window */
    int32_t count;
};

/* Largest value of each channel over windows; a randhet_window says where they lie. */
struct randhet_max_pool {
    int32_t layer, out, count;
};

/* Gates of two layers of spikes. */
struct randhet_gate {
    int32_t layer, first, second, out, count;
};

/* The channels of several layers one after another. */
struct randhet_concat {
    int32_t layer;
    const int32_t *in;       /* values, `terms` of them */
    const int32_t *channels; /* of each */
    int32_t terms, out, all; /* all: channels together */
    int32_t pixels, count;
};

/* Zeros between values. */
struct randhet_spread {
    int32_t layer, in, out, channels, height, width;
    int32_t next_row, next; /* from value to value in what is made: to the row below, to the right */
    int32_t count;
};

/* (row, column, channel) to (channel, row, column). */
struct randhet_order {
    int32_t layer, in, out, channels, pixels, count;
};

void randhet_input(const struct randhet_order *order, const randhet_value *image);
void randhet_hold(const struct randhet_window *window);
void randhet_lif(const struct randhet_window *window, const struct randhet_lif *neuron);
void randhet_late(const struct randhet_window *window, const struct randhet_late *neuron);
void randhet_cuba(const struct randhet_window *window, const struct randhet_cuba *neuron);
void randhet_leaky_cuba(const struct randhet_window *window, const struct randhet_cuba *neuron);
void randhet_read_out(const struct randhet_window *window, const struct randhet_read_out *neuron);
void randhet_send(const struct randhet_window *window, const struct randhet_send *send);
void randhet_recur(const struct randhet_window *window, const struct randhet_window *own);
void randhet_add(const struct randhet_add *add);
void randhet_pool(const struct randhet_pool *pool);
void randhet_max_pool(const struct randhet_window *window, const struct randhet_max_pool *pool);
void randhet_and(const struct randhet_gate *gate);
void randhet_iand(const struct randhet_gate *gate);
void randhet_concat(const struct randhet_concat *concat);
void randhet_spread(const struct randhet_spread *spread);
void randhet_flatten(const struct randhet_order *order);
void randhet_collect(const struct randhet_order *order);
void randhet_copy(const struct randhet_order *order);
void randhet_sum_up(const struct randhet_order *order);
void randhet_raise(const struct randhet_order *order);

/* --- what network.c supplies ---------------------------------------------------------------------------------------- */

extern const struct randhet_cores *const randhet_drawn[RANDHET_DRAWN + 1]; /* ends with 0 */
void randhet_image_layers(const randhet_value *image);                    /* what depends on the image alone */
void randhet_step_layers(const randhet_value *frame);                     /* one time step of every other layer */

/* Built with RANDHET_TRACE, the program also supplies this: it is told every value that a layer sends, in (row, column,
 * channel) order, with the membrane potential before the reset where there is one. */
#ifdef RANDHET_TRACE
void randhet_seen(int32_t layer, int32_t output, int32_t membrane);
#define RANDHET_SEEN(layer, output, membrane) randhet_seen((layer), (output), (membrane))
#else
#define RANDHET_SEEN(layer, output, membrane) ((void)0)
#endif

#endif
