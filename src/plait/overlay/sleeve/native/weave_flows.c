/*
 * Frames of known flows in Weave's format: single frames with finished checksums, as records behind the name of the
 * neighbour that sends them. pump/weave_link.py is the reference, with datagram.py, crypto.py and sender.py.
 */

#define _GNU_SOURCE

#include <string.h>

#include "cutting.h"
#include "engine.h"
#include "format.h"
#include "octets.h"
#include "weave_flows.h"

enum {
    RECORD = 14, /* source, destination, length */
    SEQUENCE_BYTES = 8,
    BOX_AT = PLAIT_NAME + SEQUENCE_BYTES,
    NONCE_SEQUENCE = PLAIT_BOX_NONCE - SEQUENCE_BYTES,
    IP_FLAGS = ETHERNET + 6,
    DF = 0x40,
    MAX_FRAMES = 1024, /* of a burst: more are Python's */
    MAX_BURST = 1 << 16,
};

static const uint64_t DF_BIT = (uint64_t)1 << 63;

/* Sending */

static size_t overhead(const struct plait_weave_sender *sender) {
    return sender->seal == NULL ? PLAIT_NAME : BOX_AT + TAG;
}

/* Finish a datagram whose records are written; `bytes`: all of it. */
static void close_datagram(struct plait_weave_sender *sender, size_t bytes) {
    struct plait_batch *batch = &sender->batch;
    uint8_t *datagram = batch->data + batch->closed_bytes;
    memcpy(datagram, sender->us, PLAIT_NAME);
    sender->allowance--;
    if (sender->seal != NULL) {
        uint8_t *box = datagram + BOX_AT;
        put64(datagram + PLAIT_NAME, sender->next[sender->df]++ | (sender->df ? DF_BIT : 0));
        memcpy(sender->nonce + NONCE_SEQUENCE, datagram + PLAIT_NAME, SEQUENCE_BYTES);
        (void)sender->seal(box, box + TAG, bytes - BOX_AT - TAG, sender->nonce, sender->key); /* cannot fail */
    }
    plait_batch_close(batch, bytes);
}

void plait_weave_flush(struct plait_weave_sender *sender) {
    if (sender->batch.open_bytes != 0)
        close_datagram(sender, sender->batch.open_bytes);
    sender->batch.socket = sender->sockets[sender->df];
    plait_batch_send(&sender->batch);
}

static void write_record(const struct plait_weave_sender *sender, uint8_t *at, size_t bytes) {
    memcpy(at, sender->us, PLAIT_NAME);
    memcpy(at + PLAIT_NAME, sender->peer, PLAIT_NAME);
    put16(at + 2 * PLAIT_NAME, bytes);
}

/* Say whether a frame is IPv4 with a complete header: ethernet.py, `ipv4_header_bytes`. */
static int is_ipv4(const uint8_t *frame, size_t bytes) {
    if (bytes < ETHERNET + IPV4 || get16(frame + 12) != 0x0800)
        return 0;
    size_t header = (size_t)(frame[ETHERNET] & 15) * 4;
    return frame[ETHERNET] >> 4 == 4 && header >= IPV4 && bytes >= ETHERNET + header &&
           get16(frame + ETHERNET + 2) >= header;
}

/* Say whether a frame that fits leaves with DF: sender.py, `choose_way`. */
static uint32_t leaves_with_df(const struct plait_weave_sender *sender, const uint8_t *frame, size_t bytes) {
    return is_ipv4(frame, bytes) && (frame[IP_FLAGS] & DF || !sender->has_stack_frag);
}

/* Make room for datagrams that leave with `df` or without; gives 0 if they may not now. */
static int begin(struct plait_weave_sender *sender, uint32_t df, size_t datagrams) {
    if (sender->batch.closed + sender->batch.open_bytes > 0 && sender->df != df)
        plait_weave_flush(sender);
    sender->df = df;
    /* One that is open counts when it is closed. */
    return sender->allowance > datagrams && sender->next[df] + datagrams + 1 < DF_BIT;
}

/* Append a frame, which may be where the batch ends; gives where it is to be written, NULL if it does not fit. */
static uint8_t *append(struct plait_weave_sender *sender, size_t bytes) {
    struct plait_batch *batch = &sender->batch;
    size_t size = RECORD + bytes;
    if (overhead(sender) + size > batch->max_payload)
        return NULL;
    if (batch->open_bytes != 0 && batch->open_bytes + size > batch->max_payload)
        close_datagram(sender, batch->open_bytes);
    if (batch->open_bytes == 0) {
        if (!plait_batch_has_room(batch))
            plait_weave_flush(sender);
        batch->open_bytes = (uint32_t)overhead(sender);
    }
    uint8_t *record = batch->data + batch->closed_bytes + batch->open_bytes;
    write_record(sender, record, bytes);
    batch->open_bytes += (uint32_t)size;
    batch->waiting++;
    sender->records++;
    return record + RECORD;
}

static int take_single(struct plait_weave_sender *sender, const uint8_t *raw, size_t bytes) {
    const uint8_t *frame = raw + VNET;
    size_t length = bytes - VNET;
    if (length > sender->mtu + ETHERNET || !begin(sender, leaves_with_df(sender, frame, length), 1))
        return 0;
    uint8_t *out = append(sender, length);
    if (out == NULL)
        return 0;
    memcpy(out, frame, length);
    if (raw[0] & NEEDS_CSUM) {
        size_t start = get16_little(raw + 6), at = start + get16_little(raw + 8);
        if (start >= ETHERNET && at + 2 <= length)
            put16(out + at, plait_checksum(frame + start, length - start));
    }
    return 1;
}

/* Write frames where they leave from, one in each datagram; gives 0 if there is no room. */
static int cut_into_datagrams(struct plait_weave_sender *sender, const uint8_t *raw, size_t bytes,
                              const struct plait_layout *where, size_t size, size_t count) {
    struct plait_batch *batch = &sender->batch;
    size_t gap = overhead(sender) + RECORD, head = where->payload - VNET, length = head + size;
    if (batch->open_bytes != 0)
        close_datagram(sender, batch->open_bytes);
    if (batch->closed + count > PLAIT_BATCH_DATAGRAMS || batch->closed_bytes + count * (gap + length) > PLAIT_BATCH_BYTES)
        plait_weave_flush(sender);
    size_t total = plait_cut(raw, bytes, where, size, gap, batch->data + batch->closed_bytes,
                             PLAIT_BATCH_BYTES - batch->closed_bytes);
    for (size_t left = total; left > 0;) {
        size_t datagram = left < gap + length ? left : gap + length;
        write_record(sender, batch->data + batch->closed_bytes + gap - RECORD, datagram - gap);
        close_datagram(sender, datagram);
        batch->waiting++;
        sender->records++;
        left -= datagram;
    }
    return total != 0;
}

/* The same for frames of which several share a datagram. */
static int cut_into_records(struct plait_weave_sender *sender, const uint8_t *raw, size_t bytes,
                            const struct plait_layout *where, size_t size) {
    static uint8_t frames[PLAIT_BATCH_BYTES];
    size_t length = where->payload - VNET + size;
    size_t total = plait_cut(raw, bytes, where, size, 0, frames, sizeof frames);
    for (size_t at = 0; at < total; at += length) {
        size_t frame = total - at < length ? total - at : length;
        memcpy(append(sender, frame), frames + at, frame);
    }
    return total != 0;
}

static int take_super(struct plait_weave_sender *sender, const uint8_t *raw, size_t bytes) {
    struct plait_headers read;
    size_t l4 = VNET + get16_little(raw + 6);
    if (l4 + TCP_MIN > bytes)
        return 0;
    size_t payload_at = l4 + ((raw[1] & ~GSO_ECN) == GSO_UDP_L4 ? UDP : (size_t)(raw[l4 + 12] >> 4) * 4);
    if (payload_at >= bytes || !plait_read_headers(raw, payload_at, &read))
        return 0;
    size_t head = read.payload - VNET, most = sender->mtu + ETHERNET, payload = bytes - read.payload;
    size_t size = read.gso_size;
    if (read.is_tcp && head < most && size > most - head)
        size = most - head;
    if (size > payload)
        size = payload;
    size_t length = head + size, count = (payload + size - 1) / size, used = overhead(sender) + RECORD + length;
    if (length > most || used > sender->batch.max_payload || count >= PLAIT_BATCH_DATAGRAMS ||
        count * used > PLAIT_BATCH_BYTES || sender->batch.is_unsegmented)
        return 0;
    struct plait_layout where = {read.ip, read.l4, read.payload, read.is_ipv6, read.is_tcp};
    if (!begin(sender, leaves_with_df(sender, raw + VNET, length), count))
        return 0;
    return used + RECORD + length > sender->batch.max_payload
               ? cut_into_datagrams(sender, raw, bytes, &where, size, count)
               : cut_into_records(sender, raw, bytes, &where, size);
}

static int take(struct plait_weave_sender *sender, const uint8_t *raw, size_t bytes) {
    if (!(raw[1] == 0 ? take_single(sender, raw, bytes) : take_super(sender, raw, bytes)))
        return 0;
    sender->batch.frames++;
    return 1;
}

int plait_weave_take(struct plait_weave_sender *sender, uint8_t *raw, size_t bytes, size_t labels) {
    if (labels == 0)
        return take(sender, raw, bytes);
    /* Without its labels the frame begins later in the same memory. */
    uint8_t before[VNET + PLAIT_MACS + PLAIT_LABELS], *shorter = raw + labels;
    memcpy(before, raw, sizeof before);
    size_t start = get16_little(raw + 6);
    memcpy(shorter, before, VNET + PLAIT_MACS);
    put16_little(shorter + 6, start < labels ? 0 : start - labels);
    if (take(sender, shorter, bytes - labels))
        return 1;
    memcpy(raw, before, sizeof before);
    return 0;
}

/* Receiving */

/* The frames of a burst; where they are counts until the burst is over. */
struct frames {
    size_t count;
    const uint8_t *at[MAX_FRAMES];
    uint32_t lengths[MAX_FRAMES];
};

/* Read the records of a datagram; gives 0, with nothing changed, if they are not usual: Python knows what is wrong. */
static int read_records(const struct plait_weave_receiver *receiver, const uint8_t *data, size_t bytes,
                        struct frames *frames) {
    const struct plait_inbound *inbound = &receiver->inbound;
    static const uint8_t special[ETHERNET];
    size_t count = frames->count;
    for (size_t at = 0, length; at < bytes; at += RECORD + length) {
        const uint8_t *record = data + at, *frame = record + RECORD;
        if (bytes - at < RECORD || count == MAX_FRAMES)
            return 0;
        length = get16(record + 2 * PLAIT_NAME);
        if (length > bytes - at - RECORD || length < ETHERNET || length > inbound->max_frame ||
            memcmp(record, inbound->name, PLAIT_NAME) != 0 || memcmp(record + PLAIT_NAME, receiver->us, PLAIT_NAME) != 0 ||
            !plait_is_known(inbound, frame) || memcmp(frame, special, ETHERNET) == 0)
            return 0;
        frames->at[count] = frame;
        frames->lengths[count++] = (uint32_t)length;
    }
    frames->count = count;
    return 1;
}

static void accept(struct plait_weave_receiver *receiver, uint64_t number) {
    struct plait_weave_accepted *last = receiver->accepted + receiver->inbound.accepts;
    receiver->next[number >> 63] = (number & ~DF_BIT) + 1;
    if (receiver->inbound.accepts > 0 && last[-1].first + last[-1].count == number) {
        last[-1].count++;
        return;
    }
    *last = (struct plait_weave_accepted){number, 1};
    receiver->inbound.accepts++;
}

/* Take a datagram; gives 0 if it is for Python. `scratch` is where opened records go; gives how many bytes of it. */
static int take_datagram(struct plait_weave_receiver *receiver, const uint8_t *data, size_t bytes, uint8_t *scratch,
                         size_t *opened, struct frames *frames) {
    struct plait_inbound *inbound = &receiver->inbound;
    *opened = 0;
    if (bytes < PLAIT_NAME || memcmp(data, inbound->name, PLAIT_NAME) != 0)
        return 0;
    if (receiver->open == NULL)
        return read_records(receiver, data + PLAIT_NAME, bytes - PLAIT_NAME, frames);
    if (bytes < BOX_AT + TAG)
        return 0;
    uint64_t number = get64(data + PLAIT_NAME);
    if ((number & ~DF_BIT) < receiver->next[number >> 63])
        return 0;
    memcpy(receiver->nonce + NONCE_SEQUENCE, data + PLAIT_NAME, SEQUENCE_BYTES);
    if (receiver->open(scratch, data + BOX_AT, bytes - BOX_AT, receiver->nonce, receiver->key) != 0) {
        inbound->forged++;
        return 1;
    }
    *opened = bytes - BOX_AT - TAG;
    if (!read_records(receiver, scratch, *opened, frames))
        return 0;
    accept(receiver, number);
    return 1;
}

static void write_frames(struct plait_weave_receiver *receiver, const struct frames *frames) {
    struct plait_inbound *inbound = &receiver->inbound;
    static uint8_t out[MAX_BURST + MAX_FRAMES * VNET];
    static uint32_t lengths[MAX_FRAMES];
    const uint8_t *raw = out;
    size_t count = plait_coalesce(frames->at, frames->lengths, frames->count, out, sizeof out, lengths);
    for (size_t number = 0; number < count; raw += lengths[number++])
        plait_write_frame(inbound, raw, lengths[number]);
    inbound->frames += (uint32_t)count;
    receiver->records += (uint32_t)frames->count;
    if (count == 0 && frames->count > 0) /* no memory */
        inbound->refused += (uint32_t)frames->count;
}

static size_t take_burst(void *of, const uint8_t *data, const struct plait_burst *burst, uint8_t *scratch) {
    static struct frames frames;
    struct plait_weave_receiver *receiver = of;
    size_t at = 0, opened;
    frames.count = 0;
    while (at < burst->size) {
        size_t bytes = burst->size - at < burst->step ? burst->size - at : burst->step;
        uint32_t forged = receiver->inbound.forged;
        if (!take_datagram(receiver, data + at, bytes, scratch, &opened, &frames))
            break;
        receiver->inbound.data_datagrams += receiver->inbound.forged == forged;
        scratch += opened;
        at += bytes;
    }
    write_frames(receiver, &frames);
    return at;
}

enum plait_end plait_weave_deliver(struct plait_weave_receiver *receiver, uint8_t *data, size_t capacity,
                                   uint8_t *scratch, uint64_t until) {
    return plait_deliver_bursts(&receiver->inbound, take_burst, receiver, data, capacity, scratch, until);
}
