/* backoff.c - when a fleet comes back: the link's own back-off (session_backoff) in 1,000 simulated
 * agents whose broker restarts.
 *
 * Simulated time; each agent has its own schedule, as link.c would: session lost, wait, attempt,
 * and while the broker is down an attempt fails at once. Printed: attempts per second as a
 * histogram, what full jitter leads to expect, and the first second against a fleet without jitter.
 * Checked: each wait is uniform below its limit (Kolmogorov-Smirnov, a false alarm in a million),
 * nobody comes later than the limits allow, and the peak stays near its expectation. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/session.h"

#define AGENTS 1000
#define MIN_MS 1000
#define MAX_MS 120000
#define SECONDS 600
#define KS_LIMIT 2.7 /* D * sqrt(n): exceeded once in a million (2 exp(-2 x^2)) */

static int failed;

static void check(int ok, const char *text)
{
    printf("%s  %s\n", ok ? "ok  " : "FAIL", text);
    failed |= !ok;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Largest distance between the distribution of n samples in [0, 1) and the uniform one, times
 * sqrt(n). */
static double kolmogorov_smirnov(double *samples, int n)
{
    double d = 0;
    qsort(samples, (size_t)n, sizeof *samples, ascending);
    for (int i = 0; i < n; i++) {
        const double below = samples[i] - (double)i / n, above = (double)(i + 1) / n - samples[i];
        d = below > d ? below : d;
        d = above > d ? above : d;
    }
    return d * sqrt(n);
}

static void check_uniform(void)
{
    static double samples[AGENTS];
    double worst = 0;
    int64_t limit = MIN_MS;
    for (unsigned failures = 1; failures <= 12; failures++) {
        for (int i = 0; i < AGENTS; i++)
            samples[i] = (double)session_backoff(MIN_MS, MAX_MS, failures, 1) / (double)(limit + 1);
        const double d = kolmogorov_smirnov(samples, AGENTS);
        worst = d > worst ? d : worst;
        limit = limit * 2 > MAX_MS ? MAX_MS : limit * 2;
    }
    printf("distance from the uniform distribution, times sqrt(n): at most %.2f in 12 steps of the "
           "limit\n",
           worst);
    check(worst < KS_LIMIT, "every wait is uniform between 0 and its limit (full jitter)");
}

struct fleet {
    int attempts[SECONDS], sessions[SECONDS];
    double last_s; /* the last agent's session */
};

/* The broker is away for down_ms; jitter 0: everybody waits the whole limit. */
static void run(struct fleet *f, int64_t down_ms, int brokers, int jitter)
{
    memset(f, 0, sizeof *f);
    for (int agent = 0; agent < AGENTS; agent++) {
        int64_t t = 0;
        for (unsigned failures = 1;; failures++) {
            int64_t wait = jitter ? session_backoff(MIN_MS, MAX_MS, failures, brokers) : MIN_MS;
            for (unsigned i = 1; !jitter && i < failures && wait < MAX_MS; i++)
                wait = wait * 2 > MAX_MS ? MAX_MS : wait * 2;
            t += wait;
            const int64_t s = t / 1000 < SECONDS ? t / 1000 : SECONDS - 1;
            f->attempts[s]++;
            if (t < down_ms)
                continue;
            f->sessions[s]++;
            if ((double)t / 1e3 > f->last_s)
                f->last_s = (double)t / 1e3;
            break;
        }
    }
}

static int peak(const int *counts, int from)
{
    int most = 0;
    for (int s = from; s < SECONDS; s++)
        most = counts[s] > most ? counts[s] : most;
    return most;
}

static void print_histogram(const struct fleet *f, int down_s)
{
    int last = (int)f->last_s, width = last / 40 + 1;
    printf("   second  attempts sessions (of %d; the broker is back at %d s)\n", AGENTS, down_s);
    for (int s = 0; s <= last; s += width) {
        int attempts = 0, sessions = 0;
        for (int i = s; i < s + width && i < SECONDS; i++) {
            attempts += f->attempts[i];
            sessions += f->sessions[i];
        }
        printf("%4d-%-4d  %8d %8d %.*s\n", s, s + width - 1, attempts, sessions,
               attempts / (5 * width),
               "################################################################################"
               "################################################################################");
    }
}

/* Sessions in the busiest second behind the return, averaged over many fleets: what is to be
 * expected. */
static double expected_peak(int64_t down_ms)
{
    static struct fleet f;
    double sum = 0;
    for (int i = 0; i < 200; i++) {
        run(&f, down_ms, 1, 1);
        sum += peak(f.sessions, 0);
    }
    return sum / 200;
}

int main(void)
{
    static const int downs[] = {0, 5, 30, 300};
    static struct fleet f, without;
    char text[200];
    check_uniform();
    for (size_t i = 0; i < sizeof downs / sizeof downs[0]; i++) {
        run(&f, downs[i] * 1000, 1, 1);
        run(&without, downs[i] * 1000, 1, 0);
        printf("\nbroker away for %d s, one broker configured\n", downs[i]);
        print_histogram(&f, downs[i]);
        const double expected = expected_peak(downs[i] * 1000);
        snprintf(
            text, sizeof text,
            "busiest second: %d sessions (expected %.0f; without jitter %d), last one at %.1f s",
            peak(f.sessions, 0), expected, peak(without.sessions, 0), f.last_s);
        check(peak(f.sessions, 0) < expected * 1.5 + 20 && peak(without.sessions, 0) == AGENTS,
              text);
        check(f.last_s <= downs[i] + MAX_MS / 1e3 + 1,
              "nobody comes later than one longest wait after the return");
    }
    run(&f, 0, 2, 1);
    snprintf(text, sizeof text, "two brokers, the second is there: all %d have moved within %.2f s",
             AGENTS, f.last_s);
    check(f.last_s <= 1.01, text);
    return failed;
}
