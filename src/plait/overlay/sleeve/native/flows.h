/*
 * Frames of known flows, moved without asking: see flows.c.
 *
 * A flow is what goes from one MAC address to another. Where its frames go was decided in Python (pump/core.py), which
 * names the flow here for as long as the decision holds. Everything else is given back, for Python to do.
 */

#ifndef PLAIT_FLOWS_H
#define PLAIT_FLOWS_H

#include "datagrams.h"

enum {
    PLAIT_MACS = 12,
    PLAIT_LABELS = 8,
    PLAIT_INBOUND_FLOWS = 32,
    PLAIT_ACCEPTED = 256,
    PLAIT_PLACES = 4096, /* for 1024 flows: pump/flows.py */
    PLAIT_NEIGHBOURS = 3,
    PLAIT_SOURCES = 1024,
    PLAIT_TOUCHED = 16,
};

/* Why a call came back. */
enum plait_end {
    PLAIT_EMPTY,      /* nothing waits */
    PLAIT_GIVEN_BACK, /* what was read last is not of a known flow, or not usual */
    PLAIT_TIME_UP,
    PLAIT_FAILED, /* `error` says why nothing can be read */
    PLAIT_OTHER   /* something is ready that is not ours */
};

/* Frames with these addresses, and with these labels of the kernel's datapath before their type, go to one sender. */
struct plait_flow {
    struct plait_sender *plait1;      /* the sender of its format, */
    struct plait_weave_sender *weave; /* the other is NULL */
    uint32_t labels;                  /* 0 or PLAIT_LABELS */
    uint32_t is_unlabelled;           /* frames with labels are not of this flow */
    uint8_t head[PLAIT_MACS + PLAIT_LABELS];
};

/* Who receives what comes in by a descriptor: at most one of the two. */
struct plait_source {
    struct plait_receiver *plait1;
    struct plait_weave_receiver *weave;
};

/* What is known, and what a call works with. */
struct plait_pump {
    /* By the caller. */
    int epoll; /* watches tap, sockets of neighbours and more */
    int tap;
    uint8_t *raw; /* where frames from the tap go */
    size_t raw_capacity;
    uint8_t *data; /* where datagrams go */
    uint8_t *scratch;
    size_t data_capacity; /* of each of both */
    struct plait_flow *flows[PLAIT_PLACES + PLAIT_NEIGHBOURS]; /* each at its `plait_place`, or up to 3 behind it */
    struct plait_source sources[PLAIT_SOURCES];                /* by descriptor */

    size_t raw_bytes; /* a frame in `raw`, which is given back: the caller makes it 0 */
    int at;           /* the descriptor where something was given back, or failed */
    int error;        /* why nothing can be read there */

    const struct plait_flow *last;
    const struct plait_flow *touched[PLAIT_TOUCHED]; /* whose frames may wait */
    uint32_t touched_count;
    uint32_t turn; /* counts calls of epoll_wait */
};

/* Give where a flow between two addresses belongs. */
uint32_t plait_place(const uint8_t *macs);

/*
 * Wait for what `epoll` watches and move the frames of known flows both ways, each descriptor for a slice of time, until
 * something is given back, something else is ready too (PLAIT_OTHER), or the time is up. `until`: nanoseconds of the
 * monotonic clock.
 */
enum plait_end plait_run(struct plait_pump *pump, uint64_t until);

/* What both receiving ends have of one neighbour. */
struct plait_inbound {
    /* By the caller. */
    int socket; /* connected to the neighbour */
    int tap;
    uint32_t max_frame; /* bytes of an Ethernet frame that fits here */
    uint32_t has_udp_super_frames;
    uint8_t name[6];
    uint8_t number; /* of flows */
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
    int tap_error;    /* errno of the last frame that was written, 0 if the tap took it; the caller makes it -1 */
    uint32_t accepts; /* notes of accepted sequences, which the ends keep */

    /*
     * What is given back: `size` bytes, datagrams of `step` bytes each; before them `at` bytes of the same burst were
     * taken. Or why nothing could be received.
     */
    uint64_t at;
    uint64_t size;
    uint64_t step;
    int error;
};

/* Takes datagrams of a burst from its beginning; gives how many of its bytes it took. `scratch` has room for a burst. */
typedef size_t plait_take_burst(void *receiver, const uint8_t *data, const struct plait_burst *burst, uint8_t *scratch);

/*
 * Receive bursts into `data` (of `capacity` bytes) and have them taken, until something is given back or nothing waits.
 * A burst is noted in at most PLAIT_MERGED of PLAIT_ACCEPTED places. `scratch` must hold `capacity` bytes.
 */
enum plait_end plait_deliver_bursts(struct plait_inbound *inbound, plait_take_burst *take, void *receiver, uint8_t *data,
                                    size_t capacity, uint8_t *scratch, uint64_t until);

/* Write a frame into the tap. */
void plait_write_frame(struct plait_inbound *inbound, const uint8_t *raw, size_t bytes);

/* Say whether a frame with these addresses is of a known flow. */
int plait_is_known(const struct plait_inbound *inbound, const uint8_t *macs);

#endif
