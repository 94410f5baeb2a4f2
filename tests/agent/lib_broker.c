/* lib_broker.c - the transport tests' broker, for the agent's tests too. */
#include "transport/lib_broker.c"
