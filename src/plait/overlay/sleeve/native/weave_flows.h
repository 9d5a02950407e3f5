/* Flows in Weave's format: see weave_flows.c. */

#ifndef PLAIT_WEAVE_FLOWS_H
#define PLAIT_WEAVE_FLOWS_H

#include "flows.h"

enum {
    PLAIT_NAME = 6,
    PLAIT_BOX_KEY = 32,
    PLAIT_BOX_NONCE = 24,
    PLAIT_DESCRIPTORS = 2, /* without DF, with DF */
};

/* NaCl's secretbox, sealing or opening: libsodium's crypto_secretbox_easy and crypto_secretbox_open_easy. */
typedef int plait_box(uint8_t *out, const uint8_t *in, unsigned long long bytes, const uint8_t *nonce,
                      const uint8_t *key);

/* The sending end towards one neighbour. */
struct plait_weave_sender {
    /* By the caller. */
    plait_box *seal; /* NULL on a plain connection */
    uint8_t key[PLAIT_BOX_KEY];
    uint8_t nonce[PLAIT_BOX_NONCE]; /* the sequence, its end, is written here */
    uint64_t next[PLAIT_DESCRIPTORS]; /* sequences, without and with DF */
    int sockets[PLAIT_DESCRIPTORS];
    uint32_t mtu;            /* of the overlay */
    uint32_t has_stack_frag; /* outer fragments are known to arrive, so IPv4 without DF may leave without DF */
    uint32_t allowance;      /* datagrams that may leave now: counts down */
    uint8_t us[PLAIT_NAME];
    uint8_t peer[PLAIT_NAME];

    uint32_t df;      /* of the datagrams in the batch */
    uint32_t records; /* what frames became since the caller made it 0 */
    struct plait_batch batch;
};

/* Take a frame of a flow, the kernel's labels before its type; gives 1, or 0 if it is for Python and as it was. */
int plait_weave_take(struct plait_weave_sender *sender, uint8_t *raw, size_t bytes, size_t labels);

/* Send what waits. */
void plait_weave_flush(struct plait_weave_sender *sender);

/* Sequences, with their DF flag, that came one after the other. */
struct plait_weave_accepted {
    uint64_t first;
    uint64_t count;
};

/* The receiving end of one neighbour. */
struct plait_weave_receiver {
    /* By the caller. */
    plait_box *open; /* NULL on a plain connection */
    uint8_t key[PLAIT_BOX_KEY];
    uint8_t nonce[PLAIT_BOX_NONCE];
    uint64_t next[PLAIT_DESCRIPTORS]; /* sequences from here on did not come yet */
    uint8_t us[PLAIT_NAME];

    struct plait_inbound inbound;
    uint32_t records; /* of which frames were made since the caller made it 0 */
    struct plait_weave_accepted accepted[PLAIT_ACCEPTED];
};

/* Receive datagrams and write their frames into the tap, as long as these are of known flows: `plait_deliver_bursts`. */
enum plait_end plait_weave_deliver(struct plait_weave_receiver *receiver, uint8_t *data, size_t capacity,
                                   uint8_t *scratch, uint64_t until);

#endif
