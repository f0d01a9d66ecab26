/* A plugin of qemu (interface 1, of qemu 7.2) that counts the instructions of a run: at its end it prints the address of
 * every block of instructions and how many of them were executed. Prototypes as in qemu-plugin.h, which Debian does not
 * package. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BLOCKS 65536

struct qemu_plugin_tb;
typedef uint64_t qemu_plugin_id_t;

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int add, void *to, uint64_t number);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *), void *data);

int qemu_plugin_version = 1;

static struct {
    uint64_t address, executed;
} blocks[BLOCKS];
static size_t known;

/* Blocks that find no place share the last one, whose address is 0: their instructions have no name. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    if (known < BLOCKS - 1) {
        blocks[known++].address = qemu_plugin_tb_vaddr(block);
    } else {
        known = BLOCKS;
    }
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &blocks[known - 1].executed, qemu_plugin_tb_n_insns(block));
}

static void ended(qemu_plugin_id_t id, void *data)
{
    size_t i;
    (void)id;
    (void)data;
    for (i = 0; i < known; i++) {
        fprintf(stderr, "%llu %llu\n", (unsigned long long)blocks[i].address, (unsigned long long)blocks[i].executed);
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
