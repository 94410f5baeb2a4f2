/* sim_shapes.c - how each simulated appliance draws power, modelled on measured ones.
 *
 * Within a run the power never stays below 10 W for longer than 25 s, so that a run is one
 * switching-on and one switching-off.
 */
#include "agent/sim_shapes.h"

#include <math.h>
#include <stddef.h>

uint64_t sim_random_next(struct sim_random *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

double sim_random_unit(struct sim_random *r)
{
    return (double)(sim_random_next(r) >> 11) * 0x1p-53;
}

double sim_random_range(struct sim_random *r, double lo, double hi)
{
    return lo + (hi - lo) * sim_random_unit(r);
}

/* Sum of three uniform numbers, scaled to about the given deviation: a bounded stand-in for a
 * normal one. */
static double wobble(const struct sim_moment *m, double deviation)
{
    double sum = 0;
    for (int i = 0; i < 3; i++)
        sum += sim_random_unit(m->noise) - 0.5;
    return sum * 2.0 * deviation;
}

/* A number in [0, 1) that belongs to the run: the n-th one. */
static double of_run(const struct sim_moment *m, int n)
{
    struct sim_random r = {m->run + (uint64_t)n * UINT64_C(0x632be59bd9b4e019)};
    return sim_random_unit(&r);
}

static int inside(double t, double from, double to)
{
    return t >= from && t < to;
}

/* Compressors: a start current that a reading may catch, then a decay while the pressure settles.
 */
static double refrigerator(const struct sim_moment *m)
{
    if (m->t_s < 1.5)
        return m->level * (1.2 + 1.6 * of_run(m, 0));
    return m->level * (1 + 0.23 * exp(-m->t_s / 180)) + wobble(m, 1);
}

static double freezer(const struct sim_moment *m)
{
    if (m->t_s < 1.5)
        return m->level * (6 + 2.5 * of_run(m, 0));
    return m->level * (1 + 0.3 * exp(-m->t_s / 65)) + wobble(m, 1);
}

static double kettle(const struct sim_moment *m)
{
    return m->level * (1 + 0.009 * exp(-m->t_s / 4)) + wobble(m, 2);
}

static double toaster(const struct sim_moment *m)
{
    if (m->t_s < 1)
        return m->level * 0.6;
    return m->level * (m->t_s < 24 ? 1.045 : 1) + wobble(m, 1.5);
}

/* The lamp inside while the door is open; then the magnetron, at full power or (defrosting) in
 * beats with fan, lamp and turntable between them; the lamp again. */
static double microwave(const struct sim_moment *m)
{
    double t = m->t_s - 6, idle = 20 + wobble(m, 1);
    if (t < 0 || m->t_s > m->length_s - 16)
        return idle;
    if (t < 3)
        return m->level * 0.12;
    if (of_run(m, 0) < 0.35 && fmod(t, 52) >= 26)
        return idle;
    return m->level * (1 - 0.05 * t / (t + 110)) + wobble(m, 8);
}

/* Heats up, then brews: the heater comes and goes until the cup is full. */
static double coffeemaker(const struct sim_moment *m)
{
    double heat = 55 + 20 * of_run(m, 0);
    if (m->t_s < heat)
        return m->level * (1 + 0.01 * exp(-m->t_s / 20)) + wobble(m, 3);
    double t = m->t_s - heat;
    int beat = (int)(t / 23);
    if (fmod(t, 23) > 7)
        return 1;
    return 80 + m->level * of_run(m, 10 + beat) * 0.75;
}

/* A drum motor: on for so long, off for so long, turning the other way each time. */
static double drum(const struct sim_moment *m, double on_s, double off_s, double watts)
{
    double t = fmod(m->t_s + 7 * of_run(m, 3), on_s + off_s);
    if (t >= on_s)
        return 4;
    return watts * (t < 2 ? 1.3 : 1) + wobble(m, 6);
}

static double washing_machine(const struct sim_moment *m)
{
    double t = m->t_s, end = m->length_s, heat = 320 + 240 * of_run(m, 0);
    if (t < 90)
        return 20 + wobble(m, 3) + drum(m, 10, 8, 130);
    if (t < 90 + heat) /* the heater, and the drum now and then */
        return m->level + drum(m, 10, 45, 150);
    if (t < end - 460)
        return drum(m, 14, 5, 162);
    if (t < end - 340) /* pumping out */
        return 30 + wobble(m, 3) + drum(m, 8, 12, 60);
    if (t < end - 40) { /* spinning: three ramps, each faster */
        double ramp = fmod(t - (end - 340), 100) / 100;
        double top = t < end - 240 ? 160 : t < end - 140 ? 260 : 430;
        return 30 + top * ramp + wobble(m, 8);
    }
    return 18 + wobble(m, 2);
}

static double dishwasher(const struct sim_moment *m)
{
    double t = m->t_s, end = m->length_s;
    double first = 560 + 120 * of_run(m, 0), last = 600 + 100 * of_run(m, 1);
    if (t < 50)
        return 16 + wobble(m, 1);
    double pump = 140 + wobble(m, 1);
    if (inside(t, 285, 285 + first) || inside(t, 1210, 1500) ||
        inside(t, end - 60 - last, end - 60))
        return m->level + wobble(m, 4);
    return t < end - 60 ? pump : 15 + wobble(m, 1);
}

/* Fades a little as it warms up, and dips when the picture goes black. */
static double television(const struct sim_moment *m)
{
    if (m->t_s < 8)
        return m->level * 0.9;
    if (of_run(m, 10 + (int)(m->t_s / 9)) < 0.012)
        return m->level * (0.55 + 0.3 * of_run(m, 5));
    return m->level * (1 + 0.035 * exp(-m->t_s / 1500)) + wobble(m, 1);
}

static double computer(const struct sim_moment *m)
{
    double t = m->t_s;
    if (t < 40)
        return m->level * 1.1 + wobble(m, 14);
    /* work comes in bursts; which minute has one is the run's own */
    double busy = of_run(m, 10 + (int)(t / 45));
    if (busy < 0.12 && fmod(t, 45) < 20)
        return m->level * (1.15 + busy) + wobble(m, 12);
    return m->level + wobble(m, 1.5);
}

static double lamp(const struct sim_moment *m)
{
    return m->level + wobble(m, 0.9);
}

static double monitor(const struct sim_moment *m)
{
    return m->level * (1 + 0.07 * exp(-m->t_s / 20)) + wobble(m, 0.8);
}

/* The heater with a pause at each change of the drum's direction; cool air at the end. */
static double dryer(const struct sim_moment *m)
{
    if (m->t_s >= m->length_s - 560)
        return 212 + wobble(m, 3);
    if (fmod(m->t_s, 203) >= 188)
        return 195 + wobble(m, 15);
    return m->level * (1 + 0.035 * exp(-m->t_s / 60)) + wobble(m, 12);
}

/* Slots follow a household of two. */
const struct sim_kind sim_kinds[] = {
    {.label = "Refrigerator",
     .alias = "fridge",
     .standby_w = 0,
     .step_min_s = 1,
     .step_max_s = 2,
     .levels = {129, 80, 67},
     .length_min_s = 780,
     .length_max_s = 880,
     .pause_min_s = 1900,
     .pause_max_s = 2500,
     .mishap = SIM_LONG,
     .mishap_factor = 5,
     .shape = refrigerator},
    {.label = "Freezer",
     .alias = "freezer",
     .standby_w = 1,
     .step_min_s = 1,
     .step_max_s = 2,
     .levels = {156, 157, 155},
     .length_min_s = 520,
     .length_max_s = 640,
     .pause_min_s = 2300,
     .pause_max_s = 3000,
     .mishap = SIM_LONG,
     .mishap_factor = 6,
     .shape = freezer},
    {.label = "WaterKettle",
     .alias = "kettle",
     .step_min_s = 2,
     .step_max_s = 5,
     .levels = {2479, 2590, 1775},
     .length_min_s = 70,
     .length_max_s = 185,
     .mishap = SIM_WEAK,
     .mishap_factor = 0.52,
     .shape = kettle,
     .slots = {{6.3, 7.4, 0.97},
               {7.6, 8.5, 0.5},
               {10, 11.5, 0.5},
               {14.5, 16.5, 0.6},
               {18, 19, 0.5},
               {19.7, 21.5, 0.8}}},
    {.label = "Toaster",
     .alias = "toaster",
     .step_min_s = 1,
     .step_max_s = 3,
     .levels = {692, 706, 857},
     .length_min_s = 100,
     .length_max_s = 125,
     .mishap = SIM_LONG,
     .mishap_factor = 6,
     .shape = toaster,
     .slots = {{6.5, 7.3, 0.7}, {7.5, 8.6, 0.7}, {18.2, 19.5, 0.4}}},
    {.label = "MicrowaveOven",
     .alias = "microwave",
     .standby_w = 1,
     .step_min_s = 1,
     .step_max_s = 2,
     .levels = {1425, 1432, 1410},
     .length_min_s = 45,
     .length_max_s = 260,
     .mishap = SIM_WEAK,
     .mishap_factor = 0.5,
     .shape = microwave,
     .slots = {{6.6, 8, 0.4}, {11.7, 13.2, 0.8}, {17.8, 19.3, 0.8}, {20, 22, 0.3}}},
    {.label = "Coffeemaker",
     .alias = "coffee",
     .standby_w = 3,
     .step_min_s = 3,
     .step_max_s = 6,
     .levels = {1105, 1108, 1100},
     .length_min_s = 130,
     .length_max_s = 280,
     .mishap = SIM_LONG,
     .mishap_factor = 12,
     .shape = coffeemaker,
     .slots = {{6.4, 7.5, 0.95}, {13, 14.5, 0.6}, {15.5, 16.8, 0.4}}},
    {.label = "Washingmachine",
     .alias = "washing_machine",
     .standby_w = 1,
     .step_min_s = 4,
     .step_max_s = 6,
     .levels = {1920, 1930, 1915},
     .length_min_s = 3100,
     .length_max_s = 3900,
     .mishap = SIM_WEAK,
     .mishap_factor = 0.3,
     .shape = washing_machine,
     .slots = {{8.5, 11, 0.6}, {16.5, 18.5, 0.4}}},
    {.label = "Dishwasher",
     .alias = "dishwasher",
     .standby_w = 1,
     .step_min_s = 4,
     .step_max_s = 6,
     .levels = {2105, 2120, 2098},
     .length_min_s = 3600,
     .length_max_s = 4100,
     .mishap = SIM_WEAK,
     .mishap_factor = 0.3,
     .shape = dishwasher,
     .slots = {{13, 14.5, 0.5}, {19.8, 21.5, 0.8}}},
    {.label = "TV-LCD",
     .alias = "tv",
     .standby_w = 1,
     .step_min_s = 3,
     .step_max_s = 6,
     .levels = {137, 139, 136},
     .length_min_s = 2400,
     .length_max_s = 11000,
     .mishap = SIM_LONG,
     .mishap_factor = 3,
     .shape = television,
     .slots = {{7, 8, 0.3}, {12, 13, 0.3}, {18.5, 20.5, 0.95}}},
    {.label = "PC-Desktop",
     .alias = "pc",
     .standby_w = 4,
     .step_min_s = 3,
     .step_max_s = 6,
     .levels = {130, 119, 91},
     .length_min_s = 3600,
     .length_max_s = 12600,
     .mishap = SIM_LONG,
     .mishap_factor = 3,
     .shape = computer,
     .slots = {{8.5, 10, 0.6}, {14, 15.5, 0.5}, {19.5, 20.5, 0.5}}},
    {.label = "Lamp",
     .alias = "lamp",
     .step_min_s = 3,
     .step_max_s = 6,
     .levels = {39.6, 39.9, 25.6},
     .length_min_s = 2800,
     .length_max_s = 12000,
     .mishap = SIM_LONG,
     .mishap_factor = 4,
     .shape = lamp,
     .slots = {{6.2, 7, 0.7}, {17, 19.5, 1}}},
    {.label = "Router", .alias = "router", .standby_w = 6, .step_min_s = 1, .step_max_s = 4},
    {.label = "Monitor-TFT",
     .alias = "monitor",
     .standby_w = 1,
     .step_min_s = 1,
     .step_max_s = 2,
     .levels = {32, 33, 31.5},
     .length_min_s = 1200,
     .length_max_s = 9000,
     .mishap = SIM_LONG,
     .mishap_factor = 3,
     .shape = monitor,
     .slots = {{8.5, 10, 0.7}, {14, 15.5, 0.6}, {19, 20.5, 0.6}}},
    {.label = "LaundryDryer",
     .alias = "dryer",
     .standby_w = 0,
     .step_min_s = 3,
     .step_max_s = 5,
     .levels = {2500, 2490, 2530},
     .length_min_s = 2900,
     .length_max_s = 3900,
     .mishap = SIM_WEAK,
     .mishap_factor = 0.4,
     .shape = dryer,
     .slots = {{11.5, 13.5, 0.4}, {18.8, 20, 0.3}}},
};
const int sim_kind_count = (int)(sizeof(sim_kinds) / sizeof(sim_kinds[0]));
