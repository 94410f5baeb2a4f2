/* source_sim.c - a simulated appliance as a source, and its ground truth as a file. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/sim.h"
#include "agent/source_impl.h"

/* A start that was not given begins this long before what was consumed, so that the pipeline's
 * windows are full again. */
#define SIM_PRIME_MS (2LL * 3600 * 1000)
#define SIM_TRUTH_LINE 256

struct simulated {
    struct sim *sim; /* NULL until the first pull, when the start is known */
    const char *label;
    uint64_t seed;
    int64_t start_ms, days, end_ms, resume_ms;
    int truth;        /* descriptor, or -1 */
    int64_t truth_ms; /* the last run of this appliance that the file already has */
    int holding;      /* held comes next, after the remark about the truth file */
    struct trace_reading held;
};

const char *const *source_appliances(void)
{
    return sim_appliances();
}

/* Finds the end of the last run of label in an existing truth file, so that nothing is written
 * twice after a restart. */
static int64_t last_truth(const char *path, const char *label)
{
    FILE *f = fopen(path, "re");
    int64_t last = INT64_MIN;
    char line[SIM_TRUTH_LINE], name[64];
    while (f && fgets(line, sizeof(line), f)) {
        int64_t start, end;
        if (sscanf(line, "%63[^,],%" SCNd64 ",%" SCNd64, name, &start, &end) == 3 &&
            !strcmp(name, label) && end > last)
            last = end;
    }
    if (f)
        fclose(f);
    return last;
}

static int open_truth(struct simulated *m, const char *path, char *why, size_t why_size)
{
    m->truth_ms = last_truth(path, m->label);
    m->truth = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (m->truth < 0) {
        int rc = -errno;
        snprintf(why, why_size, "truth: %s: %s", path, strerror(-rc));
        return rc;
    }
    static const char head[] = "appliance,start_ms,end_ms,energy_wh\n";
    if (lseek(m->truth, 0, SEEK_END) == 0 &&
        write(m->truth, head, sizeof(head) - 1) != (ssize_t)sizeof(head) - 1) {
        snprintf(why, why_size, "truth: %s: cannot be written", path);
        return -EIO;
    }
    return 0;
}

/* One line in one write: meters that share the file do not mix their lines. */
static int write_truth(struct source *s, const struct simulated *m, const struct sim_run *run)
{
    /* a run of which only the end was simulated is not the observer's to find */
    int partial = !m->resume_ms && run->start_ms < m->start_ms;
    if (m->truth < 0 || partial || run->end_ms + s->rebase_ms <= m->truth_ms)
        return 0;
    char line[SIM_TRUTH_LINE];
    int n = snprintf(line, sizeof(line), "%s,%" PRId64 ",%" PRId64 ",%.3f\n", m->label,
                     run->start_ms + s->rebase_ms, run->end_ms + s->rebase_ms, run->energy_wh);
    if (write(m->truth, line, (size_t)n) == n)
        return 0;
    snprintf(s->error, sizeof(s->error), "truth: a run of %s could not be written: %s", m->label,
             strerror(errno));
    return -EBADMSG;
}

static int begin(struct source *s, struct simulated *m, int64_t now_ms)
{
    int64_t start = m->start_ms;
    if (start == 0) {
        start = now_ms;
        if (m->resume_ms && m->resume_ms - SIM_PRIME_MS > 0)
            start = m->resume_ms - SIM_PRIME_MS;
    }
    int rc = sim_create(m->label, m->seed, start, &m->sim);
    if (rc) {
        snprintf(s->error, sizeof(s->error), "simulation of %s cannot begin: %s", m->label,
                 strerror(-rc));
        return rc == -EINVAL ? -ENODATA : rc;
    }
    m->start_ms = start;
    m->end_ms = m->days > 0 && m->days < 1000000 ? start + m->days * SOURCE_DAY_MS : INT64_MAX;
    return 0;
}

static int sim_pull(struct source *s, int64_t now_ms, struct trace_reading *out)
{
    struct simulated *m = s->state;
    s->error[0] = 0;
    if (!m->sim) {
        int rc = begin(s, m, now_ms);
        if (rc)
            return rc;
    }
    struct sim_run ended;
    if (m->holding) {
        m->holding = 0;
        *out = m->held;
    } else if (sim_next(m->sim, out, &ended) && write_truth(s, m, &ended)) {
        m->holding = 1;
        m->held = *out;
        return -EBADMSG;
    }
    return out->t_ms < m->end_ms ? 1 : -ENODATA;
}

static void sim_resume(struct source *s, int64_t t_ms)
{
    struct simulated *m = s->state;
    m->resume_ms = t_ms;
}

static void simulated_destroy(struct source *s)
{
    struct simulated *m = s->state;
    sim_destroy(m->sim);
    if (m->truth >= 0)
        close(m->truth);
    free(m);
}

static const struct source_kind sim_kind = {
    .pull = sim_pull, .resume = sim_resume, .destroy = simulated_destroy, .paced = 1, .polled = -1};

int source_sim_init(struct source *s, const struct source_config *c, char *why, size_t why_size)
{
    const char *label = sim_label(c->appliance);
    if (!label) {
        int n =
            snprintf(why, why_size, "appliance: no such simulated appliance: %s; expected one of",
                     c->appliance ? c->appliance : "(none)");
        for (const char *const *p = sim_appliances(); *p && n >= 0 && (size_t)n < why_size; p++)
            n += snprintf(why + n, why_size - (size_t)n, " %s", *p);
        return -ENOENT;
    }
    struct simulated *m = calloc(1, sizeof(*m));
    if (!m) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    *m = (struct simulated){
        .label = label, .seed = c->seed, .start_ms = c->start_ms, .days = c->days, .truth = -1};
    s->state = m;
    s->kind = &sim_kind;
    int rc = 0;
    if (c->truth && c->truth[0])
        rc = open_truth(m, c->truth, why, why_size);
    if (rc)
        simulated_destroy(s);
    return rc;
}
