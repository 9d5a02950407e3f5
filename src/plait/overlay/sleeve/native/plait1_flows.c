/*
 * Frames of known flows in the format between two plait nodes (docs/protocol/sleeve2.md): pump/plait1_link.py is the
 * reference, with what of pump/core.py concerns a frame that goes on as it is.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <string.h>

#include "format.h"
#include "octets.h"
#include "plait1_flows.h"

enum {
    VERSION = 0x10,
    KIND_SEGMENT = 2,
    RECORD = 2, /* bytes of a record's length */
    MAX_SEND_BYTES = 65507, /* the largest UDP payload over IPv4 */
};

/* Sending */

/* Give the open datagram its sequence and, on an encrypted connection, its seal. */
static void close_datagram(struct plait_sender *sender) {
    uint8_t *datagram = sender->batch.data + sender->batch.closed_bytes;
    size_t bytes = sender->batch.open_bytes;
    sender->batch.open_bytes = 0;
    put64(datagram + SEQUENCE, sender->next++);
    if (sender->key != NULL) {
        if (!plait_seal_whole(sender->key, KIND_RECORDS, datagram, CLEAR, bytes)) {
            plait_batch_count(&sender->batch, EIO, 1, 0);
            return;
        }
        bytes += TAG;
    }
    plait_batch_close(&sender->batch, bytes);
}

void plait_flush(struct plait_sender *sender) {
    if (sender->batch.open_bytes != 0)
        close_datagram(sender);
    plait_batch_send(&sender->batch);
}

/* Write the wire's form of a virtio-net header without segmentation: superframe.py, `cleaned`. */
static void write_vnet(uint8_t *out, const uint8_t *raw, size_t labels) {
    memset(out, 0, VNET);
    if (raw[0] == NEEDS_CSUM) { /* other bits: it was verified, which nobody else must know */
        out[0] = NEEDS_CSUM;
        put16_little(out + 6, get16_little(raw + 6) - labels);
        memcpy(out + 8, raw + 8, 2);
    }
}

static int take_single(struct plait_sender *sender, const uint8_t *raw, size_t bytes, size_t labels) {
    struct plait_batch *batch = &sender->batch;
    size_t tag = sender->key == NULL ? 0 : TAG, length = bytes - labels, size = RECORD + length;
    if (CLEAR + size + tag > batch->max_payload)
        return 0;
    if (raw[0] == NEEDS_CSUM && get16_little(raw + 6) < labels)
        return 0;
    if (batch->open_bytes != 0 && batch->open_bytes + size + tag > batch->max_payload)
        close_datagram(sender);
    if (batch->open_bytes == 0) {
        if (!plait_batch_has_room(batch))
            plait_flush(sender);
        if (sender->next >= sender->limit)
            return 0;
        memcpy(batch->data + batch->closed_bytes, sender->clear, CLEAR);
        batch->data[batch->closed_bytes + 6] = VERSION | KIND_RECORDS;
        batch->open_bytes = CLEAR;
    }
    uint8_t *out = batch->data + batch->closed_bytes + batch->open_bytes;
    put16(out, length);
    out += RECORD;
    write_vnet(out, raw, labels);
    memcpy(out + VNET, raw + VNET, PLAIT_MACS);
    memcpy(out + VNET + PLAIT_MACS, raw + VNET + PLAIT_MACS + labels, length - VNET - PLAIT_MACS);
    batch->open_bytes += (uint32_t)size;
    batch->waiting++;
    batch->frames++;
    return 1;
}

/* Write the headers of a super-frame as they travel. Gives their bytes, and those of the frame; 0 if they are none. */
static size_t write_blob(uint8_t *blob, size_t labels, const uint8_t *raw, size_t bytes, size_t *payload_at) {
    size_t l4 = VNET + get16_little(raw + 6), header = UDP;
    if (raw[0] != NEEDS_CSUM || l4 + TCP_MIN > bytes || l4 < MIN_RAW + labels)
        return 0;
    if ((raw[1] & ~GSO_ECN) != GSO_UDP_L4)
        header = (size_t)(raw[l4 + 12] >> 4) * 4;
    size_t at = l4 + header, size = at - labels;
    if (at >= bytes || size > MAX_BLOB)
        return 0;
    blob[0] = NEEDS_CSUM;
    blob[1] = raw[1];
    put16_little(blob + 2, size - VNET);
    memcpy(blob + 4, raw + 4, 2);
    put16_little(blob + 6, get16_little(raw + 6) - labels);
    memcpy(blob + 8, raw + 8, 2);
    memcpy(blob + VNET, raw + VNET, PLAIT_MACS);
    memcpy(blob + VNET + PLAIT_MACS, raw + VNET + PLAIT_MACS + labels, size - VNET - PLAIT_MACS);
    *payload_at = at;
    return size;
}

static int take_super(struct plait_sender *sender, const uint8_t *raw, size_t bytes, size_t labels) {
    struct plait_batch *batch = &sender->batch;
    uint8_t blob[MAX_BLOB];
    /* Segments of one call lie one behind the other; what does not fit the buffer is Python's. */
    static uint8_t datagrams[MAX_SUPER + PLAIT_MAX_SLICES * (CLEAR + FIELDS + 255 + 1 + TAG)];
    struct plait_headers where;
    size_t payload_at, blob_bytes = write_blob(blob, labels, raw, bytes, &payload_at);
    if (blob_bytes == 0 || batch->is_unsegmented || !plait_read_headers(blob, blob_bytes, &where))
        return 0;
    size_t tag = sender->key == NULL ? 0 : TAG, overhead = CLEAR + FIELDS + blob_bytes + 1 + 2 * tag;
    if (overhead >= batch->max_payload)
        return 0;
    size_t room = batch->max_payload - overhead, slice = where.gso_size;
    if (slice <= room)
        slice = where.is_tcp ? room / slice * slice : slice;
    else if (where.is_tcp)
        put16_little(blob + 4, slice = room);
    else
        return 0;
    size_t payload = bytes - payload_at, count = (payload + slice - 1) / slice, size = overhead + slice;
    if (slice > 0xffff || count > PLAIT_MAX_SLICES || sender->next >= sender->limit)
        return 0;
    plait_flush(sender);
    sender->clear[6] = VERSION | KIND_SEGMENT;
    put64(sender->clear + SEQUENCE, sender->next);
    size_t total = plait_segment(sender->key, blob, blob_bytes, raw + payload_at, payload, sender->clear, CLEAR,
                                 sender->next, slice, datagrams, sizeof datagrams);
    if (total == 0)
        return 0;
    sender->next++;
    size_t most = MAX_SEND_BYTES / size;
    most = most == 0 ? 1 : most > batch->max_run ? batch->max_run : most;
    size_t calls = (count + most - 1) / most, each = (count + calls - 1) / calls;
    for (size_t first = 0; first < count; first += each) {
        size_t number = count - first < each ? count - first : each, at = first * size;
        size_t length = first + number == count ? total - at : number * size;
        int error = plait_send_run(batch, datagrams + at, length, number > 1 ? size : 0);
        if (error && first == 0)
            return 0; /* Python tries again, and knows what the error means */
        plait_batch_count(batch, error, number, length);
    }
    batch->frames++;
    return 1;
}

int plait_take(struct plait_sender *sender, const uint8_t *raw, size_t bytes, size_t labels) {
    return raw[1] == 0 ? take_single(sender, raw, bytes, labels) : take_super(sender, raw, bytes, labels);
}

/* Receiving */

/* UDP packets without IP options, as merging.py joins them */

enum {
    IP = VNET + ETHERNET,
    IP_ID = IP + 4,
    IP_FRAGMENT = IP + 6,
    IP_CHECKSUM = IP + 10,
    IP_ADDRESSES = IP + 12,
    L4 = IP + IPV4,
    L4_LENGTH = L4 + 4,
    L4_CHECKSUM = L4 + UDP_CHECKSUM,
    PAYLOAD = L4 + UDP,
    DF = 0x40,
    MAX_JOINED = 64, /* packets of one super-frame: UDP_MAX_SEGMENTS before Linux 6.9 */
    MAX_JOINED_BYTES = 60000,
};

static int can_be_joined(const uint8_t *raw, size_t bytes) {
    static const uint8_t vnet[VNET] = {NEEDS_CSUM, 0, 0, 0, 0, 0, L4 - VNET, 0, UDP_CHECKSUM, 0};
    return bytes > PAYLOAD && memcmp(raw, vnet, VNET) == 0 && get16(raw + IP - 2) == 0x0800 && raw[IP] == 0x45 &&
           raw[IP + 9] == UDP_PROTOCOL && (raw[IP_FRAGMENT] & ~DF) == 0 && raw[IP_FRAGMENT + 1] == 0 &&
           bytes == IP + get16(raw + IP + 2) && bytes - L4 == get16(raw + L4_LENGTH);
}

/* Add to a 16-bit field, with the carry of ones' complement. */
static void add16(uint8_t *at, size_t amount) {
    size_t total = get16(at) + amount;
    put16(at, (total & 0xffff) + (total >> 16));
}

static void finish_joined(struct plait_receiver *receiver) {
    uint8_t *super = receiver->super;
    size_t count = receiver->joined, payload = get16(super + L4_LENGTH) - UDP, more = (count - 1) * payload;
    if (count == 0)
        return;
    if (count > 1) {
        super[1] = GSO_UDP_L4;
        put16_little(super + 2, PAYLOAD - VNET);
        put16_little(super + 4, payload);
        add16(super + IP + 2, more);
        add16(super + L4_LENGTH, more);
        add16(super + L4_CHECKSUM, more);
        /* RFC 1624: the header checksum goes down by what the length went up. */
        size_t total = (get16(super + IP_CHECKSUM) ^ 0xffff) + more;
        total = (total & 0xffff) + (total >> 16);
        put16(super + IP_CHECKSUM, total ^ 0xffff);
    }
    receiver->joined = 0;
    plait_write_frame(&receiver->inbound, super, receiver->joined_bytes);
}

static int is_next(const struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    const uint8_t *first = receiver->super;
    return receiver->joined > 0 && receiver->joined < MAX_JOINED && bytes == IP + get16(first + IP + 2) &&
           receiver->joined_bytes - PAYLOAD + bytes - PAYLOAD <= MAX_JOINED_BYTES &&
           memcmp(raw, first, IP_ID) == 0 && memcmp(raw + IP_FRAGMENT, first + IP_FRAGMENT, 4) == 0 &&
           memcmp(raw + IP_ADDRESSES, first + IP_ADDRESSES, PAYLOAD - IP_ADDRESSES) == 0;
}

static void inject(struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    receiver->inbound.frames++;
    if (!receiver->inbound.has_udp_super_frames || !can_be_joined(raw, bytes)) {
        finish_joined(receiver);
        plait_write_frame(&receiver->inbound, raw, bytes);
        return;
    }
    if (is_next(receiver, raw, bytes)) {
        memcpy(receiver->super + receiver->joined_bytes, raw + PAYLOAD, bytes - PAYLOAD);
        receiver->joined_bytes += (uint32_t)(bytes - PAYLOAD);
        receiver->joined++;
        return;
    }
    finish_joined(receiver);
    memcpy(receiver->super, raw, bytes);
    receiver->joined_bytes = (uint32_t)bytes;
    receiver->joined = 1;
}

/* Datagrams */

static void accept_mask(struct plait_receiver *receiver, uint64_t sequence, const uint64_t *mask) {
    if (receiver->key == NULL)
        return;
    if (receiver->inbound.accepts > 0 && receiver->accepted[receiver->inbound.accepts - 1].sequence == sequence) {
        receiver->accepted[receiver->inbound.accepts - 1].mask[0] |= mask[0];
        receiver->accepted[receiver->inbound.accepts - 1].mask[1] |= mask[1];
    } else {
        receiver->accepted[receiver->inbound.accepts++] = (struct plait_accepted){sequence, {mask[0], mask[1]}};
    }
    if (sequence > receiver->newest) {
        receiver->newest = sequence;
        receiver->newest_mask[0] = receiver->newest_mask[1] = 0;
    }
    receiver->newest_mask[0] |= mask[0];
    receiver->newest_mask[1] |= mask[1];
}

/* Say whether one of a run's frames may be written as it is: of a known flow, and not longer than what fits here. */
static int is_usual_part(const struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    if (!plait_is_known(&receiver->inbound, raw + VNET))
        return 0;
    if (raw[1] == 0)
        return bytes - VNET <= receiver->inbound.max_frame;
    int is_udp = (raw[1] & ~GSO_ECN) == GSO_UDP_L4;
    if (is_udp && !receiver->inbound.has_udp_super_frames)
        return 0;
    size_t l4 = VNET + get16_little(raw + 6), headers = l4 + (is_udp ? UDP : (size_t)(raw[l4 + 12] >> 4) * 4);
    return headers - VNET + get16_little(raw + 4) <= receiver->inbound.max_frame;
}

/* Take the run of segments that begins at `at`; gives where it ends, or `at` if it is not usual. */
static size_t take_run(struct plait_receiver *receiver, const uint8_t *data, size_t at, size_t end, size_t step,
                       uint64_t sequence, uint8_t *scratch) {
    static const uint64_t none[2];
    const uint64_t *seen = receiver->key != NULL && sequence == receiver->newest ? receiver->newest_mask : none;
    struct plait_run run;
    plait_open_run(receiver->key, data, at, end, step, CLEAR, seen[0], seen[1], scratch, &run);
    const uint8_t *frame = scratch;
    for (uint32_t number = 0; number < run.frames; frame += run.lengths[number++])
        if (!is_usual_part(receiver, frame, run.lengths[number]))
            return at;
    finish_joined(receiver);
    frame = scratch;
    for (uint32_t number = 0; number < run.frames; frame += run.lengths[number++]) {
        receiver->inbound.frames++;
        plait_write_frame(&receiver->inbound, frame, run.lengths[number]);
    }
    receiver->inbound.forged += run.forged;
    receiver->inbound.malformed += run.malformed;
    receiver->inbound.replayed += run.replayed;
    receiver->inbound.data_datagrams += (uint32_t)(__builtin_popcountll(run.mask[0]) + __builtin_popcountll(run.mask[1]));
    if (run.mask[0] | run.mask[1])
        accept_mask(receiver, sequence, run.mask);
    return run.next_at;
}

/* Say whether a record may be written as it is: superframe.py, `is_sound`, without super-frames. */
static int is_usual_record(const struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    static const uint8_t plain[VNET];
    if (bytes < MIN_RAW || bytes - VNET > receiver->inbound.max_frame || !plait_is_known(&receiver->inbound, raw + VNET))
        return 0;
    if (memcmp(raw, plain, VNET) == 0)
        return 1;
    size_t start = get16_little(raw + 6), offset = get16_little(raw + 8);
    return raw[0] == NEEDS_CSUM && memcmp(raw + 1, plain, 5) == 0 && start >= ETHERNET &&
           VNET + start + offset + 2 <= bytes;
}

/* Take a datagram of records; gives its end, or `at` if it is not usual. */
static size_t take_records(struct plait_receiver *receiver, const uint8_t *data, size_t at, size_t end,
                           uint64_t sequence, uint8_t *scratch) {
    static const uint64_t whole[2] = {1, 0};
    const uint8_t *body = data + at + CLEAR;
    size_t bytes = end - at - CLEAR;
    if (receiver->key != NULL) {
        if (sequence == receiver->newest && receiver->newest_mask[0] & 1)
            return at;
        if (!plait_open_whole(receiver->key, KIND_RECORDS, data + at, CLEAR, end - at, scratch)) {
            receiver->inbound.forged++;
            return end;
        }
        body = scratch;
        bytes -= TAG;
    }
    if (bytes == 0)
        return at;
    for (size_t from = 0, length; from < bytes; from += RECORD + length) {
        if (bytes - from < RECORD)
            return at;
        length = get16(body + from);
        if (length > bytes - from - RECORD || !is_usual_record(receiver, body + from + RECORD, length))
            return at;
    }
    for (size_t from = 0, length; from < bytes; from += RECORD + length) {
        length = get16(body + from);
        inject(receiver, body + from + RECORD, length);
    }
    receiver->inbound.data_datagrams++;
    accept_mask(receiver, sequence, whole);
    return end;
}

static size_t take_datagrams(struct plait_receiver *receiver, const uint8_t *data, size_t at,
                             const struct plait_burst *burst, uint8_t *scratch) {
    size_t size = burst->size, step = burst->step, end = size - at > step ? at + step : size;
    const uint8_t *clear = data + at;
    if (end - at < CLEAR || memcmp(clear, receiver->inbound.name, sizeof receiver->inbound.name) != 0 ||
        clear[7] != receiver->flags)
        return at;
    uint64_t sequence = get64(clear + SEQUENCE);
    if (receiver->key != NULL &&
        (sequence < receiver->newest || sequence < receiver->key_first || sequence > receiver->key_last))
        return at;
    if (clear[6] == (VERSION | KIND_SEGMENT))
        return take_run(receiver, data, at, size, step, sequence, scratch);
    if (clear[6] == (VERSION | KIND_RECORDS))
        return take_records(receiver, data, at, end, sequence, scratch);
    return at;
}

static size_t take_burst(void *of, const uint8_t *data, const struct plait_burst *burst, uint8_t *scratch) {
    struct plait_receiver *receiver = of;
    size_t at = 0, next = 0;
    while (at < burst->size && (next = take_datagrams(receiver, data, at, burst, scratch)) != at)
        at = next;
    finish_joined(receiver);
    return at;
}

enum plait_end plait_deliver(struct plait_receiver *receiver, uint8_t *data, size_t capacity, uint8_t *scratch,
                             uint64_t until) {
    return plait_deliver_bursts(&receiver->inbound, take_burst, receiver, data, capacity, scratch, until);
}
