/* What `randhet run --backend c` and the tests run: images and start states of the registers in, integers out.
 *
 * In, on standard input: the number of images (4 bytes), whether they are pieces of one recording (4 bytes), a byte per
 * layer that says whether it is traced, the states of the registers (4 bytes each), the images, or the frames of all
 * recordings (randhet_value each). Out, for each image: what traced layers send (output and
 * membrane potential, 4 bytes each), the sums (8 bytes each), spikes per layer (8 bytes each), saturations (4 bytes).
 * Built without RANDHET_TRACE nothing is traced and no spikes are counted. All numbers begin with their lowest byte.
 *
 * It needs three functions of the system: see system.h.
 */
#include "randhet.h"
#include "system.h"

#define BUFFER 4096

static unsigned char buffer[BUFFER];
static uint32_t filled;
static randhet_value frame[RANDHET_INPUTS];
static unsigned char traced[RANDHET_LAYERS];
#ifdef RANDHET_TRACE
static uint64_t spikes[RANDHET_LAYERS];
#endif

static void flush(void)
{
    system_write(buffer, filled);
    filled = 0u;
}

static void put(uint64_t number, int bytes)
{
    for (; bytes > 0; bytes--) {
        if (filled == BUFFER) {
            flush();
        }
        buffer[filled++] = (unsigned char)(number & 255u);
        number >>= 8;
    }
}

static uint32_t get(uint32_t bytes)
{
    unsigned char in[4];
    uint32_t number = 0u;
    system_read(in, bytes);
    for (; bytes > 0u; bytes--) {
        number = (number << 8) | in[bytes - 1u];
    }
    return number;
}

#ifdef RANDHET_TRACE
void randhet_seen(int32_t layer, int32_t output, int32_t membrane)
{
    if (output > 0) {
        spikes[layer] += (uint32_t)output;
    }
    if (traced[layer] != 0u) {
        put((uint32_t)output, 4);
        put((uint32_t)membrane, 4);
    }
}
#endif

static void answer(void)
{
    int32_t i;
    for (i = 0; i < RANDHET_OUTPUTS; i++) {
        put((uint64_t)(int64_t)randhet_sums()[i], 8);
    }
    for (i = 0; i < RANDHET_LAYERS; i++) {
#ifdef RANDHET_TRACE
        put(spikes[i], 8);
        spikes[i] = 0u;
#else
        put(0u, 8);
#endif
    }
    put(randhet_saturations(), 4);
}

/* All steps of one image, whose frames are read as they are needed; processors that run this are little-endian. */
static void show(void)
{
    int32_t step;
    for (step = 0; step < RANDHET_STEPS; step++) {
        if (step == 0 || RANDHET_FRAME != 0) {
            system_read(frame, sizeof frame);
        }
        randhet_step(frame);
    }
}

int main(void)
{
    uint32_t images = get(4u);
    const uint32_t stream = get(4u);
    int32_t i;
    uint32_t *registers = randhet_registers();
    system_read(traced, sizeof traced);
    for (i = 0; i < RANDHET_CORES; i++) {
        registers[i] = get(4u);
    }
    randhet_reset();
    for (; images > 0u; images--) {
        show();
        answer();
        if (stream == 0u) {
            randhet_reset();
        }
    }
    flush();
    system_exit(0);
    return 0;
}
