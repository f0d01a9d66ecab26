/* Read, write and exit of the system that the harness runs on. A short read or write ends the program with status 3. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdint.h>

void system_read(void *into, uint32_t bytes);
void system_write(const void *from, uint32_t bytes);
void system_exit(int status);

#endif
