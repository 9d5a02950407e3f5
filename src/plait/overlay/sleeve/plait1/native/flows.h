/*
 * Frames of known flows, moved without asking: see flows.c.
 *
 * A flow is what goes from one MAC address to another. Where its frames go was decided in Python (pump/core.py), which
 * names the flow here for as long as the decision holds. Everything else is given back, for Python to do.
 */

#ifndef PLAIT_FLOWS_H
#define PLAIT_FLOWS_H

#include "engine.h"

enum {
    PLAIT_MACS = 12,
    PLAIT_LABELS = 8,
    PLAIT_CLEAR = 16,
    PLAIT_BATCH_FRAMES = 64, /* single frames that wait for company at most */
    PLAIT_BATCH_BYTES = 65507,
    PLAIT_INBOUND_FLOWS = 32,
    PLAIT_ACCEPTED = 256,
};

/* Why a call came back. */
enum plait_end {
    PLAIT_EMPTY,    /* nothing waits */
    PLAIT_GIVEN_BACK, /* what was read last is not of a known flow, or not usual */
    PLAIT_TIME_UP,
    PLAIT_FAILED /* `error` says why nothing can be read */
};

/* The sending end towards one neighbour. */
struct plait_sender {
    /* By the caller. */
    struct plait_key *key; /* NULL on a plain connection */
    uint64_t next;         /* sequence */
    uint64_t limit;        /* the first sequence that is not the key's */
    int socket;            /* connected to the neighbour */
    uint32_t max_payload;
    uint8_t clear[PLAIT_CLEAR]; /* version and type, and sequence, are written here */

    /* What was done since the caller made these 0. */
    uint64_t bytes;
    uint32_t frames;
    uint32_t datagrams;
    uint32_t failed; /* datagrams */
    int error;       /* errno of the last that failed */
    int is_unsegmented; /* the kernel refused UDP_SEGMENT, and took the datagrams one by one */

    /* Single frames that wait, in datagrams one behind the other; the last one is open. */
    uint32_t waiting;
    uint32_t closed; /* datagrams */
    uint32_t closed_bytes;
    uint32_t open_bytes; /* 0: there is none */
    uint32_t sizes[PLAIT_BATCH_FRAMES];
    uint8_t batch[PLAIT_BATCH_BYTES];
};

/* Frames with these addresses, and with these labels of the kernel's datapath before their type, go to `sender`. */
struct plait_flow {
    struct plait_sender *sender;
    uint32_t labels;      /* 0 or PLAIT_LABELS */
    uint32_t is_unlabelled; /* frames with labels are not of this flow */
    uint8_t head[PLAIT_MACS + PLAIT_LABELS];
};

/*
 * Read frames from the tap into `raw` (of `capacity` bytes) and send them, as long as they are of the flow; if `*bytes`
 * is not 0, such a frame is there already. What is given back is in `raw`, its length in `*bytes`. `until`: nanoseconds
 * of the monotonic clock. Single frames wait in the sender for `plait_flush`.
 */
enum plait_end plait_forward(const struct plait_flow *flow, int tap, uint8_t *raw, size_t capacity, size_t *bytes,
                             uint64_t until, int *error);

/* Send the single frames that wait. */
void plait_flush(struct plait_sender *sender);

/* Give the bytes of sender, flow and receiver, so that a caller can compare. */
void plait_flow_sizes(size_t *sizes);

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
    int socket; /* connected to the neighbour */
    int tap;
    uint32_t max_frame; /* bytes of an Ethernet frame that fits here */
    uint32_t has_udp_super_frames;
    uint8_t name[6];
    uint8_t flags; /* of the clear header */
    uint8_t inbound; /* number of flows */
    uint8_t flows[PLAIT_INBOUND_FLOWS][PLAIT_MACS];

    /* What was done since the caller made these 0. */
    uint64_t bytes;
    uint32_t datagrams; /* all that were read, given back or not */
    uint32_t data_datagrams;
    uint32_t frames;
    uint32_t forged;
    uint32_t malformed;
    uint32_t replayed;
    uint32_t refused; /* frames the tap did not take */
    int tap_error;    /* errno of the last frame that was written, 0 if the tap took it; -1 if there was none */
    uint32_t accepts;
    struct plait_accepted accepted[PLAIT_ACCEPTED];

    /*
     * What is given back: `size` bytes, datagrams of `step` bytes each; before them `at` bytes of the same burst were
     * taken. Or why nothing could be received.
     */
    uint64_t at;
    uint64_t size;
    uint64_t step;
    int error;

    /* Packets of one UDP flow that are being joined. */
    uint32_t joined;
    uint32_t joined_bytes;
    uint8_t super[65536];
};

/*
 * Receive datagrams into `data` (of `capacity` bytes) and write their frames into the tap, as long as these are of known
 * flows. `scratch` must hold `capacity` bytes.
 */
enum plait_end plait_deliver(struct plait_receiver *receiver, uint8_t *data, size_t capacity, uint8_t *scratch,
                             uint64_t until);

#endif
