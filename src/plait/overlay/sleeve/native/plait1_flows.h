/* Flows in the format between two plait nodes: see plait1_flows.c. */

#ifndef PLAIT_PLAIT1_FLOWS_H
#define PLAIT_PLAIT1_FLOWS_H

#include "engine.h"
#include "flows.h"

enum { PLAIT_CLEAR = 16 };

/* The sending end towards one neighbour. */
struct plait_sender {
    /* By the caller. */
    struct plait_key *key; /* NULL on a plain connection */
    uint64_t next;         /* sequence */
    uint64_t limit;        /* the first sequence that is not the key's */
    uint8_t clear[PLAIT_CLEAR]; /* version and type, and sequence, are written here */

    struct plait_batch batch;
};

/* Take a frame of a flow, the kernel's labels before its type; gives 1, or 0 if it is for Python. */
int plait_take(struct plait_sender *sender, const uint8_t *raw, size_t bytes, size_t labels);

/* Send the single frames that wait. */
void plait_flush(struct plait_sender *sender);

struct plait_accepted {
    uint64_t sequence;
    uint64_t mask[2];
};

/* The receiving end of one neighbour. */
struct plait_receiver {
    /* By the caller. */
    struct plait_key *key; /* NULL on a plain connection */
    uint64_t key_first;    /* sequences of the key, from here */
    uint64_t key_last;     /* to here */
    uint64_t newest;       /* the highest sequence that came on an encrypted connection */
    uint64_t newest_mask[2];
    uint8_t flags; /* of the clear header */

    struct plait_inbound inbound;
    struct plait_accepted accepted[PLAIT_ACCEPTED];

    /* Packets of one UDP flow that are being joined. */
    uint32_t joined;
    uint32_t joined_bytes;
    uint8_t super[65536];
};

/* Receive datagrams and write their frames into the tap, as long as these are of known flows: `plait_deliver_bursts`. */
enum plait_end plait_deliver(struct plait_receiver *receiver, uint8_t *data, size_t capacity, uint8_t *scratch,
                             uint64_t until);

#endif
