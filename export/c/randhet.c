/* Kernels of an integer spiking network. See randhet.h. */
#include "randhet.h"

#define STATE_MAX 8388607 /* 2^23 - 1, the largest membrane potential */
#define HALF 8388608      /* 2^23 */

struct randhet_memory randhet_memory;

/* --- integers --------------------------------------------------------------------------------------------------------- */

/* The integer that 32 bits of two's complement stand for; a cast of more than 2^31 - 1 is the compiler's choice in C. */
static int32_t as_signed(uint32_t bits)
{
    return bits <= 0x7FFFFFFFu ? (int32_t)bits : -(int32_t)(0xFFFFFFFFu - bits) - 1;
}

/* value << f, value * 2^f within 32 bits; negative numbers may not be shifted in C. */
static int32_t shifted(int32_t value, int32_t f)
{
    return as_signed((uint32_t)value << f);
}

/* Limit to -(2^23 - 1)..2^23 - 1 and count what lay outside. */
static int32_t sat24(int32_t value)
{
    if (value > STATE_MAX) {
        randhet_memory.saturations++;
        return STATE_MAX;
    }
    if (value < -STATE_MAX) {
        randhet_memory.saturations++;
        return -STATE_MAX;
    }
    return value;
}

/* (decay * d) >> k, rounded down: for each bit i of decay, from the lowest, acc = (acc + (d if it is set else 0)) >> 1.
 * The shift keeps the sign bit, as two's complement does. */
static int32_t decayed(int32_t d, uint32_t decay, int32_t k)
{
    uint32_t acc = 0u;
    const uint32_t term = (uint32_t)d;
    for (; k > 0; k--) {
        if ((decay & 1u) != 0u) {
            acc += term;
        }
        acc = (acc >> 1) | (acc & 0x80000000u);
        decay >>= 1;
    }
    return as_signed(acc);
}

/* sign(state) * ((|state| * parts) >> 12), parts 0..4096, by the same steps on the magnitude. */
static int32_t kept(int32_t state, uint32_t parts)
{
    const uint32_t magnitude = state < 0 ? (uint32_t)-state : (uint32_t)state;
    uint32_t acc = 0u;
    int32_t i;
    if (parts == 4096u) {
        return state;
    }
    for (i = 0; i < 12; i++) {
        if ((parts & 1u) != 0u) {
            acc += magnitude;
        }
        acc >>= 1;
        parts >>= 1;
    }
    return state < 0 ? -(int32_t)acc : (int32_t)acc;
}

/* One fold by 2^24 brings back into 24 bits; 2^23 stays, as in Lava's model. */
static int32_t wrapped(int32_t value)
{
    if (value > HALF) {
        return value - HALF - HALF;
    }
    return value <= -HALF ? value + HALF + HALF : value;
}

/* --- registers -------------------------------------------------------------------------------------------------------- */

/* Eight clocks of the register with the taps 0x80200003: f holds the bits that fall out, the low byte divided by
 * 1 + x + x^2 over GF(2), modulo x^8. */
static uint32_t clocked(uint32_t state)
{
    const uint32_t low = state & 255u;
    const uint32_t g = low ^ (low << 1);
    const uint32_t f = (g ^ (g << 3) ^ (g << 6)) & 255u;
    return (state >> 8) ^ (f << 24) ^ (f << 14) ^ (f >> 6) ^ (f >> 7);
}

/* One draw for every neuron of a layer: the low byte after eight clocks. */
static inline void draw(const struct randhet_cores *cores)
{
    uint8_t *out = randhet_memory.draws;
    uint32_t *place = randhet_memory.registers + cores->first;
    int32_t left = cores->neurons;
    while (left > 0) {
        int32_t n = left < cores->per_core ? left : cores->per_core;
        uint32_t state = *place;
        left -= n;
        for (; n > 0; n--) {
            state = clocked(state);
            *out++ = (uint8_t)(state & 255u);
        }
        if (cores->per_image == 0 || randhet_memory.done == RANDHET_STEPS) {
            *place = state; /* one draw per image: every step but the last starts from the same state */
        }
        place++;
    }
}

/* The low 64 bits of a product, by doubling and adding: seeding alone needs it. */
static uint64_t product(uint64_t value, uint64_t factor)
{
    uint64_t total = 0u;
    for (; factor != 0u; factor >>= 1) {
        if ((factor & 1u) != 0u) {
            total += value;
        }
        value += value;
    }
    return total;
}

/* SplitMix64 of one value. */
static uint64_t mixed(uint64_t value)
{
    uint64_t z = value + UINT64_C(0x9E3779B97F4A7C15);
    z = product(z ^ (z >> 30), UINT64_C(0xBF58476D1CE4E5B9));
    z = product(z ^ (z >> 27), UINT64_C(0x94D049BB133111EB));
    return z ^ (z >> 31);
}

void randhet_seed(uint64_t seed)
{
    const struct randhet_cores *const *drawn = randhet_drawn;
    for (; *drawn != 0; drawn++) {
        const uint64_t layer = mixed(mixed(seed) ^ (uint64_t)(uint32_t)(*drawn)->layer);
        uint32_t *place = randhet_memory.registers + (*drawn)->first;
        uint64_t core = 0u;
        int32_t left = (*drawn)->neurons;
        for (; left > 0; left -= (*drawn)->per_core) {
            const uint32_t state = (uint32_t)(mixed(layer ^ core) & 0xFFFFFFFFu);
            *place++ = state != 0u ? state : 1u;
            core++;
        }
    }
}

/* --- synaptic sums ---------------------------------------------------------------------------------------------------- */

/* weight times a number of bits, spent bit by bit: the weight doubles from bit to bit. */
static int32_t spent(int32_t weight, uint32_t bits)
{
    int32_t total = 0;
    for (;;) {
        if ((bits & 1u) != 0u) {
            total += weight;
        }
        bits >>= 1;
        if (bits == 0u) {
            return total;
        }
        weight += weight;
    }
}

/* Add one input's weights, one per output channel, to the sums: once for a spike, else as its value says. Most
 * instructions of an image are spent on spikes: eight weights at a time stand at fixed distances from one pointer, and
 * the loop is counted once for all of them. */
static void add_column(int32_t *sums, const int8_t *weight, int32_t outputs, int32_t value)
{
    const uint32_t bits = value < 0 ? (uint32_t)-value : (uint32_t)value;
    if (value == 1) {
        for (; outputs >= 8; outputs -= 8) {
            sums[0] += weight[0];
            sums[1] += weight[1];
            sums[2] += weight[2];
            sums[3] += weight[3];
            sums[4] += weight[4];
            sums[5] += weight[5];
            sums[6] += weight[6];
            sums[7] += weight[7];
            sums += 8;
            weight += 8;
        }
        for (; outputs > 0; outputs--) {
            *sums++ += *weight++;
        }
    } else if (value > 0) {
        for (; outputs > 0; outputs--) {
            *sums++ += spent(*weight++, bits);
        }
    } else {
        for (; outputs > 0; outputs--) {
            *sums++ -= spent(*weight++, bits);
        }
    }
}

/* All input channels under one tap. */
static void add_tap(const struct randhet_window *window, int32_t *sums, const int8_t *weight, int32_t in)
{
    const randhet_value *value = randhet_memory.values + in;
    int32_t group, channel;
    for (group = window->groups; group > 0; group--) {
        const int8_t *column = weight;
        for (channel = window->channels; channel > 0; channel--) {
            if (*value != 0) {
                add_column(sums, column, window->outputs, (int32_t)*value);
            }
            value++;
            column += window->outputs;
        }
        weight += window->group_weights;
        sums += window->outputs;
    }
}

/* Where a window stands: numbers, because a pointer may not leave its array and padding does. */
struct place {
    int32_t y, x;           /* output row and column */
    int32_t top, left;      /* input row and column of the first tap */
    int32_t row, origin;    /* position of the first tap among the values: of this row's first window, of this one */
    int32_t pixel;          /* number of windows before this one */
    int32_t neuron;         /* the same times the output channels */
};

static void start(struct place *at, const struct randhet_window *window)
{
    at->y = 0;
    at->x = 0;
    at->top = window->top;
    at->left = window->left;
    at->row = window->origin;
    at->origin = window->origin;
    at->pixel = 0;
    at->neuron = 0;
}

/* Go to the next window. */
static void advance(struct place *at, const struct randhet_window *window)
{
    at->pixel++;
    at->neuron += window->all;
    at->x++;
    at->left += window->stride_x;
    at->origin += window->next;
    if (at->x == window->across) {
        at->x = 0;
        at->left = window->left;
        at->y++;
        at->top += window->stride_y;
        at->row += window->next_row;
        at->origin = at->row;
    }
}

/* The sums of one window, one per output channel. */
static void add_window(const struct randhet_window *window, const struct place *at, int32_t *sums)
{
    const int8_t *weight = window->weight;
    int32_t in = at->origin, row, column, y = at->top;
    int32_t *clear = sums;
    for (row = window->all; row > 0; row--) {
        *clear++ = 0;
    }
    for (row = window->rows; row > 0; row--) {
        const int8_t *tap = weight;
        int32_t place = in, x = at->left;
        for (column = window->columns; column > 0; column--) {
            if (y >= 0 && y < window->height && x >= 0 && x < window->width) {
                add_tap(window, sums, tap, place);
            }
            tap += window->tap_weights;
            place += window->tap_step;
            x += window->tap_x;
        }
        weight += window->row_weights;
        in += window->tap_row;
        y += window->tap_y;
    }
}

/* Sums of a layer whose input does not change from step to step: made once per image and held. */
void randhet_hold(const struct randhet_window *window)
{
    struct place at;
    for (start(&at, window); at.y < window->down; advance(&at, window)) {
        add_window(window, &at, randhet_memory.words + window->sums + at.neuron);
    }
}

static const int32_t *sums_at(const struct randhet_window *window, const struct place *at)
{
    int32_t *sums = randhet_memory.words + window->sums;
    if (window->held != 0) {
        return sums + at->neuron;
    }
    add_window(window, at, sums);
    return sums;
}

/* Sums of a dense layer that also reads its own spikes of the step before: a = W s + U s_before. The latter lie among the
 * values until the layer's neurons, which read these sums, send new ones. */
void randhet_recur(const struct randhet_window *window, const struct randhet_window *own)
{
    struct place at;
    const int32_t *read;
    int32_t *sums = randhet_memory.words + own->sums;
    int32_t i;
    start(&at, window);
    read = sums_at(window, &at);
    start(&at, own);
    add_window(own, &at, sums);
    for (i = 0; i < own->all; i++) {
        sums[i] += read[i];
    }
}

/* --- neurons ---------------------------------------------------------------------------------------------------------- */

/* Random-decay leaky integrate-and-fire, one output pixel:
 *
 *     x = sat24((a << f) + b)
 *     m = x + ((A * (m - x)) >> k)           between its ends, which are of 24 bits: it cannot saturate
 *     s = 1 where m > theta; there m = 0, or m - theta
 *
 * a is the synaptic sum, b the bias, A the decay: constant, of the neuron, or table[draw]. A sum beyond 2^25 >> f
 * saturates whatever b is, so it is limited before the shift. */
static void lif_pixel(const struct randhet_lif *neuron, const struct place *at, const int32_t *sums, int32_t channels)
{
    int32_t *membrane = randhet_memory.words + neuron->membrane + at->neuron;
    randhet_value *out = randhet_memory.values + neuron->out + at->neuron;
    const int32_t *bias = neuron->bias + (neuron->bias_step != 0 ? at->neuron : 0);
    const int32_t *threshold = neuron->threshold;
    const uint16_t *decay = neuron->decay + (neuron->decay_step != 0 ? at->neuron : 0);
    int32_t drawn = at->pixel; /* draws are in (channel, row, column) order */
    for (; channels > 0; channels--) {
        const int32_t edge = neuron->edge;
        const int32_t a = *sums > edge ? edge : (*sums < -edge ? -edge : *sums);
        const int32_t x = sat24(shifted(a, neuron->f) + *bias);
        const uint32_t mantissa = neuron->cores != 0 ? neuron->decay[randhet_memory.draws[drawn]] : *decay;
        const int32_t m = x + decayed(*membrane - x, mantissa, neuron->k);
        const int32_t spike = m > *threshold;
        RANDHET_SEEN(neuron->layer, spike, m);
        *out++ = (randhet_value)spike;
        *membrane++ = spike == 0 ? m : (neuron->subtract != 0 ? m - *threshold : 0);
        sums++;
        bias++;
        threshold++;
        decay += neuron->decay_step;
        drawn = channels > 1 ? drawn + neuron->pixels : drawn;
    }
}

void randhet_lif(const struct randhet_window *window, const struct randhet_lif *neuron)
{
    struct place at;
    if (neuron->cores != 0) {
        draw(neuron->cores);
    }
    for (start(&at, window); at.y < window->down; advance(&at, window)) {
        lif_pixel(neuron, &at, sums_at(window, &at), window->all);
    }
}

/* The membrane potential of a step where the reset of the step before may be late, and no lower than the floor:
 *
 *     m = x + ((A * (m - x)) >> k)
 *     late, where the step before spiked: m = 0, or sat24(m - theta)
 *     m = max(m, floor)
 *
 * Where the reset is late, what is kept is the membrane potential before it: above theta where the step before spiked. */
static int32_t late_potential(const struct randhet_late *neuron, int32_t before, int32_t x, uint32_t mantissa,
                              int32_t threshold, int32_t floor)
{
    int32_t m = x + decayed(before - x, mantissa, neuron->lif->k);
    if (neuron->late != 0 && before > threshold) {
        m = neuron->lif->subtract != 0 ? sat24(m - threshold) : 0;
    }
    return m < floor ? floor : m;
}

/* As lif_pixel, with late_potential; a silent layer sends its membrane potential, which no layer reads. */
static void late_pixel(const struct randhet_late *neuron, const struct place *at, const int32_t *sums, int32_t channels)
{
    const struct randhet_lif *lif = neuron->lif;
    int32_t *membrane = randhet_memory.words + lif->membrane + at->neuron;
    const int32_t *bias = lif->bias + (lif->bias_step != 0 ? at->neuron : 0);
    const int32_t *threshold = lif->threshold, *floor = neuron->floor;
    const uint16_t *decay = lif->decay + (lif->decay_step != 0 ? at->neuron : 0);
    int32_t drawn = at->pixel, out = lif->out + at->neuron;
    for (; channels > 0; channels--) {
        const int32_t edge = lif->edge;
        const int32_t a = *sums > edge ? edge : (*sums < -edge ? -edge : *sums);
        const int32_t x = sat24(shifted(a, lif->f) + *bias);
        const uint32_t mantissa = lif->cores != 0 ? lif->decay[randhet_memory.draws[drawn]] : *decay;
        const int32_t m = late_potential(neuron, *membrane, x, mantissa, *threshold, *floor);
        const int32_t spike = m > *threshold;
        if (neuron->silent == 0) {
            randhet_memory.values[out++] = (randhet_value)spike;
        }
        RANDHET_SEEN(lif->layer, neuron->silent != 0 ? m : spike, m);
        *membrane++ = spike == 0 || neuron->late != 0 ? m : (lif->subtract != 0 ? m - *threshold : 0);
        sums++;
        bias++;
        threshold++;
        floor += neuron->floor_step;
        decay += lif->decay_step;
        drawn = channels > 1 ? drawn + lif->pixels : drawn;
    }
}

/* Leaky integrate-and-fire with a late reset, a floor, or as a leaky read-out. */
void randhet_late(const struct randhet_window *window, const struct randhet_late *neuron)
{
    struct place at;
    if (neuron->lif->cores != 0) {
        draw(neuron->lif->cores);
    }
    for (start(&at, window); at.y < window->down; advance(&at, window)) {
        late_pixel(neuron, &at, sums_at(window, &at), window->all);
    }
}

/* Loihi's current-based leaky integrate-and-fire, one output pixel:
 *
 *     u = wrap(kept(u) + (a << f))
 *     v = sat24(kept(v) + u + b)
 *     s = 1 where v > theta; there v = 0 */
static void cuba_pixel(const struct randhet_cuba *neuron, const struct place *at, const int32_t *sums, int32_t channels)
{
    int32_t *current = randhet_memory.words + neuron->current + at->neuron;
    int32_t *voltage = randhet_memory.words + neuron->voltage + at->neuron;
    randhet_value *out = randhet_memory.values + neuron->out + at->neuron;
    const int32_t *bias = neuron->bias + (neuron->bias_step != 0 ? at->neuron : 0);
    const int32_t *threshold = neuron->threshold;
    for (; channels > 0; channels--) {
        const int32_t u = wrapped(kept(*current, neuron->keep_current) + shifted(*sums, neuron->f));
        const int32_t v = sat24(kept(*voltage, neuron->keep_voltage) + u + *bias);
        const int32_t spike = v > *threshold;
        RANDHET_SEEN(neuron->layer, spike, v);
        *out++ = (randhet_value)spike;
        *current++ = u;
        *voltage++ = spike == 0 ? v : 0;
        sums++;
        bias++;
        threshold++;
    }
}

void randhet_cuba(const struct randhet_window *window, const struct randhet_cuba *neuron)
{
    struct place at;
    for (start(&at, window); at.y < window->down; advance(&at, window)) {
        cuba_pixel(neuron, &at, sums_at(window, &at), window->all);
    }
}

/* As randhet_cuba for a leaky read-out, which never spikes: its voltage is read, by no layer. */
void randhet_leaky_cuba(const struct randhet_window *window, const struct randhet_cuba *neuron)
{
    int32_t *current = randhet_memory.words + neuron->current;
    int32_t *voltage = randhet_memory.words + neuron->voltage;
    struct place at;
    for (start(&at, window); at.y < window->down; advance(&at, window)) {
        const int32_t *sums = sums_at(window, &at);
        const int32_t *bias = neuron->bias + (neuron->bias_step != 0 ? at.neuron : 0);
        int32_t channels;
        for (channels = window->all; channels > 0; channels--) {
            const int32_t u = wrapped(kept(*current, neuron->keep_current) + shifted(*sums++, neuron->f));
            const int32_t v = sat24(kept(*voltage, neuron->keep_voltage) + u + *bias++);
            RANDHET_SEEN(neuron->layer, v, v);
            *current++ = u;
            *voltage++ = v;
        }
    }
}

/* Sums over the steps: m = m + a + b. */
void randhet_read_out(const struct randhet_window *window, const struct randhet_read_out *neuron)
{
    int32_t *membrane = randhet_memory.words + neuron->membrane;
    struct place at;
    for (start(&at, window); at.y < window->down; advance(&at, window)) {
        const int32_t *sums = sums_at(window, &at);
        const int32_t *bias = neuron->bias + (neuron->bias_step != 0 ? at.neuron : 0);
        int32_t channels;
        for (channels = window->all; channels > 0; channels--) {
            const int32_t added = *sums++ + *bias++;
            *membrane += added;
            RANDHET_SEEN(neuron->layer, added, *membrane);
            membrane++;
        }
    }
}

/* A layer with weights and no neuron sends its sums. */
void randhet_send(const struct randhet_window *window, const struct randhet_send *send)
{
    struct place at;
    for (start(&at, window); at.y < window->down; advance(&at, window)) {
        const int32_t *sums = sums_at(window, &at);
        int32_t channel, out = send->out + at.neuron;
        for (channel = 0; channel < window->all; channel++) {
            randhet_memory.values[out + channel] = (randhet_value)sums[channel];
            RANDHET_SEEN(send->layer, sums[channel], 0);
        }
    }
}

/* --- a whole image ---------------------------------------------------------------------------------------------------- */

void randhet_reset(void)
{
    int32_t i;
    for (i = 0; i < RANDHET_WORDS; i++) {
        randhet_memory.words[i] = 0;
    }
    for (i = 0; i < RANDHET_RECURRENT; i++) {
        randhet_memory.values[i] = 0;
    }
    randhet_memory.done = 0;
}

/* Begin an image or a piece of a recording: what is read starts anew, membrane potentials are as they were. */
static void begin(const randhet_value *image)
{
    int32_t i;
    for (i = 0; i < RANDHET_READ_OUTS; i++) {
        randhet_memory.words[i] = 0;
    }
    for (i = 0; i < RANDHET_OUTPUTS; i++) {
        randhet_memory.sums[i] = RANDHET_START;
    }
    randhet_memory.saturations = 0u;
    randhet_memory.done = 0;
    randhet_image_layers(image);
}

/* Number of the largest sum, the lowest of equals. */
static int32_t largest(void)
{
    int32_t i, best = 0;
    for (i = 1; i < RANDHET_OUTPUTS; i++) {
        if (randhet_memory.sums[i] > randhet_memory.sums[best]) {
            best = i;
        }
    }
    return best;
}

void randhet_step(const randhet_value *frame)
{
    /* a register at 0 would stay there: seeded ones never are */
    if (RANDHET_DRAWN > 0 && randhet_memory.registers[0] == 0u) {
        return;
    }
    if (randhet_memory.done == 0 || randhet_memory.done == RANDHET_STEPS) {
        begin(frame);
    }
    randhet_memory.done++;
    randhet_step_layers(frame);
}

int32_t randhet_prediction(void)
{
    return randhet_memory.done == RANDHET_STEPS ? largest() : -1;
}

int32_t randhet_classify(const randhet_value *image)
{
    int32_t step;
    randhet_reset();
    for (step = RANDHET_STEPS; step > 0; step--) {
        randhet_step(image);
        image += RANDHET_FRAME;
    }
    return randhet_prediction();
}

const randhet_sum *randhet_sums(void)
{
    return randhet_memory.sums;
}

uint32_t randhet_saturations(void)
{
    return randhet_memory.saturations;
}

uint32_t *randhet_registers(void)
{
    return randhet_memory.registers;
}
