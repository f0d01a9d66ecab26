/* The harness on a system with the C library. */
#include <stdio.h>
#include <stdlib.h>

#include "system.h"

void system_read(void *into, uint32_t bytes)
{
    if (fread(into, 1, bytes, stdin) != bytes) {
        exit(3);
    }
}

void system_write(const void *from, uint32_t bytes)
{
    if (fwrite(from, 1, bytes, stdout) != bytes || fflush(stdout) != 0) {
        exit(3);
    }
}

void system_exit(int status)
{
    exit(status);
}
