#include "agent/mains_rules.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct mains_rule rules[] = {
    /* names, kind, step W, most W, peak W, run, gap, slack, lead, early, rest, evidence, change, no edge, brief, group */
    {" refrigerator fridge freezer fridgefreezer ", MAINS_CYCLE,
     40, 350, 400, 0, 180, 90, 150, 0, 0, 0, 60, 3, 2.5f, 0, 0},
    {" washingmachine ", MAINS_PROGRAM, 1000, 3000, 3000, 300, 900, 1500, 120, 1800, 0, 600, 90, 5, 1, 0, 1},
    {" dishwasher ", MAINS_PROGRAM, 1000, 3000, 3000, 800, 1500, 3600, 120, 1800, 120, 0, 90, 5, 1, 0, 1},
    {" laundrydryer tumbledryer dryer ", MAINS_PROGRAM, 500, 3500, 4000, 500, 900, 600, 120, 600, 0, 0, 90, 5, 1, 0, 1},
    {" waterkettle kettle ", MAINS_PULSE, 1400, 3200, 3500, 1000, 20, 20, 45, 0, 0, 0, 12, 2.5f, 6, 1, 0},
    {" microwaveoven microwave ", MAINS_PULSE, 600, 1800, 2200, 400, 8, 60, 45, 0, 0, 0, 12, 2.5f, 6, 2, 0},
    {" coffeemaker beantocupcoffeemaker ", MAINS_PULSE, 300, 2200, 2500, 300, 10, 300, 45, 0, 0, 0, 20, 3, 5, 0, 0},
    {" toaster ", MAINS_PULSE, 500, 1600, 2000, 400, 40, 30, 45, 0, 0, 0, 12, 2.5f, 6, 3, 0},
    {" waterboiler ", MAINS_PULSE, 800, 12000, 12000, 700, 20, 60, 45, 0, 0, 0, 20, 2.5f, 6, 0, 0},
    {" iron ", MAINS_PULSE, 500, 3000, 3000, 450, 10, 300, 45, 0, 0, 0, 20, 3, 5, 0, 0},
    {" vacuumcleaner ", MAINS_PULSE, 300, 2400, 2600, 250, 20, 60, 45, 0, 0, 0, 20, 3, 5, 0, 0},
    {" cookingstove cooker oven stove ", MAINS_PULSE, 500, 8000, 11000, 450, 30, 900, 60, 0, 0, 0, 30, 3, 3, 0, 0},
    {" lamp lighting ", MAINS_PLAIN, 10, 500, 1000, 0, 120, 60, 60, 0, 0, 0, 60, 4, 2.5f, 0, 0},
    {" tvlcd tvcrt tv television ", MAINS_GENTLE, 20, 400, 500, 0, 300, 120, 90, 0, 0, 0, 90, 4, 2, 0, 0},
    {" ", MAINS_PLAIN, 12, 12000, 15000, 0, 120, 120, 60, 0, 0, 0, 60, 4, 2.5f, 0, 0},
};
/* clang-format on */
#define RULES (sizeof rules / sizeof *rules)

const struct mains_rule *mains_rules_find(const char *label)
{
    char name[64] = " ";
    size_t n = 1;
    for (; *label && n + 2 < sizeof name; label++)
        if (isalnum((unsigned char)*label))
            name[n++] = (char)tolower((unsigned char)*label);
    name[n++] = ' ';
    name[n] = '\0';
    for (size_t i = 0; i + 1 < RULES; i++)
        if (n > 2 && strstr(rules[i].names, name))
            return &rules[i];
    return &rules[RULES - 1];
}

int32_t mains_rules_slack_s(void)
{
    int32_t most = 0;
    for (size_t i = 0; i < RULES; i++)
        most = rules[i].slack_s > most ? rules[i].slack_s : most;
    return most;
}
