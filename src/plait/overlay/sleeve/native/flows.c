/*
 * Moves the frames of known flows between the tap and the sockets of neighbours, a burst in one call: what both formats
 * have in common.
 *
 * The decisions are those of pump/core.py and of the links, which are the reference: they see the first frame of a
 * flow, whatever is not of a known flow, and everything unusual (probes, relayed frames, what does not fit). Tests
 * compare both ways. What a peer sends is checked here as it is there; no byte outside the given buffers is touched.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flows.h"
#include "format.h"
#include "octets.h"
#include "plait1_flows.h"
#include "weave_flows.h"

enum {
    LABEL = 0x88a8,    /* the type of both tags of the kernel's datapath: pump/labels.py */
    WINDOW = 1000000,  /* nanoseconds */
    BUSY_FRAMES = 60,  /* in a window: TCP's acknowledgements of 10 Gbit/s in super-frames are a third of that */
    GATHER = 60000,    /* nanoseconds: some ten frames at least */
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void plait_flow_sizes(size_t *sizes) {
    sizes[0] = sizeof(struct plait_flow);
    sizes[1] = sizeof(struct plait_sender);
    sizes[2] = sizeof(struct plait_receiver);
    sizes[3] = sizeof(struct plait_weave_sender);
    sizes[4] = sizeof(struct plait_weave_receiver);
}

/* From the tap */

static void flush(const struct plait_flow *flow) {
    if (flow->plait1 != NULL)
        plait_flush(flow->plait1);
    else
        plait_weave_flush(flow->weave);
}

static uint32_t waiting(const struct plait_flow *flow) {
    return flow->plait1 != NULL ? flow->plait1->batch.waiting : flow->weave->batch.waiting;
}

static int take(const struct plait_flow *flow, uint8_t *raw, size_t bytes) {
    size_t head = PLAIT_MACS + flow->labels;
    if (bytes < MIN_RAW + flow->labels || memcmp(raw + VNET, flow->head, head) != 0)
        return 0;
    if (flow->is_unlabelled && bytes >= MIN_RAW + PLAIT_LABELS && get16(raw + MIN_RAW - 2) == LABEL &&
        get16(raw + MIN_RAW + 2) == LABEL)
        return 0;
    if (flow->plait1 != NULL)
        return plait_take(flow->plait1, raw, bytes, flow->labels);
    return plait_weave_take(flow->weave, raw, bytes, flow->labels);
}

/*
 * Small frames that come fast are cheaper together. A program that sends them on this processor would be interrupted
 * for each, so sleep a moment when nothing waits, as a network card holds back its interrupts.
 */
static int is_busy(uint64_t time, uint32_t frames) { /* `frames`: since the last call, which must be told of too */
    static uint64_t since;
    static uint32_t before, in_window;
    in_window += frames;
    if (time - since >= WINDOW) {
        before = time - since < 2 * WINDOW ? in_window : 0;
        in_window = 0;
        since = time;
    }
    return before >= BUSY_FRAMES || in_window >= BUSY_FRAMES;
}

static void gather(const struct plait_flow *flow, uint32_t singles) {
    static const struct timespec moment = {0, GATHER};
    if (!is_busy(now(), singles))
        return;
    flush(flow);
    nanosleep(&moment, NULL);
}

enum plait_end plait_forward(const struct plait_flow *flow, int tap, uint8_t *raw, size_t capacity, size_t *bytes,
                             uint64_t until, int *error) {
    uint32_t singles = 0;
    for (;;) {
        if (*bytes == 0) {
            ssize_t got = read(tap, raw, capacity);
            if (got <= 0) {
                *error = got == 0 ? ENODEV : errno;
                if (*error != EAGAIN && *error != EINTR)
                    return PLAIT_FAILED;
                gather(flow, singles);
                return PLAIT_EMPTY;
            }
            *bytes = (size_t)got;
        }
        if (!take(flow, raw, *bytes))
            return PLAIT_GIVEN_BACK;
        singles += raw[1] == 0;
        *bytes = 0;
        if (waiting(flow) >= PLAIT_BATCH_FRAMES)
            flush(flow);
        if (now() >= until) {
            (void)is_busy(until, singles); /* only counts them */
            return PLAIT_TIME_UP;
        }
    }
}

/* Into the tap */

void plait_write_frame(struct plait_inbound *inbound, const uint8_t *raw, size_t bytes) {
    inbound->tap_error = 0;
    if (write(inbound->tap, raw, bytes) < 0) {
        inbound->tap_error = errno;
        inbound->refused++;
    }
}

int plait_is_known(const struct plait_inbound *inbound, const uint8_t *macs) {
    for (int number = 0; number < inbound->number; number++)
        if (memcmp(macs, inbound->flows[number], PLAIT_MACS) == 0)
            return 1;
    return 0;
}

enum plait_end plait_deliver_bursts(struct plait_inbound *inbound, plait_take_burst *take, void *receiver, uint8_t *data,
                                    size_t capacity, uint8_t *scratch, uint64_t until) {
    inbound->tap_error = -1;
    while (inbound->accepts + PLAIT_MERGED <= PLAIT_ACCEPTED) {
        struct plait_burst burst;
        inbound->error = plait_receive(inbound->socket, data, capacity, &burst);
        if (inbound->error)
            return inbound->error == EAGAIN ? PLAIT_EMPTY : PLAIT_FAILED;
        inbound->datagrams += burst.count;
        size_t at = burst.count > PLAIT_MERGED ? 0 : take(receiver, data, &burst, scratch);
        inbound->bytes += at;
        if (at < burst.size || burst.size == 0) {
            inbound->at = at;
            inbound->size = burst.size - at;
            inbound->step = burst.step;
            memmove(data, data + at, inbound->size);
            return PLAIT_GIVEN_BACK;
        }
        if (now() >= until)
            break;
    }
    return PLAIT_TIME_UP;
}
