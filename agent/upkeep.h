/* upkeep.h - alerts about the agent's own means: certificates that end soon, credentials that are
 * refused. Main thread.
 *
 * Each is raised once, also across restarts (a named value of the store remembers it), and cleared.
 */
#ifndef AGENT_UPKEEP_H
#define AGENT_UPKEEP_H

#include <stdint.h>

struct agent;
struct store;

enum upkeep_kind { UPKEEP_OWN, UPKEEP_BROKER, UPKEEP_REFUSED, UPKEEP_KINDS };

struct upkeep {
    int64_t raised[UPKEEP_KINDS]; /* what the alert's id is made of: end of the certificate, or when
                                     it was refused (Unix s); 0: not raised */
};

/* Reads what is raised; the store may be another one than before. */
void upkeep_start(struct upkeep *u, struct store *store);
/* About once a second. */
void upkeep_tick(struct upkeep *u, struct agent *a);

#endif
