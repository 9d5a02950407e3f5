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
#include <sys/epoll.h>
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
    SLICE = 500000,    /* nanoseconds for one descriptor, until another has its turn: pump/loop.py */
    MILLISECOND = 1000000,
    EVENTS = 16,
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* From the tap */

uint32_t plait_place(const uint8_t *macs) {
    uint32_t hash = get32(macs) ^ get32(macs + 4) * 31 ^ get32(macs + 8) * 37;
    return (hash ^ hash >> 10 ^ hash >> 20) % PLAIT_PLACES;
}

static int is_of_flow(const struct plait_flow *flow, const uint8_t *raw, size_t bytes) {
    if (bytes < MIN_RAW + flow->labels || memcmp(raw + VNET, flow->head, PLAIT_MACS + flow->labels) != 0)
        return 0;
    return !(flow->is_unlabelled && bytes >= MIN_RAW + PLAIT_LABELS && get16(raw + MIN_RAW - 2) == LABEL &&
             get16(raw + MIN_RAW + 2) == LABEL);
}

static const struct plait_flow *find(const struct plait_pump *pump, const uint8_t *raw, size_t bytes) {
    if (pump->last != NULL && is_of_flow(pump->last, raw, bytes))
        return pump->last;
    if (bytes < MIN_RAW)
        return NULL;
    uint32_t place = plait_place(raw + VNET);
    for (uint32_t at = place; at <= place + PLAIT_NEIGHBOURS; at++)
        if (pump->flows[at] != NULL && is_of_flow(pump->flows[at], raw, bytes))
            return pump->flows[at];
    return NULL;
}

static int take(const struct plait_flow *flow, uint8_t *raw, size_t bytes) {
    if (flow->plait1 != NULL)
        return plait_take(flow->plait1, raw, bytes, flow->labels);
    return plait_weave_take(flow->weave, raw, bytes, flow->labels);
}

static uint32_t waiting(const struct plait_flow *flow) {
    return flow->plait1 != NULL ? flow->plait1->batch.waiting : flow->weave->batch.waiting;
}

static void flush(const struct plait_flow *flow) {
    if (flow->plait1 != NULL)
        plait_flush(flow->plait1);
    else
        plait_weave_flush(flow->weave);
}

static void flush_all(struct plait_pump *pump) {
    for (uint32_t number = 0; number < pump->touched_count; number++)
        flush(pump->touched[number]);
    pump->touched_count = 0;
}

static void touch(struct plait_pump *pump, const struct plait_flow *flow) {
    if (flow == pump->last && pump->touched_count > 0)
        return; /* it is the last one that was touched */
    if (pump->touched_count == PLAIT_TOUCHED)
        flush_all(pump);
    pump->touched[pump->touched_count++] = flow;
    pump->last = flow;
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

static enum plait_end forward(struct plait_pump *pump, uint64_t until) {
    uint32_t singles = 0;
    for (;;) {
        if (pump->raw_bytes == 0) {
            ssize_t got = read(pump->tap, pump->raw, pump->raw_capacity);
            if (got <= 0) {
                pump->error = got == 0 ? ENODEV : errno;
                if (pump->error != EAGAIN && pump->error != EINTR)
                    return PLAIT_FAILED;
                if (is_busy(now(), singles)) {
                    static const struct timespec moment = {0, GATHER};
                    flush_all(pump);
                    nanosleep(&moment, NULL);
                }
                return PLAIT_EMPTY;
            }
            pump->raw_bytes = (size_t)got;
        }
        const struct plait_flow *flow = find(pump, pump->raw, pump->raw_bytes);
        if (flow == NULL)
            return PLAIT_GIVEN_BACK;
        touch(pump, flow);
        if (!take(flow, pump->raw, pump->raw_bytes))
            return PLAIT_GIVEN_BACK;
        singles += pump->raw[1] == 0;
        pump->raw_bytes = 0;
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

/* Both ways */

static struct plait_source *source_of(struct plait_pump *pump, int descriptor) {
    if (descriptor < 0 || descriptor >= PLAIT_SOURCES)
        return NULL;
    struct plait_source *source = pump->sources + descriptor;
    return source->plait1 != NULL || source->weave != NULL ? source : NULL;
}

static enum plait_end deliver(struct plait_pump *pump, const struct plait_source *source, uint64_t until) {
    if (source->plait1 != NULL)
        return plait_deliver(source->plait1, pump->data, pump->data_capacity, pump->scratch, until);
    return plait_weave_deliver(source->weave, pump->data, pump->data_capacity, pump->scratch, until);
}

static int has_no_place(const struct plait_source *source) {
    uint32_t accepts = source->plait1 != NULL ? source->plait1->inbound.accepts : source->weave->inbound.accepts;
    return accepts + PLAIT_MERGED > PLAIT_ACCEPTED;
}

/*
 * Serve what is ours, one after the other; gives PLAIT_EMPTY if nothing of it is the caller's. Each time another one is
 * first: who has something for the caller all the time, which ends this, must not keep the others from their turn.
 */
static enum plait_end serve(struct plait_pump *pump, const struct epoll_event *events, uint32_t count) {
    enum plait_end rest = PLAIT_EMPTY;
    pump->turn++;
    for (uint32_t number = 0; number < count; number++) {
        const struct epoll_event *event = events + (pump->turn + number) % count;
        int ready = event->data.fd;
        struct plait_source *source = source_of(pump, ready);
        if (event->events != EPOLLIN || (ready != pump->tap && source == NULL)) {
            rest = PLAIT_OTHER;
            continue;
        }
        uint64_t until = now() + SLICE;
        enum plait_end end = ready == pump->tap ? forward(pump, until) : deliver(pump, source, until);
        pump->at = ready;
        flush_all(pump);
        if (end == PLAIT_GIVEN_BACK || end == PLAIT_FAILED)
            return end;
        if (source != NULL && has_no_place(source))
            return PLAIT_TIME_UP;
    }
    return rest;
}

enum plait_end plait_run(struct plait_pump *pump, uint64_t until) {
    for (;;) {
        struct epoll_event events[EVENTS];
        uint64_t time = now();
        int patience = time < until ? (int)((until - time + MILLISECOND - 1) / MILLISECOND) : 0;
        int count = epoll_wait(pump->epoll, events, EVENTS, patience);
        if (count <= 0)
            return PLAIT_TIME_UP;
        enum plait_end end = serve(pump, events, (uint32_t)count);
        if (end != PLAIT_EMPTY)
            return end;
        if (now() >= until)
            return PLAIT_TIME_UP;
    }
}
