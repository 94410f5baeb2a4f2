/* source_sim.c - a simulated appliance as a source, or several behind one mains meter; and the
 * ground truth as a file. */
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
#define SIM_MEMBERS 16
#define SUM_STEP_MS 2000 /* between readings of a sum */
#define SUM_BASE_W 65.0f /* what is always on in a simulated home */

struct member {
    struct sim *sim; /* NULL until the first pull, when the start is known */
    const char *label;
    int64_t truth_ms;           /* the last run of this appliance that the file already has */
    struct trace_reading ahead; /* of a sum: the first reading that is not in it yet */
    float watts;                /* in the sum */
};

struct simulated {
    struct member members[SIM_MEMBERS];
    int count;
    uint64_t seed;
    int64_t start_ms, days, end_ms, resume_ms;
    int64_t sum_ms; /* of the next reading of a sum */
    int truth;      /* descriptor, or -1 */
    int holding;    /* held comes next, after the remark about the truth file */
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
    for (int i = 0; i < m->count; i++)
        m->members[i].truth_ms = last_truth(path, m->members[i].label);
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
static int write_truth(struct source *s, const struct simulated *m, const struct member *of,
                       const struct sim_run *run)
{
    /* a run of which only the end was simulated is not the observer's to find */
    int partial = !m->resume_ms && run->start_ms < m->start_ms;
    if (m->truth < 0 || partial || run->end_ms + s->rebase_ms <= of->truth_ms)
        return 0;
    char line[SIM_TRUTH_LINE];
    int n = snprintf(line, sizeof(line), "%s,%" PRId64 ",%" PRId64 ",%.3f\n", of->label,
                     run->start_ms + s->rebase_ms, run->end_ms + s->rebase_ms, run->energy_wh);
    if (write(m->truth, line, (size_t)n) == n)
        return 0;
    snprintf(s->error, sizeof(s->error), "truth: a run of %s could not be written: %s", of->label,
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
    for (int i = 0; i < m->count; i++) {
        struct member *of = &m->members[i];
        int rc = sim_create(of->label, m->seed + (uint64_t)i, start, &of->sim);
        if (rc) {
            snprintf(s->error, sizeof(s->error), "simulation of %s cannot begin: %s", of->label,
                     strerror(-rc));
            return rc == -EINVAL ? -ENODATA : rc;
        }
        struct sim_run ended;
        if (m->count > 1)
            sim_next(of->sim, &of->ahead, &ended);
    }
    m->sum_ms = (start + SUM_STEP_MS - 1) / SUM_STEP_MS * SUM_STEP_MS;
    m->start_ms = start;
    m->end_ms = m->days > 0 && m->days < 1000000 ? start + m->days * SOURCE_DAY_MS : INT64_MAX;
    return 0;
}

/* The next reading of all together; -EBADMSG: it is there, but a truth was not written. */
static int next_sum(struct source *s, struct simulated *m, struct trace_reading *out)
{
    int rc = 0;
    *out = (struct trace_reading){m->sum_ms, SUM_BASE_W};
    for (int i = 0; i < m->count; i++) {
        struct member *of = &m->members[i];
        struct sim_run ended;
        while (of->ahead.t_ms <= m->sum_ms) {
            of->watts = of->ahead.watts;
            if (sim_next(of->sim, &of->ahead, &ended))
                rc |= write_truth(s, m, of, &ended);
        }
        out->watts += of->watts;
    }
    m->sum_ms += SUM_STEP_MS;
    return rc ? -EBADMSG : 0;
}

static int next_reading(struct source *s, struct simulated *m, struct trace_reading *out)
{
    struct sim_run ended;
    if (m->count > 1)
        return next_sum(s, m, out);
    return sim_next(m->members[0].sim, out, &ended) ? write_truth(s, m, &m->members[0], &ended) : 0;
}

static int sim_pull(struct source *s, int64_t now_ms, struct trace_reading *out)
{
    struct simulated *m = s->state;
    s->error[0] = 0;
    if (!m->members[0].sim) {
        int rc = begin(s, m, now_ms);
        if (rc)
            return rc;
    }
    if (m->holding) {
        m->holding = 0;
        *out = m->held;
    } else if (next_reading(s, m, out)) {
        m->holding = 1;
        m->held = *out;
        return -EBADMSG;
    }
    static const float shares[3] = {0.5f, 0.3f, 0.2f};
    s->phased = s->three;
    for (int i = 0; i < 3 && s->three; i++)
        s->next_phases[i] = shares[i] * out->watts;
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
    for (int i = 0; i < m->count; i++)
        sim_destroy(m->members[i].sim);
    if (m->truth >= 0)
        close(m->truth);
    free(m);
}

static const struct source_kind sim_kind = {
    .pull = sim_pull, .resume = sim_resume, .destroy = simulated_destroy, .paced = 1, .polled = -1};

/* The appliances that names lists, separated by blanks. 0, -ENOENT or -E2BIG. */
static int find_members(struct simulated *m, const char *names, char *why, size_t why_size)
{
    char name[64];
    const char *p = names ? names + strspn(names, " \t") : "";
    do {
        const size_t n = strcspn(p, " \t");
        snprintf(name, sizeof(name), "%.*s", (int)(n < 63 ? n : 63), p);
        const char *label = sim_label(name);
        if (!label) {
            int used = snprintf(why, why_size,
                                "appliance: no such simulated appliance: %s; expected one of",
                                n ? name : "(none)");
            for (const char *const *k = sim_appliances();
                 *k && used >= 0 && (size_t)used < why_size; k++)
                used += snprintf(why + used, why_size - (size_t)used, " %s", *k);
            return -ENOENT;
        }
        if (m->count == SIM_MEMBERS) {
            snprintf(why, why_size, "appliance: expected at most %d", SIM_MEMBERS);
            return -E2BIG;
        }
        m->members[m->count++].label = label;
        p += n + strspn(p + n, " \t");
    } while (*p);
    return 0;
}

int source_sim_init(struct source *s, const struct source_config *c, char *why, size_t why_size)
{
    struct simulated *m = calloc(1, sizeof(*m));
    if (!m) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    *m = (struct simulated){.seed = c->seed, .start_ms = c->start_ms, .days = c->days, .truth = -1};
    s->state = m;
    s->kind = &sim_kind;
    int rc = find_members(m, c->appliance, why, why_size);
    if (rc == 0 && c->truth && c->truth[0])
        rc = open_truth(m, c->truth, why, why_size);
    if (rc)
        simulated_destroy(s);
    return rc;
}
