#include "agent/config.h"
#include "agent/calendar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/config_keys.h"
#include "agent/periods.h"
#include "transport/topic.h"

#define LINE_BYTES 2560 /* longest line, a little more than the longest value */
#define SECTION_BYTES 96
#define NO_METER CONFIG_METERS

/* Where a key was set last: duplicates within a file, and messages about combinations, need it. */
struct setting {
    const struct config_key *key;
    size_t meter; /* or NO_METER */
    int file, line;
};

struct loader {
    struct config *config;
    char *files[CONFIG_MAX_FILES];
    int file_count, line;
    const char *text; /* of the current file; pos..size is unread */
    size_t size, pos;
    char section[SECTION_BYTES]; /* as written; inih cuts names at 49 characters */
    int section_line[CONFIG_METERS], section_file[CONFIG_METERS];
    int shift_file[SHIFT_MAX];
    struct setting *settings;
    size_t setting_count, setting_room;
    int rc;
    char *why;
    size_t why_size;
};

/* The first error stays. Returns 0, which ends inih's handler with an error. */
__attribute__((format(printf, 5, 6))) static int fail(struct loader *l, int rc, int file, int line,
                                                      const char *format, ...)
{
    if (l->rc < 0)
        return 0;
    l->rc = rc;
    int n = line > 0 ? snprintf(l->why, l->why_size, "%s:%d: ", l->files[file], line)
                     : snprintf(l->why, l->why_size, "%s: ", l->files[file]);
    if (n < 0 || (size_t)n >= l->why_size)
        return 0;
    va_list args;
    va_start(args, format);
    vsnprintf(l->why + n, l->why_size - (size_t)n, format, args);
    va_end(args);
    return 0;
}

#define FAIL(...) fail(l, -EINVAL, l->file_count - 1, l->line, __VA_ARGS__)

static void set_default(const struct config_key *key, void *base)
{
    char why[256];
    if (key->fallback)
        config_keys_parse(key, key->fallback, base, why, sizeof why);
}

/* Index of the meter, made with its defaults when it is new; NO_METER when there is no room. */
static size_t find_meter(struct loader *l, const char *name)
{
    struct config *c = l->config;
    for (size_t i = 0; i < c->meter_count; i++)
        if (strcmp(c->meters[i].meter.name, name) == 0)
            return i;
    if (c->meter_count == CONFIG_METERS) {
        FAIL("[meter:%.63s]: expected at most %d meters", name, CONFIG_METERS);
        return NO_METER;
    }
    struct config_meter *grown = realloc(c->meters, (c->meter_count + 1) * sizeof *grown);
    if (!grown) {
        fail(l, -ENOMEM, l->file_count - 1, l->line, "out of memory");
        return NO_METER;
    }
    c->meters = grown;
    struct config_meter *m = &grown[c->meter_count];
    memset(m, 0, sizeof *m);
    snprintf(m->meter.name, sizeof m->meter.name, "%s", name);
    for (size_t i = 0; i < config_key_count; i++)
        if (config_keys[i].types)
            set_default(&config_keys[i], m);
    l->section_file[c->meter_count] = l->file_count - 1;
    l->section_line[c->meter_count] = l->line;
    return c->meter_count++;
}

/* A section header was read: is it one of ours? A meter exists from here on, even without keys. */
static int enter_section(struct loader *l, const char *line)
{
    const char *end = strchr(line, ']');
    const size_t n = end ? (size_t)(end - line - 1) : 0;
    if (!end)
        return FAIL("expected ] at the end of the section name");
    if (n == 0 || n >= sizeof l->section)
        return FAIL("expected a section name of 1 to %zu characters", sizeof l->section - 1);
    memcpy(l->section, line + 1, n);
    l->section[n] = '\0';
    if (strncmp(l->section, "meter:", 6) == 0) {
        const char *name = l->section + 6;
        if (topic_check_name(name) < 0 || name[0] == '_')
            return FAIL("[%s]: expected meter:NAME with NAME of 1 to 63 of A-Z a-z 0-9 . _ - (not "
                        "starting with . _ or -)",
                        l->section);
        return find_meter(l, name) != NO_METER;
    }
    if (strcmp(l->section, "shifts") == 0)
        return 1;
    if (strcmp(l->section, "meter") == 0 || !config_keys_section(l->section))
        return FAIL(
            "[%s]: unknown section; expected device, broker, model, outbox, history, report, log, "
            "shifts or meter:NAME",
            l->section);
    return 1;
}

/* inih's reader: one line of the file in memory. Counts lines and sees sections, which inih does
 * not report when empty. */
static char *read_line(char *line, int size, void *context)
{
    struct loader *l = context;
    if (l->pos == l->size || l->rc < 0)
        return NULL;
    const char *start = l->text + l->pos;
    const char *end = memchr(start, '\n', l->size - l->pos);
    size_t n = (size_t)(end - start) + 1; /* there is one: check_text */
    l->line++;
    if (n + 3 > (size_t)size || n > LINE_BYTES) {
        FAIL("expected lines of at most %d characters, found one of %zu", LINE_BYTES, n - 1);
        return NULL;
    }
    l->pos += n;
    memcpy(line, start, n);
    line[n] = '\0';
    const char *word = line + strspn(line, " \t");
    if (l->line == 1 && strncmp(word, "\xEF\xBB\xBF", 3) == 0)
        word += 3;
    return *word == '[' && !enter_section(l, word) ? NULL : line;
}

static struct setting *find_setting(struct loader *l, const struct config_key *key, size_t meter)
{
    for (size_t i = 0; i < l->setting_count; i++)
        if (l->settings[i].key == key && l->settings[i].meter == meter)
            return &l->settings[i];
    return NULL;
}

/* Remembers where a key was set; a second time in the same file is an error. */
static int note_setting(struct loader *l, const struct config_key *key, size_t meter)
{
    struct setting *s = find_setting(l, key, meter);
    const int file = l->file_count - 1;
    if (s && s->file == file)
        return FAIL("[%s] %s: given twice, first on line %d", l->section, key->name, s->line);
    if (!s) {
        if (l->setting_count == l->setting_room) {
            const size_t room = l->setting_room ? l->setting_room * 2 : 64;
            struct setting *grown = realloc(l->settings, room * sizeof *grown);
            if (!grown)
                return fail(l, -ENOMEM, file, l->line, "out of memory");
            l->settings = grown;
            l->setting_room = room;
        }
        s = &l->settings[l->setting_count++];
    }
    *s = (struct setting){key, meter, file, l->line};
    return 1;
}

/* A shift: the key is its name. A later file overrides one of the same name. */
static int take_shift(struct loader *l, const char *name, const char *value)
{
    struct config *c = l->config;
    struct shift s = {.days = 0};
    char why[128];
    size_t i = 0;
    if (strlen(name) >= sizeof s.name)
        return FAIL("[shifts] %.60s: expected a name of at most %zu characters", name,
                    sizeof s.name - 1);
    snprintf(s.name, sizeof s.name, "%s", name);
    while (i < c->shift_count && strcmp(c->shifts[i].name, name) != 0)
        i++;
    if (i == SHIFT_MAX)
        return FAIL("[shifts] %s: expected at most %d shifts", name, SHIFT_MAX);
    if (i < c->shift_count && l->shift_file[i] == l->file_count)
        return FAIL("[shifts] %s: given twice", name);
    if (shift_parse(value, &s, why, sizeof why) < 0)
        return FAIL("[shifts] %s: %s", name, why);
    c->shifts[i] = s;
    l->shift_file[i] = l->file_count;
    c->shift_count += i == c->shift_count;
    return 1;
}

static int handle(void *context, const char *section, const char *name, const char *value)
{
    struct loader *l = context;
    (void)section; /* cut to 49 characters; ours is whole */
    if (l->rc < 0)
        return 0;
    if (l->section[0] == '\0')
        return FAIL("%.60s: expected a [section] before the first key", name);
    if (strcmp(l->section, "shifts") == 0)
        return take_shift(l, name, value);
    const int of_meter = strncmp(l->section, "meter:", 6) == 0;
    const struct config_key *key = config_keys_find(of_meter ? "meter" : l->section, name);
    if (!key)
        return FAIL("[%s] %.60s: unknown key (nilmd --help lists them)", l->section, name);
    size_t meter = NO_METER;
    void *base = l->config;
    if (of_meter) {
        meter = find_meter(l, l->section + 6);
        if (meter == NO_METER)
            return 0;
        base = &l->config->meters[meter];
    }
    char why[256];
    const int empty = value[0] == '\0' && !key->fallback && key->kind != CONFIG_DATE;
    if (!(empty && key->kind == CONFIG_CHOICE) &&
        config_keys_parse(key, value, base, why, sizeof why) == 0)
        return note_setting(l, key, meter);
    return FAIL("[%s] %s: %s", l->section, name, empty ? "expected a value" : why);
}

/* Text means: UTF-8 or at least no control bytes, and a line end at the very end. */
static int check_text(struct loader *l, int file, const char *text, size_t size)
{
    int line = 1;
    for (size_t i = 0; i < size; i++) {
        const unsigned char byte = (unsigned char)text[i];
        if (byte == '\n')
            line++;
        else if ((byte < 0x20 && byte != '\t' && byte != '\r') || byte == 0x7f || byte >= 0xfe)
            return fail(l, -EBADMSG, file, line,
                        "expected text, found the byte 0x%02x: binary or damaged file", byte);
    }
    if (size > 0 && text[size - 1] != '\n')
        return fail(l, -EBADMSG, file, line,
                    "expected a line end after the last line: is the file half-written?");
    return 1;
}

/* Reads the whole file at path into *text. A drop-in may be empty. */
static int read_file(struct loader *l, const char *path, char **text, size_t *size)
{
    const int file = l->file_count - 1;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hang us */
    struct stat st;
    *text = NULL;
    if (fd < 0 || fstat(fd, &st) < 0) {
        fail(l, -errno, file, 0, "cannot be read: %s", strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        fail(l, -EINVAL, file, 0, "expected a regular file");
        goto out;
    }
    *text = malloc(CONFIG_MAX_BYTES + 1);
    if (!*text) {
        fail(l, -ENOMEM, file, 0, "out of memory");
        goto out;
    }
    *size = 0;
    for (ssize_t n; *size <= CONFIG_MAX_BYTES; *size += (size_t)n) {
        n = read(fd, *text + *size, CONFIG_MAX_BYTES + 1 - *size);
        if (n < 0)
            fail(l, -errno, file, 0, "cannot be read: %s", strerror(errno));
        if (n <= 0)
            break;
    }
    if (*size > CONFIG_MAX_BYTES)
        fail(l, -EFBIG, file, 0, "expected at most %u bytes", CONFIG_MAX_BYTES);
    else if (*size == 0 && file == 0)
        fail(l, -EBADMSG, file, 0, "the file is empty; expected at least [device] with id");
out:
    if (fd >= 0)
        close(fd);
    return l->rc;
}

static int load_file(struct loader *l, const char *path)
{
    char *text = NULL, *name = strdup(path);
    size_t size = 0;
    if (!name) {
        snprintf(l->why, l->why_size, "out of memory");
        return l->rc = -ENOMEM;
    }
    l->files[l->file_count++] = name;
    if (read_file(l, path, &text, &size) == 0 && check_text(l, l->file_count - 1, text, size)) {
        l->text = text;
        l->size = size;
        l->pos = 0;
        l->line = 0;
        l->section[0] = '\0';
        const int line = ini_parse_stream(read_line, l, handle, l);
        if (line > 0)
            fail(l, -EINVAL, l->file_count - 1, line,
                 "expected [section], key = value or ; comment");
        else if (line < 0)
            fail(l, -ENOMEM, l->file_count - 1, 0, "out of memory");
    }
    free(text);
    return l->rc;
}

static int is_drop_in(const struct dirent *entry)
{
    const size_t n = strlen(entry->d_name);
    return n > 5 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* not alphasort: the locale has no say */
}

static int load_drop_ins(struct loader *l, const char *path)
{
    char folder[4096], file[4096 + 256];
    const char *slash = strrchr(path, '/');
    const int dir = slash ? (int)(slash - path) + 1 : 0;
    snprintf(folder, sizeof folder, "%.*sconf.d", dir, path);
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, is_drop_in, by_name);
    if (count < 0 && errno != ENOENT) {
        snprintf(l->why, l->why_size, "%s: cannot be read: %s", folder, strerror(errno));
        return l->rc = -errno;
    }
    for (int i = 0; i < count; i++) {
        snprintf(file, sizeof file, "%s/%s", folder, entries[i]->d_name);
        if (l->rc == 0 && l->file_count == CONFIG_MAX_FILES) {
            snprintf(l->why, l->why_size, "%s: expected at most %d files", folder,
                     CONFIG_MAX_FILES - 1);
            l->rc = -E2BIG;
        }
        if (l->rc == 0)
            load_file(l, file);
        free(entries[i]);
    }
    free(entries);
    return l->rc;
}

/* An error about a combination, told at the line that set key (or at the file, when nothing did).
 */
static void complain(struct loader *l, const char *section, const char *name, size_t meter,
                     const char *text)
{
    const struct setting *s = find_setting(l, config_keys_find(section, name), meter);
    char title[SECTION_BYTES];
    snprintf(title, sizeof title, "%s%s%s", section, meter == NO_METER ? "" : ":",
             meter == NO_METER ? "" : l->config->meters[meter].meter.name);
    if (s)
        fail(l, -EINVAL, s->file, s->line, "[%s] %s: %s", title, name, text);
    else if (meter != NO_METER)
        fail(l, -EINVAL, l->section_file[meter], l->section_line[meter], "[%s] %s: %s", title, name,
             text);
    else
        fail(l, -EINVAL, 0, 0, "[%s] %s: %s", title, name, text);
}

/* Three names separated by blanks become three separated by line ends. */
static int split_columns(char *text)
{
    char names[3][128], more;
    if (sscanf(text, "%79s %79s %79s %c", names[0], names[1], names[2], &more) != 3)
        return -EINVAL;
    snprintf(text, sizeof((struct config_meter *)0)->columns, "%s\n%s\n%s", names[0], names[1],
             names[2]);
    return 0;
}

static void check_meter(struct loader *l, size_t i)
{
    struct config_meter *m = &l->config->meters[i];
    struct source_config *s = &m->source;
    if (s->type == 0) {
        complain(l, "meter", "type", i, "required; expected one of replay, stdin, sim");
        return;
    }
    for (size_t k = 0; k < l->setting_count; k++) {
        const struct setting *set = &l->settings[k];
        if (set->meter == i && !(set->key->types & 1u << (s->type - 1)))
            complain(l, "meter", set->key->name, i, "does not belong to a meter of this type");
    }
    if (s->type == SOURCE_REPLAY && !m->files[0])
        complain(l, "meter", "files", i,
                 "required by type = replay; expected files, folders or globs");
    if (s->type == SOURCE_SIM && !m->appliance[0])
        complain(l, "meter", "appliance", i,
                 "required by type = sim; expected the name of an appliance");
    if (s->type == SOURCE_SIM && !m->meter.mains && strchr(m->appliance, ' '))
        complain(l, "meter", "appliance", i, "expected one; several make a meter of kind = mains");
    if (m->meter.off_w >= m->meter.on_w)
        complain(l, "meter", "off_w", i, "expected less than on_w");
    if (machine_parse(m->states, &m->machine) < 0)
        complain(l, "meter", "states", i, "expected off, auto, W1 or W1,W2 with W1 less than W2");
    if (m->machine.events && m->machine.mode == MACHINE_NONE)
        complain(l, "meter", "state_events", i, "expected states = auto or limits beside it");
    for (size_t k = 0; k < i; k++)
        if (s->type == SOURCE_STDIN && l->config->meters[k].source.type == SOURCE_STDIN)
            complain(l, "meter", "type", i, "only one meter can read the standard input");
    m->meter.quality = s->type == SOURCE_STDIN ? EVENT_CLOCK : EVENT_TRACE;
    snprintf(m->machine.meter, sizeof m->machine.meter, "%s", m->meter.name);
    m->machine.on_w = m->meter.on_w;
    m->machine.off_w = m->meter.off_w;
    m->machine.gap_ms = m->meter.max_gap_ms;
    m->machine.live = s->type == SOURCE_STDIN;
    s->files = m->files[0] ? m->files : NULL;
    if (m->columns[0] && (m->column[0] || split_columns(m->columns) < 0))
        complain(l, "meter", "columns", i, "expected three names, separated by blanks, and no column beside them");
    s->column = m->columns[0] ? m->columns : m->column[0] ? m->column : NULL;
    s->appliance = m->appliance[0] ? m->appliance : NULL;
    s->truth = m->truth[0] ? m->truth : NULL;
}

static int check(struct loader *l)
{
    const struct config *c = l->config;
    if (!c->device[0])
        complain(l, "device", "id", NO_METER, "required; expected a name");
    if (!c->data_dir[0])
        complain(l, "device", "data_dir", NO_METER, "expected a folder");
    if (c->broker_host[0] && !c->ca[0])
        complain(l, "broker", "ca", NO_METER, "required with url; expected a PEM file");
    if (c->cert[0] && !c->key[0])
        complain(l, "broker", "key", NO_METER, "required with cert; expected a PEM file");
    if (c->key[0] && !c->cert[0])
        complain(l, "broker", "cert", NO_METER, "required with key; expected a PEM file");
    if (c->password_file[0] && !c->username[0])
        complain(l, "broker", "username", NO_METER, "required with password_file");
    struct periods periods;
    char why[512];
    if (c->timezone[0] && calendar_check(c->timezone, why, sizeof why) < 0)
        complain(l, "device", "timezone", NO_METER, why);
    if (periods_parse(c->tariff, &periods, why, sizeof why) < 0)
        complain(l, "report", "tariff", NO_METER, why);
    if (c->meter_count == 0)
        fail(l, -EINVAL, 0, 0, "[meter:NAME]: expected at least one meter");
    for (size_t i = 0; i < c->meter_count && l->rc == 0; i++)
        check_meter(l, i);
    return l->rc;
}

int config_load(const char *path, struct config **out, char *why, size_t why_size)
{
    struct loader l = {.why = why, .why_size = why_size};
    *out = NULL;
    l.config = calloc(1, sizeof *l.config);
    if (!l.config) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    /* Debian's inih takes these at run time. Continued lines would turn an indented key into part
     * of the value above. */
    ini_use_stack = false;
    ini_max_line = LINE_BYTES + 8;
    ini_initial_alloc = LINE_BYTES + 8;
    ini_allow_multiline = false;
    for (size_t i = 0; i < config_key_count; i++)
        if (!config_keys[i].types)
            set_default(&config_keys[i], l.config);
    if (load_file(&l, path) == 0 && load_drop_ins(&l, path) == 0)
        check(&l);
    for (int i = 0; i < l.file_count; i++)
        free(l.files[i]);
    free(l.settings);
    if (l.rc < 0)
        config_free(l.config);
    else
        *out = l.config;
    return l.rc;
}

void config_free(struct config *c)
{
    if (c)
        free(c->meters);
    free(c);
}
