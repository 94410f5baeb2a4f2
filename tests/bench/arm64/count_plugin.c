/* count_plugin.c - a plug-in for qemu-user that prints how many instructions the guest executed.
 * Debian packages neither qemu's own plug-ins nor the header, so the few declarations needed are
 * repeated here (qemu 7.2, include/qemu/qemu-plugin.h, API version 1).
 *
 * Each translated block adds its number of instructions when it is entered. One thread only. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
                                           void (*cb)(plugin_id id, struct qemu_plugin_tb *tb));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *counter,
                                              uint64_t add);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*cb)(plugin_id id, void *data), void *data);
void qemu_plugin_outs(const char *text);

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);
extern int qemu_plugin_version;

int qemu_plugin_version = 1;
static uint64_t executed;

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    enum { ADD_U64 = 0 };

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &executed, qemu_plugin_tb_n_insns(tb));
}

static void finished(plugin_id id, void *data)
{
    char text[32];

    (void)id;
    (void)data;
    snprintf(text, sizeof(text), "%" PRIu64 "\n", executed);
    qemu_plugin_outs(text);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
