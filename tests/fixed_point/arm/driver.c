/* Calls one kernel: reads its arguments and their memory, writes what it returned and the memory as it left it.

Input: the numbers of arguments and of bytes of memory; for each argument whether it is a place in memory, and the place
or the number itself; the memory. Output: the status, eight words of the result, the memory. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include CALLED

/* What numba's arrays need of its runtime; nothing is given back, for the program is short. */
struct info { int64_t references; void *dtor, *dtor_info; void *data; int64_t size; void *more; };

void *NRT_MemInfo_alloc_aligned(int64_t size, int align)
{
    struct info *info = calloc(1, sizeof *info);
    info->references = 1;
    info->size = size;
    /* memory that a kernel must not take for zero */
    info->data = memset(aligned_alloc(64, (size + 127) / 64 * 64), 0xa5, (size + 127) / 64 * 64);
    return info;
}

void *NRT_MemInfo_alloc_safe_aligned(int64_t size, int align) { return NRT_MemInfo_alloc_aligned(size, align); }
void *NRT_MemInfo_alloc(int64_t size) { return NRT_MemInfo_alloc_aligned(size, 64); }
void *NRT_MemInfo_alloc_safe(int64_t size) { return NRT_MemInfo_alloc_aligned(size, 64); }
void NRT_MemInfo_call_dtor(void *info) { }
void NRT_Free(void *data) { }

/* Arrays here lie row by row, so that any shape of as many elements will do. */
int numba_attempt_nocopy_reshape(int64_t old_axes, const int64_t *old, const int64_t *old_strides, int64_t axes,
                                 const int64_t *shape, int64_t *strides, int64_t size, int fortran)
{
    for (int64_t axis = axes; axis-- > 0; size *= shape[axis])
        strides[axis] = size;
    return 1;
}

static void get(void *data, size_t size)
{
    if (fread(data, 1, size, stdin) != size) exit(3);
}

int main(void)
{
    int64_t counts[2], result[8] = {0}, status;
    void *error = 0;
    get(counts, sizeof counts);
    int64_t (*given)[2] = malloc(counts[0] * sizeof *given);
    long *arguments = malloc(counts[0] * sizeof *arguments);
    char *memory = aligned_alloc(64, (counts[1] + 64) / 64 * 64);
    get(given, counts[0] * sizeof *given);
    get(memory, counts[1]);
    for (int64_t i = 0; i < counts[0]; i++)
        arguments[i] = given[i][1] + (given[i][0] ? (long)memory : 0);
    status = CALL(result, &error, arguments);
    fwrite(&status, sizeof status, 1, stdout);
    fwrite(result, sizeof result, 1, stdout);
    fwrite(memory, 1, counts[1], stdout);
    return 0;
}
