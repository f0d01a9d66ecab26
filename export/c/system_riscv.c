/* The harness on a RISC-V processor without any library, by calls of the Linux system (qemu's user mode). */
#include "system.h"

#define READ 63
#define WRITE 64
#define EXIT 93

static int32_t call(int32_t number, int32_t a, uint32_t b, uint32_t c)
{
    register int32_t a0 __asm__("a0") = a;
    register uint32_t a1 __asm__("a1") = b;
    register uint32_t a2 __asm__("a2") = c;
    register int32_t a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}

/* The global pointer is the linker's; the stack is the system's. */
__asm__(".section .text\n"
        ".globl _start\n"
        "_start:\n"
        ".option push\n"
        ".option norelax\n"
        "la gp, __global_pointer$\n"
        ".option pop\n"
        "j main\n");

#include "system_linux.h"
