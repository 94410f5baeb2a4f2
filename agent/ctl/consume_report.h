/* consume_report.h - what a consumer's store says of each device: received, duplicates, holes,
 * declared losses, and what the device says it has sent (consume.h). */
#ifndef AGENT_CTL_CONSUME_REPORT_H
#define AGENT_CTL_CONSUME_REPORT_H

#include "storage/consumer.h"

/* On standard output. CLI_DONE; CLI_FAILED: something is missing that nobody declared, a number
 * came with two contents, or the store cannot be read (with a message). */
int consume_report_print(struct consumer *store, int json);

#endif
