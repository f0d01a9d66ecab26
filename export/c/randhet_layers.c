/* Layers without neurons, and what is read of the last layer. See randhet.h. */
#include "randhet.h"

/* Report what a layer without a neuron sends; nothing outside a build with RANDHET_TRACE. */
static void show(int32_t layer, const randhet_value *values, int32_t count)
{
#ifdef RANDHET_TRACE
    for (; count > 0; count--) {
        RANDHET_SEEN(layer, (int32_t)*values++, 0);
    }
#else
    (void)layer;
    (void)values;
    (void)count;
#endif
}

/* The image, brought from (channel, row, column) to (row, column, channel). */
void randhet_input(const struct randhet_order *order, const randhet_value *image)
{
    randhet_value *out = randhet_memory.values + order->out;
    int32_t pixel, channel, count = 0;
    for (pixel = 0; pixel < order->pixels; pixel++) {
        int32_t in = pixel;
        for (channel = order->channels; channel > 0; channel--) {
            out[count++] = image[in];
            in = channel > 1 ? in + order->pixels : in;
        }
    }
    show(order->layer, out, order->count);
}

/* Element-wise sum of several layers. */
void randhet_add(const struct randhet_add *add)
{
    const randhet_value *values = randhet_memory.values;
    randhet_value *out = randhet_memory.values + add->out;
    int32_t i, term;
    for (i = 0; i < add->count; i++) {
        int32_t total = 0;
        for (term = 0; term < add->terms; term++) {
            total += (int32_t)values[add->in[term] + i];
        }
        out[i] = (randhet_value)total;
    }
    show(add->layer, out, add->count);
}

/* Sum of each channel over one window. */
static int32_t pooled(const struct randhet_pool *pool, int32_t in)
{
    int32_t total = 0, row, column;
    for (row = pool->rows; row > 0; row--) {
        int32_t place = in;
        for (column = pool->columns; column > 0; column--) {
            total += (int32_t)randhet_memory.values[place];
            place += pool->tap_step;
        }
        in += pool->tap_row;
    }
    return total;
}

void randhet_pool(const struct randhet_pool *pool)
{
    randhet_value *out = randhet_memory.values + pool->out;
    int32_t row = pool->in, y, x, channel, count = 0;
    for (y = pool->down; y > 0; y--) {
        int32_t in = row;
        for (x = pool->across; x > 0; x--) {
            for (channel = 0; channel < pool->channels; channel++) {
                out[count++] = (randhet_value)pooled(pool, in + channel);
            }
            in += pool->next;
        }
        row += pool->next_row;
    }
    show(pool->layer, out, pool->count);
}

/* Largest value of one channel in one window; in: its first tap, which may lie in the padding, as some of the others. */
static int32_t peak(const struct randhet_window *window, int32_t y, int32_t left, int32_t in)
{
    int32_t best = INT32_MIN, row, column; /* each window holds a value */
    for (row = window->rows; row > 0; row--) {
        int32_t place = in, x = left;
        for (column = window->columns; column > 0; column--) {
            if (y >= 0 && y < window->height && x >= 0 && x < window->width
                && (int32_t)randhet_memory.values[place] > best) {
                best = (int32_t)randhet_memory.values[place];
            }
            place += window->tap_step;
            x += window->tap_x;
        }
        in += window->tap_row;
        y += window->tap_y;
    }
    return best;
}

void randhet_max_pool(const struct randhet_window *window, const struct randhet_max_pool *pool)
{
    randhet_value *out = randhet_memory.values + pool->out;
    int32_t row = window->origin, top = window->top, y, x, channel, count = 0;
    for (y = window->down; y > 0; y--) {
        int32_t in = row, left = window->left;
        for (x = window->across; x > 0; x--) {
            for (channel = 0; channel < window->all; channel++) {
                out[count++] = (randhet_value)peak(window, top, left, in + channel);
            }
            in += window->next;
            left += window->stride_x;
        }
        row += window->next_row;
        top += window->stride_y;
    }
    show(pool->layer, out, pool->count);
}

/* 1 where both layers spike. */
void randhet_and(const struct randhet_gate *gate)
{
    const randhet_value *first = randhet_memory.values + gate->first, *second = randhet_memory.values + gate->second;
    randhet_value *out = randhet_memory.values + gate->out;
    int32_t i;
    for (i = 0; i < gate->count; i++) {
        out[i] = (randhet_value)(first[i] != 0 && second[i] != 0);
    }
    show(gate->layer, out, gate->count);
}

/* 1 where the second layer spikes and the first does not. */
void randhet_iand(const struct randhet_gate *gate)
{
    const randhet_value *first = randhet_memory.values + gate->first, *second = randhet_memory.values + gate->second;
    randhet_value *out = randhet_memory.values + gate->out;
    int32_t i;
    for (i = 0; i < gate->count; i++) {
        out[i] = (randhet_value)(first[i] == 0 && second[i] != 0);
    }
    show(gate->layer, out, gate->count);
}

/* The channels of several layers one after another, at each pixel. */
void randhet_concat(const struct randhet_concat *concat)
{
    randhet_value *out = randhet_memory.values + concat->out;
    int32_t term, pixel, channel, before = 0;
    for (term = 0; term < concat->terms; term++) {
        const int32_t channels = concat->channels[term];
        int32_t in = concat->in[term], place = before;
        for (pixel = concat->pixels; pixel > 0; pixel--) {
            for (channel = 0; channel < channels; channel++) {
                out[place + channel] = randhet_memory.values[in + channel];
            }
            in += channels;
            place += concat->all;
        }
        before += channels;
    }
    show(concat->layer, out, concat->count);
}

/* Each value stride rows and columns from the next, zeros elsewhere. */
void randhet_spread(const struct randhet_spread *spread)
{
    randhet_value *out = randhet_memory.values + spread->out;
    int32_t y, x, channel, in = spread->in, row = 0;
    for (x = 0; x < spread->count; x++) {
        out[x] = 0;
    }
    for (y = spread->height; y > 0; y--) {
        int32_t place = row;
        for (x = spread->width; x > 0; x--) {
            for (channel = 0; channel < spread->channels; channel++) {
                out[place + channel] = randhet_memory.values[in++];
            }
            place += spread->next;
        }
        row += spread->next_row;
    }
    show(spread->layer, out, spread->count);
}

/* (channel, row, column) to one axis, channel slowest. */
void randhet_flatten(const struct randhet_order *order)
{
    randhet_value *out = randhet_memory.values + order->out;
    int32_t pixel, channel, count = 0;
    for (channel = 0; channel < order->channels; channel++) {
        int32_t in = order->in + channel;
        for (pixel = order->pixels; pixel > 0; pixel--) {
            out[count++] = randhet_memory.values[in];
            in += order->channels;
        }
    }
    show(order->layer, out, order->count);
}

/* Add what the last layer sends to the sums of the image. */
void randhet_collect(const struct randhet_order *order)
{
    randhet_sum *sums = randhet_memory.sums;
    int32_t pixel, channel;
    for (channel = 0; channel < order->channels; channel++) {
        int32_t in = order->in + channel;
        for (pixel = order->pixels; pixel > 0; pixel--) {
            *sums++ += (randhet_sum)randhet_memory.values[in];
            in += order->channels;
        }
    }
}

/* Copy the sums of a read-out, or the last membrane potential of a leaky one. */
void randhet_copy(const struct randhet_order *order)
{
    randhet_sum *sums = randhet_memory.sums;
    int32_t pixel, channel;
    for (channel = 0; channel < order->channels; channel++) {
        int32_t in = order->in + channel;
        for (pixel = order->pixels; pixel > 0; pixel--) {
            *sums++ = (randhet_sum)randhet_memory.words[in];
            in += order->channels;
        }
    }
}

/* Add the membrane potentials of a leaky read-out to the sums of the image. */
void randhet_sum_up(const struct randhet_order *order)
{
    randhet_sum *sums = randhet_memory.sums;
    int32_t pixel, channel;
    for (channel = 0; channel < order->channels; channel++) {
        int32_t in = order->in + channel;
        for (pixel = order->pixels; pixel > 0; pixel--) {
            *sums++ += (randhet_sum)randhet_memory.words[in];
            in += order->channels;
        }
    }
}

/* Keep the largest membrane potential of a leaky read-out; before the first step it is RANDHET_START, the lowest. */
void randhet_raise(const struct randhet_order *order)
{
    randhet_sum *sums = randhet_memory.sums;
    int32_t pixel, channel;
    for (channel = 0; channel < order->channels; channel++) {
        int32_t in = order->in + channel;
        for (pixel = order->pixels; pixel > 0; pixel--) {
            const randhet_sum m = (randhet_sum)randhet_memory.words[in];
            *sums = m > *sums ? m : *sums;
            sums++;
            in += order->channels;
        }
    }
}
