/* fuzz_trace.c - recorded power, readings from the standard input and file names; readings go on
 * into the resampler, as they do in the agent. */
#include "inference/trace.h"

#include <errno.h>
#include <math.h>

#include "fuzz/fuzz.h"
#include "inference/resample.h"

#define LAST_MS INT64_C(253402300800000) /* the year 10000 */

static void check_reading(const struct trace_reading *r)
{
    FUZZ_CHECK(isfinite(r->watts) && fabsf(r->watts) <= 1e7f);
    FUZZ_CHECK(r->t_ms >= 0 && r->t_ms < LAST_MS);
}

/* Cells come in order, and a bounded number of them for each reading. */
static void resample(struct resample *r, const struct trace_reading *reading)
{
    struct resample_sample s;
    int64_t before = INT64_MIN;
    int64_t most = r->max_gap_ms / r->period_ms;
    int64_t count = 0;

    resample_push(r, reading->t_ms, reading->watts);
    while (resample_next(r, &s)) {
        FUZZ_CHECK(isfinite(s.watts) && fabsf(s.watts) <= 1.0001e7f);
        FUZZ_CHECK(s.t_ms % r->period_ms == 0 && s.t_ms > before);
        before = s.t_ms;
        count++;
    }
    FUZZ_CHECK(count <= (most > RESAMPLE_MAX_FILL ? most : RESAMPLE_MAX_FILL) + 1);
}

static void check_file(const uint8_t *data, size_t size, enum trace_format format,
                       const char *column, int64_t period_ms)
{
    char path[32], why[256] = "";
    int fd = fuzz_file(data, size, path), rc;
    struct trace_reading reading;
    struct resample r;
    struct trace *t;
    uint64_t good = 0, bad = 0;

    rc = trace_open(path, format, column, &t, why, sizeof why);
    FUZZ_CHECK((rc == 0) == (t != NULL));
    if (rc != 0) {
        FUZZ_CHECK(why[0]);
        close(fd);
        return;
    }
    resample_init(&r, period_ms, 60000);
    while ((rc = trace_next(t, &reading)) != 0) {
        if (rc == 1) {
            check_reading(&reading);
            resample(&r, &reading);
            good++;
        } else {
            FUZZ_CHECK(rc == -EBADMSG && trace_error(t)[0]);
            bad++;
        }
    }
    FUZZ_CHECK(trace_statistics(t)->readings == good && trace_statistics(t)->bad == bad);
    FUZZ_CHECK(good + bad <= size);
    trace_close(t);
    close(fd);
}

static void check_line(const uint8_t *data, size_t size)
{
    char *line = fuzz_text(data, size), why[256] = "";
    struct trace_reading reading;
    struct trace_name name;

    if (trace_parse_reading(line, 1700000000000, &reading, why, sizeof why) == 0)
        check_reading(&reading);
    else
        FUZZ_CHECK(why[0]);
    if (trace_parse_name(line, &name) == 0)
        FUZZ_CHECK(name.device[0] && name.month >= 1 && name.month <= 12 && name.day >= 1 &&
                   name.day <= 31);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const columns[] = {NULL, NULL, "watts", "", "x"};
    static const int64_t periods[] = {1000, 8000, 100, 333};
    uint8_t how = fuzz_byte(&data, &size);
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;

    check_line(data, end ? (size_t)(end - data) : size);
    check_file(data, size, (enum trace_format)(how % 3), columns[how / 3 % 5],
               periods[how / 16 % 4]);
    return 0;
}
