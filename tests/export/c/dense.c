/* An int8 network without time steps, for comparison: the layers of `layers.h` in one pass, ReLU for neurons.
 *
 * Activations are unsigned bytes, (row, column, channel); weights are signed bytes, (output channel, row, column, input
 * channel), so that a row of taps is one run of products. y = min(max((sum + bias) >> shift, 0), 255). It multiplies data
 * and indices. In, on standard input: the number of images (4 bytes), the images; out: the class scores (4 bytes each). */
#include "layers.h"

#include "system.h"

static uint8_t image[INPUTS];
static uint8_t memory[MEMORY];
static int32_t scores[OUTPUTS];

/* Sum of products of a run; eight at a time, as the multiplication-free kernels add eight weights at a time. */
static int32_t products(const int8_t *weight, const uint8_t *value, int32_t count)
{
    int32_t total = 0;
    for (; count >= 8; count -= 8) {
        total += weight[0] * value[0];
        total += weight[1] * value[1];
        total += weight[2] * value[2];
        total += weight[3] * value[3];
        total += weight[4] * value[4];
        total += weight[5] * value[5];
        total += weight[6] * value[6];
        total += weight[7] * value[7];
        weight += 8;
        value += 8;
    }
    for (; count > 0; count--) {
        total += *weight++ * *value++;
    }
    return total;
}

static uint8_t limited(int32_t value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* The part low..high of a window of `taps` that begins at `first` and lies within `size`. */
static void inside(int32_t first, int32_t taps, int32_t size, int32_t *low, int32_t *high)
{
    *low = first < 0 ? -first : 0;
    *high = first + taps > size ? size - first : taps;
}

void dense_conv(const struct conv *conv)
{
    const int32_t row = conv->columns * conv->channels, line = conv->width * conv->channels;
    uint8_t *out = memory + conv->out;
    int32_t y, x, o, r, top, bottom, left, right;
    for (y = 0; y < conv->down; y++) {
        const int32_t first_y = y * conv->stride - conv->padding;
        inside(first_y, conv->rows, conv->height, &top, &bottom);
        for (x = 0; x < conv->across; x++) {
            const int32_t first_x = x * conv->stride - conv->padding;
            const int8_t *kernel = conv->weight;
            inside(first_x, conv->columns, conv->width, &left, &right);
            for (o = 0; o < conv->outputs; o++) {
                const int8_t *weight = kernel + top * row + left * conv->channels;
                const uint8_t *value = memory + conv->in + (first_y + top) * line + (first_x + left) * conv->channels;
                int32_t total = conv->bias[o];
                for (r = top; r < bottom; r++) {
                    total += products(weight, value, (right - left) * conv->channels);
                    weight += row;
                    value += line;
                }
                *out++ = limited(total >> conv->shift);
                kernel += conv->rows * row;
            }
        }
    }
}

void dense_add(int32_t a, int32_t b, int32_t out, int32_t count)
{
    int32_t i;
    for (i = 0; i < count; i++) {
        memory[out + i] = limited(memory[a + i] + memory[b + i]);
    }
}

/* Mean over all pixels, 2^shift of them. */
void dense_pool(int32_t in, int32_t out, int32_t pixels, int32_t channels, int32_t shift)
{
    int32_t pixel, channel;
    for (channel = 0; channel < channels; channel++) {
        int32_t total = 0;
        for (pixel = 0; pixel < pixels; pixel++) {
            total += memory[in + pixel * channels + channel];
        }
        memory[out + channel] = limited(total >> shift);
    }
}

void dense_scores(const int8_t *weight, const int32_t *bias, int32_t in, int32_t count)
{
    int32_t o;
    for (o = 0; o < OUTPUTS; o++) {
        scores[o] = bias[o] + products(weight, memory + in, count);
        weight += count;
    }
}

int main(void)
{
    uint32_t images;
    int32_t i;
    system_read((unsigned char *)&images, sizeof images);
    for (; images > 0u; images--) {
        system_read(image, sizeof image);
        for (i = 0; i < INPUTS; i++) {
            memory[i] = image[i];
        }
        dense_network();
        system_write((const unsigned char *)scores, sizeof scores);
    }
    system_exit(0);
    return 0;
}
