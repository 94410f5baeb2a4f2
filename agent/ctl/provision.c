/* provision.c - nilmctl provision: from a bare gateway to one that the broker lets in.
 *
 * In the folder: device.key (made here, mode 0600, never overwritten), device.csr (for the CA),
 * device.crt and ca.crt (when given, after they were checked), keys/ (the key ring), nilmd.conf
 * (when missing; the operator's file from then on) and conf.d/10-provision.conf (ours, replaced
 * when it differs).
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/config_keys.h"
#include "agent/ctl/cli.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/install.h"
#include "agent/ctl/verify.h"
#include "transport/pki.h"
#include "transport/topic.h"

#define NAME "provision"
#define PATH 1024

struct provision {
    const char *dir, *device, *group, *broker, *server_name, *ca, *cert, *data_dir, *model;
    struct cli_list rings;
    int json;
    char folder[PATH]; /* dir, absolute */
    char key[PATH + 32], csr[PATH + 32], crt[PATH + 32], ca_crt[PATH + 32], keys[PATH + 32];
    char conf[PATH + 32], drop_in[PATH + 64];
    int ready;
    cJSON *changed;
};

static const char template[] =
    "# nilmd.conf - made by nilmctl provision, yours to edit; it is not touched again.\n"
    "# Device, broker and certificates are in conf.d/10-provision.conf. Files in conf.d/ are read "
    "after\n"
    "# this one, in name order; later values win. nilmd --help lists every key.\n"
    "\n"
    "# One section for each meter, for example:\n"
    "#\n"
    "# [meter:kitchen]\n"
    "# type = stdin\n"
    "# on_w = 15\n"
    "# off_w = 10\n";

static int fail(int rc, const char *why)
{
    return cli_fail(rc == -ENOSPC || rc == -ENOMEM ? CLI_RETRY : CLI_FAILED, NAME, "%s", why);
}

/* rc of an install function: notes a change. Exit code. */
static int note(struct provision *p, int rc, const char *path, const char *why)
{
    if (rc < 0)
        return fail(rc, why);
    if (rc > 0)
        cJSON_AddItemToArray(p->changed, cJSON_CreateString(path));
    return CLI_DONE;
}

static int check_options(const struct provision *p)
{
    struct config scratch;
    char why[CLI_WHY] = "";
    const struct {
        const char *option, *section, *key, *value;
    } values[] = {{"broker", "broker", "url", p->broker},
                  {"server-name", "broker", "server_name", p->server_name},
                  {"data-dir", "device", "data_dir", p->data_dir}};
    if (!p->device || !p->broker)
        return cli_fail(CLI_USAGE, NAME, "--device and --broker are needed");
    if (topic_check_name(p->device) != 0 || strcmp(p->device, "group") == 0)
        return cli_fail(
            CLI_USAGE, NAME,
            "--device: \"%s\": expected 1 to 63 of A-Z a-z 0-9 . _ -, not starting with "
            "'.' or '-', not \"group\"",
            p->device);
    if (p->group && topic_check_name(p->group) != 0)
        return cli_fail(CLI_USAGE, NAME, "--group: \"%s\" is not a name", p->group);
    memset(&scratch, 0, sizeof scratch);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (values[i].value && config_keys_parse(config_keys_find(values[i].section, values[i].key),
                                                  values[i].value, &scratch, why, sizeof why) != 0)
            return cli_fail(CLI_USAGE, NAME, "--%s: %s", values[i].option, why);
    const char *const texts[] = {p->dir, p->server_name, p->data_dir, p->model};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (const char *c = texts[i]; c && *c;
             c++) /* it would become another line, or a comment */
            if ((unsigned char)*c < 32 || *c == ';' || *c == '#')
                return cli_fail(CLI_USAGE, NAME,
                                "\"%s\": control characters, ; and # cannot be used", texts[i]);
    return CLI_DONE;
}

static int make_folders(struct provision *p)
{
    char why[CLI_WHY] = "", conf_d[PATH + 32];
    int rc = install_folder(p->dir, 0755, why, sizeof why);
    if (rc < 0)
        return fail(rc, why);
    char *real = realpath(p->dir, NULL);
    int ok = real && strlen(real) < sizeof p->folder;
    if (ok)
        snprintf(p->folder, sizeof p->folder, "%s", real);
    free(real);
    if (!ok)
        return cli_fail(CLI_FAILED, NAME, "%s: the path cannot be used", p->dir);
    snprintf(p->key, sizeof p->key, "%s/device.key", p->folder);
    snprintf(p->csr, sizeof p->csr, "%s/device.csr", p->folder);
    snprintf(p->crt, sizeof p->crt, "%s/device.crt", p->folder);
    snprintf(p->ca_crt, sizeof p->ca_crt, "%s/ca.crt", p->folder);
    snprintf(p->keys, sizeof p->keys, "%s/keys", p->folder);
    snprintf(p->conf, sizeof p->conf, "%s/nilmd.conf", p->folder);
    snprintf(conf_d, sizeof conf_d, "%s/conf.d", p->folder);
    snprintf(p->drop_in, sizeof p->drop_in, "%s/10-provision.conf", conf_d);
    if ((rc = install_folder(p->keys, 0755, why, sizeof why)) < 0 ||
        (rc = install_folder(conf_d, 0755, why, sizeof why)) < 0 ||
        (p->data_dir && (rc = install_folder(p->data_dir, 0750, why, sizeof why)) < 0))
        return fail(rc, why);
    return CLI_DONE;
}

/* The key is made once; the request is made again when it would differ (another device name). ECDSA
 * signatures of mbedTLS are deterministic (RFC 6979), so the same request has the same bytes. */
static int make_key(struct provision *p)
{
    char why[CLI_WHY] = "", fresh[PATH + 64];
    struct stat st;
    int rc = pki_make_key(p->key, NULL, why, sizeof why);
    if (rc != 0 && rc != -EEXIST)
        return fail(rc, why);
    if (rc == 0)
        cJSON_AddItemToArray(p->changed, cJSON_CreateString(p->key));
    else if (stat(p->key, &st) == 0 && (st.st_mode & 077) != 0)
        fprintf(stderr,
                "nilmctl provision: warning: %s can be read by others (mode %03o); chmod 600 it\n",
                p->key, (unsigned)st.st_mode & 0777);
    snprintf(fresh, sizeof fresh, "%s.new", p->csr);
    rc = pki_make_csr(p->key, p->device, fresh, why, sizeof why);
    if (rc == 0)
        rc = install_copy(p->csr, fresh, 0644, why, sizeof why);
    unlink(fresh);
    return note(p, rc, p->csr, why);
}

/* The certificate belongs to our key, is for this device, and leads to the CA. */
static int check_certificate(const struct provision *p, const char *cert, const char *ca, int code)
{
    struct pki_cert c;
    char why[CLI_WHY] = "";
    int rc = pki_check_pair(cert, p->key, why, sizeof why);
    if (rc == 0)
        rc = pki_describe(cert, &c, why, sizeof why);
    if (rc != 0)
        return code < 0 ? CLI_FAILED : cli_fail(code, NAME, "%s", why);
    if (strcmp(c.common_name, p->device) != 0)
        return code < 0 ? CLI_FAILED
                        : cli_fail(code, NAME, "%s: is for \"%s\", this device is \"%s\"", cert,
                                   c.common_name, p->device);
    rc = pki_check_chain(cert, ca, why, sizeof why);
    if (rc == 0)
        return CLI_DONE;
    if (code < 0)
        return CLI_FAILED;
    if (cli_now_ms() / 1000 < CLI_CLOCK_MIN)
        return cli_fail(CLI_RETRY, NAME,
                        "%s; the clock of this device is not set: set it and try again", why);
    return cli_fail(code, NAME, "%s", why);
}

static int take_certificates(struct provision *p)
{
    struct pki_cert c;
    char why[CLI_WHY] = "";
    const char *ca = p->ca ? p->ca : p->ca_crt;
    int code = CLI_DONE;
    if (p->ca && pki_describe(p->ca, &c, why, sizeof why) != 0)
        return cli_fail(CLI_FAILED, NAME, "%s", why);
    if (p->cert && !p->ca && access(p->ca_crt, R_OK) != 0)
        return cli_fail(CLI_USAGE, NAME,
                        "--cert needs --ca: the certificate is checked against it");
    /* All is checked before anything is put in place. */
    if (p->cert && (code = check_certificate(p, p->cert, ca, CLI_FAILED)) != CLI_DONE)
        return code;
    if (p->ca)
        code = note(p, install_copy(p->ca_crt, p->ca, 0644, why, sizeof why), p->ca_crt, why);
    if (code == CLI_DONE && p->cert)
        code = note(p, install_copy(p->crt, p->cert, 0644, why, sizeof why), p->crt, why);
    p->ready = code == CLI_DONE && check_certificate(p, p->crt, p->ca_crt, -1) == CLI_DONE;
    return code;
}

static int take_rings(struct provision *p)
{
    char why[CLI_WHY] = "", path[PATH + 32 + NAME_MAX + 8];
    for (size_t i = 0; i < p->rings.count; i++) {
        struct pki_ring *ring = NULL;
        const char *from = p->rings.items[i], *name = strrchr(from, '/');
        name = name ? name + 1 : from;
        size_t n = strlen(name);
        if (n == 0 || n > NAME_MAX)
            return cli_fail(CLI_USAGE, NAME, "--key-ring: \"%s\" is not a file", from);
        if (pki_ring_load(from, &ring, why, sizeof why) != 0)
            return cli_fail(CLI_FAILED, NAME, "%s", why);
        pki_ring_free(ring);
        int has_suffix = n > 4 && strcmp(name + n - 4, ".pub") == 0;
        snprintf(path, sizeof path, "%s/%s%s", p->keys, name, has_suffix ? "" : ".pub");
        int code = note(p, install_copy(path, from, 0644, why, sizeof why), path, why);
        if (code != CLI_DONE)
            return code;
    }
    return CLI_DONE;
}

struct text {
    char bytes[8192];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->bytes + t->used, sizeof t->bytes - t->used, format, args);
    va_end(args);
    t->used += n > 0 ? (size_t)n : 0;
    if (t->used > sizeof t->bytes)
        t->used = sizeof t->bytes;
}

/* The absolute path of an existing file or folder, in the caller's buffer. */
static int absolute(const char *path, char out[PATH])
{
    char *real = realpath(path, NULL);
    int ok = real && strlen(real) < PATH;
    if (ok)
        snprintf(out, PATH, "%s", real);
    free(real);
    return ok ? CLI_DONE
              : cli_fail(CLI_FAILED, NAME, "%s: %s", path, strerror(errno ? errno : EINVAL));
}

static int write_configuration(struct provision *p)
{
    struct text t = {.used = 0};
    struct verify_report report;
    char why[CLI_WHY] = "", data[PATH], model[PATH];
    int code;
    if (access(p->conf, F_OK) != 0 &&
        (code =
             note(p, install_bytes(p->conf, template, sizeof template - 1, 0644, why, sizeof why),
                  p->conf, why)) != CLI_DONE)
        return code;
    add(&t,
        "# Written by nilmctl provision, which replaces it. Own settings go into another file.\n");
    add(&t, "[device]\nid = %s\n", p->device);
    if (p->group)
        add(&t, "group = %s\n", p->group);
    if (p->data_dir) {
        if ((code = absolute(p->data_dir, data)) != CLI_DONE)
            return code;
        add(&t, "data_dir = %s\n", data);
    }
    add(&t, "\n[broker]\nurl = %s\nca = %s\ncert = %s\nkey = %s\n", p->broker, p->ca_crt, p->crt,
        p->key);
    if (p->server_name)
        add(&t, "server_name = %s\n", p->server_name);
    add(&t, "\n[model]\nkeys = %s\n", p->keys);
    if (p->model) {
        verify_file(p->model, p->keys, &report);
        if (!report.ok)
            return cli_fail(CLI_FAILED, NAME, "--model %s: %s", p->model, report.why);
        if ((code = absolute(p->model, model)) != CLI_DONE)
            return code;
        add(&t, "file = %s\n", model);
    }
    if (t.used == sizeof t.bytes)
        return cli_fail(CLI_USAGE, NAME, "the paths are too long");
    return note(p, install_bytes(p->drop_in, t.bytes, t.used, 0644, why, sizeof why), p->drop_in,
                why);
}

static int report(struct provision *p)
{
    int changes = cJSON_GetArraySize(p->changed);
    if (p->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "device", p->device);
        cJSON_AddStringToObject(o, "key", p->key);
        cJSON_AddStringToObject(o, "csr", p->csr);
        cJSON_AddStringToObject(o, "cert", p->crt);
        cJSON_AddStringToObject(o, "state", p->ready ? "ready" : "csr_ready");
        cJSON_AddItemToObject(o, "changed", p->changed);
        p->changed = NULL;
        return cli_print_json(o);
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, p->changed) printf("written    %s\n", item->valuestring);
    if (changes == 0)
        printf("nothing to change\n");
    printf("key        %s (stays on this device)\n", p->key);
    if (p->ready)
        printf("ready      add its meters to %s,\n"
               "           check it: nilmctl doctor --config %s, start it: nilmd --config %s\n",
               p->conf, p->conf, p->conf);
    else
        printf("request    %s\n"
               "next       have your CA sign the request, then run this again with\n"
               "           --ca CA --cert CERTIFICATE added\n",
               p->csr);
    return CLI_DONE;
}

static int run(struct provision *p)
{
    static int (*const steps[])(struct provision *) = {
        make_folders, make_key, take_certificates, take_rings, write_configuration, report};
    int code = check_options(p);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && code == CLI_DONE; i++)
        code = steps[i](p);
    return code;
}

int ctl_provision(int argc, char **argv)
{
    struct provision p = {.dir = "/etc/nilmd"};
    const struct cli_option options[] = {
        {"dir", CLI_TEXT, &p.dir, "DIR", "folder of the configuration (/etc/nilmd)", 0, 0},
        {"device", CLI_TEXT, &p.device, "NAME", "name of this gateway: topics, certificate", 0, 0},
        {"broker", CLI_TEXT, &p.broker, "URL", "mqtts://HOST[:8883]", 0, 0},
        {"server-name", CLI_TEXT, &p.server_name, "NAME",
         "in the broker's certificate, when not HOST", 0, 0},
        {"group", CLI_TEXT, &p.group, "NAME", "group whose pushes it follows too", 0, 0},
        {"ca", CLI_TEXT, &p.ca, "FILE", "certificate of the CA (PEM)", 0, 0},
        {"cert", CLI_TEXT, &p.cert, "FILE", "certificate that the CA made from the request (PEM)",
         0, 0},
        {"key-ring", CLI_MANY, &p.rings, "FILE", "public key that may sign models; may be repeated",
         0, 0},
        {"data-dir", CLI_TEXT, &p.data_dir, "DIR", "database and models (/var/lib/nilmd)", 0, 0},
        {"model", CLI_TEXT, &p.model, "FILE", "model until a pushed one is active", 0, 0},
        {"json", CLI_FLAG, &p.json, NULL, "one JSON object on standard output", 0, 0},
        {0}};
    const struct cli_command command = {
        "provision", "", 0,
        "Makes the key of this gateway (it never leaves it), the certificate request and the\n"
        "configuration; with --ca and --cert checks and installs the certificate. Running it "
        "again\n"
        "with the same options changes only what differs, and never the key.",
        options};
    int code = cli_parse(&command, argc, argv, NULL);
    if (code != CLI_GO)
        return code;
    p.changed = cJSON_CreateArray();
    code = p.changed ? run(&p) : cli_fail(CLI_RETRY, NAME, "out of memory");
    cJSON_Delete(p.changed);
    return code;
}
