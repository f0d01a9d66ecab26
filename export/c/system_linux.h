/* The three functions of system.h, from `call` and the numbers of the system's calls. */

void system_exit(int status)
{
    for (;;) {
        (void)call(EXIT, status, 0u, 0u);
    }
}

/* Calls may move less than asked for. */
static void move(int32_t number, int32_t file, uint32_t at, uint32_t bytes)
{
    while (bytes > 0u) {
        const int32_t moved = call(number, file, at, bytes);
        if (moved <= 0) {
            system_exit(3);
        }
        at += (uint32_t)moved;
        bytes -= (uint32_t)moved;
    }
}

void system_read(void *into, uint32_t bytes)
{
    move(READ, 0, (uint32_t)(uintptr_t)into, bytes);
}

void system_write(const void *from, uint32_t bytes)
{
    move(WRITE, 1, (uint32_t)(uintptr_t)from, bytes);
}
