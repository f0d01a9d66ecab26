/* The harness on an Arm processor with Thumb instructions, without any library, by calls of the Linux system (qemu's
 * user mode). */
#include "system.h"

#define READ 3
#define WRITE 4
#define EXIT 1

static int32_t call(int32_t number, int32_t a, uint32_t b, uint32_t c)
{
    register int32_t r0 __asm__("r0") = a;
    register uint32_t r1 __asm__("r1") = b;
    register uint32_t r2 __asm__("r2") = c;
    register int32_t r7 __asm__("r7") = number;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r1), "r"(r2), "r"(r7) : "memory");
    return r0;
}

__asm__(".section .text\n"
        ".globl _start\n"
        ".thumb_func\n"
        "_start:\n"
        "bl main\n");

#include "system_linux.h"
