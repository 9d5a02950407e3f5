/*
 * Moves the frames of known flows between the tap and the sockets of neighbours, a burst in one call.
 *
 * The decisions are those of pump/core.py and pump/plait1_link.py, which are the reference: they see the first frame of
 * a flow, whatever is not of a known flow, and everything unusual (probes, relayed frames, what does not fit). Tests
 * compare both ways. What a peer sends is checked here as it is there; no byte outside the given buffers is touched.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "flows.h"
#include "format.h"
#include "octets.h"

enum {
    UDP_LEVEL = 17,
    UDP_SEGMENT_OPTION = 103,
    UDP_GRO_OPTION = 104,
    VERSION = 0x10,
    KIND_SEGMENT = 2,
    LABEL = 0x88a8, /* the type of both tags of the kernel's datapath: pump/labels.py */
    RECORD = 2, /* bytes of a record's length */
    MIN_RAW = VNET + ETHERNET,
    MAX_SEGMENTS = 64, /* of one send: UDP_MAX_SEGMENTS before Linux 6.9 */
    TRIES = 3,
    WINDOW = 1000000,  /* nanoseconds */
    BUSY_FRAMES = 60,  /* in a window: TCP's acknowledgements of 10 Gbit/s in super-frames are a third of that */
    GATHER = 60000,    /* nanoseconds: some ten frames at least */
    MAX_DATAGRAMS = 64, /* that the kernel merges */
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void plait_flow_sizes(size_t *sizes) {
    sizes[0] = sizeof(struct plait_sender);
    sizes[1] = sizeof(struct plait_flow);
    sizes[2] = sizeof(struct plait_receiver);
}

/* Sending */

/* What ICMP said of an earlier datagram is told with the next send on a connected socket, which is then not done. */
static int is_of_earlier(int error) {
    return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EMSGSIZE;
}

/* Answers to UDP_SEGMENT on routes that cannot: through IPsec, or by a device without checksum offload. */
static int is_of_segmentation(int error) { return error == EIO || error == EINVAL || error == EOPNOTSUPP; }

/* Send datagrams of `segment` bytes that lie one behind the other, or with 0 a single one; gives 0 or the errno. */
static int send_run(int socket, const uint8_t *data, size_t bytes, size_t segment) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control;
    struct iovec piece = {(void *)data, bytes};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (segment != 0) {
        uint16_t size = (uint16_t)segment;
        memset(&control, 0, sizeof control);
        control.header.cmsg_level = UDP_LEVEL;
        control.header.cmsg_type = UDP_SEGMENT_OPTION;
        control.header.cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(&control.header), &size, sizeof size);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    int error = 0;
    for (int tries = 0; tries < TRIES; tries++) {
        if (sendmsg(socket, &message, 0) >= 0)
            return 0;
        error = errno;
        if (!is_of_earlier(error))
            break;
    }
    return error;
}

static void count_sent(struct plait_sender *sender, int error, size_t datagrams, size_t bytes) {
    if (error) {
        sender->failed += (uint32_t)datagrams;
        sender->error = error;
    } else {
        sender->datagrams += (uint32_t)datagrams;
        sender->bytes += bytes;
    }
}

static void send_apart(struct plait_sender *sender, const uint8_t *data, size_t bytes, size_t size) {
    for (size_t at = 0; at < bytes; at += size) {
        size_t length = bytes - at < size ? bytes - at : size;
        count_sent(sender, send_run(sender->socket, data + at, length, 0), 1, length);
    }
}

static void send_batch_run(struct plait_sender *sender, const uint8_t *data, size_t bytes, size_t size, size_t count) {
    int error = 0;
    if (!sender->is_unsegmented || count == 1) {
        error = send_run(sender->socket, data, bytes, count > 1 ? size : 0);
        if (count == 1 || !is_of_segmentation(error)) {
            count_sent(sender, error, count, bytes);
            return;
        }
        sender->is_unsegmented = 1;
    }
    send_apart(sender, data, bytes, size);
}

/* Give the open datagram its sequence and, on an encrypted connection, its seal. */
static void close_datagram(struct plait_sender *sender) {
    uint8_t *datagram = sender->batch + sender->closed_bytes;
    size_t bytes = sender->open_bytes;
    sender->open_bytes = 0;
    put64(datagram + SEQUENCE, sender->next++);
    if (sender->key != NULL) {
        if (!plait_seal_whole(sender->key, KIND_RECORDS, datagram, CLEAR, bytes)) {
            count_sent(sender, EIO, 1, 0);
            return;
        }
        bytes += TAG;
    }
    sender->sizes[sender->closed++] = (uint32_t)bytes;
    sender->closed_bytes += (uint32_t)bytes;
}

void plait_flush(struct plait_sender *sender) {
    if (sender->open_bytes != 0)
        close_datagram(sender);
    const uint8_t *data = sender->batch;
    for (uint32_t first = 0, count; first < sender->closed; first += count) {
        size_t size = sender->sizes[first], bytes = size;
        for (count = 1; first + count < sender->closed && count < MAX_SEGMENTS; count++) {
            size_t next = sender->sizes[first + count];
            if (next > size)
                break;
            bytes += next;
            if (next < size) { /* only the last may be shorter */
                count++;
                break;
            }
        }
        send_batch_run(sender, data, bytes, size, count);
        data += bytes;
    }
    sender->waiting = sender->closed = sender->closed_bytes = 0;
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

static int take_single(const struct plait_flow *flow, const uint8_t *raw, size_t bytes) {
    struct plait_sender *sender = flow->sender;
    size_t labels = flow->labels, tag = sender->key == NULL ? 0 : TAG, length = bytes - labels;
    size_t size = RECORD + length;
    if (CLEAR + size + tag > sender->max_payload || sender->max_payload > PLAIT_BATCH_BYTES)
        return 0;
    if (raw[0] == NEEDS_CSUM && get16_little(raw + 6) < labels)
        return 0;
    if (sender->open_bytes != 0 && sender->open_bytes + size + tag > sender->max_payload)
        close_datagram(sender);
    if (sender->open_bytes == 0) {
        if (sender->closed_bytes + sender->max_payload > PLAIT_BATCH_BYTES)
            plait_flush(sender);
        if (sender->next >= sender->limit)
            return 0;
        memcpy(sender->batch + sender->closed_bytes, sender->clear, CLEAR);
        sender->batch[sender->closed_bytes + 6] = VERSION | KIND_RECORDS;
        sender->open_bytes = CLEAR;
    }
    uint8_t *out = sender->batch + sender->closed_bytes + sender->open_bytes;
    put16(out, length);
    out += RECORD;
    write_vnet(out, raw, labels);
    memcpy(out + VNET, raw + VNET, PLAIT_MACS);
    memcpy(out + VNET + PLAIT_MACS, raw + VNET + PLAIT_MACS + labels, length - VNET - PLAIT_MACS);
    sender->open_bytes += (uint32_t)size;
    sender->waiting++;
    sender->frames++;
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

static int take_super(const struct plait_flow *flow, const uint8_t *raw, size_t bytes) {
    struct plait_sender *sender = flow->sender;
    uint8_t blob[MAX_BLOB];
    /* Segments of one call lie one behind the other; what does not fit the buffer is Python's. */
    static uint8_t datagrams[MAX_SUPER + PLAIT_MAX_SLICES * (CLEAR + FIELDS + 255 + 1 + TAG)];
    struct plait_headers where;
    size_t payload_at, blob_bytes = write_blob(blob, flow->labels, raw, bytes, &payload_at);
    if (blob_bytes == 0 || sender->is_unsegmented || !plait_read_headers(blob, blob_bytes, &where))
        return 0;
    size_t tag = sender->key == NULL ? 0 : TAG, overhead = CLEAR + FIELDS + blob_bytes + 1 + 2 * tag;
    if (overhead >= sender->max_payload)
        return 0;
    size_t room = sender->max_payload - overhead, slice = where.gso_size;
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
    size_t most = PLAIT_BATCH_BYTES / size;
    most = most == 0 ? 1 : most > MAX_SEGMENTS ? MAX_SEGMENTS : most;
    size_t calls = (count + most - 1) / most, each = (count + calls - 1) / calls;
    for (size_t first = 0; first < count; first += each) {
        size_t number = count - first < each ? count - first : each, at = first * size;
        size_t length = first + number == count ? total - at : number * size;
        int error = send_run(sender->socket, datagrams + at, length, number > 1 ? size : 0);
        if (error && first == 0)
            return 0; /* Python tries again, and knows what the error means */
        count_sent(sender, error, number, length);
    }
    sender->frames++;
    return 1;
}

static int take(const struct plait_flow *flow, const uint8_t *raw, size_t bytes) {
    size_t head = PLAIT_MACS + flow->labels;
    if (bytes < MIN_RAW + flow->labels || memcmp(raw + VNET, flow->head, head) != 0)
        return 0;
    if (flow->is_unlabelled && bytes >= MIN_RAW + PLAIT_LABELS && get16(raw + MIN_RAW - 2) == LABEL &&
        get16(raw + MIN_RAW + 2) == LABEL)
        return 0;
    return raw[1] == 0 ? take_single(flow, raw, bytes) : take_super(flow, raw, bytes);
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

static void gather(struct plait_sender *sender, uint32_t singles) {
    static const struct timespec moment = {0, GATHER};
    if (!is_busy(now(), singles))
        return;
    plait_flush(sender);
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
                gather(flow->sender, singles);
                return PLAIT_EMPTY;
            }
            *bytes = (size_t)got;
        }
        if (!take(flow, raw, *bytes))
            return PLAIT_GIVEN_BACK;
        singles += raw[1] == 0;
        *bytes = 0;
        if (flow->sender->waiting >= PLAIT_BATCH_FRAMES)
            plait_flush(flow->sender);
        if (now() >= until) {
            (void)is_busy(until, singles); /* only counts them */
            return PLAIT_TIME_UP;
        }
    }
}

/* Receiving */

static void write_frame(struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    receiver->tap_error = 0;
    if (write(receiver->tap, raw, bytes) < 0) {
        receiver->tap_error = errno;
        receiver->refused++;
    }
}

static int is_known(const struct plait_receiver *receiver, const uint8_t *raw) {
    for (int number = 0; number < receiver->inbound; number++)
        if (memcmp(raw + VNET, receiver->flows[number], PLAIT_MACS) == 0)
            return 1;
    return 0;
}

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
    write_frame(receiver, super, receiver->joined_bytes);
}

static int is_next(const struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    const uint8_t *first = receiver->super;
    return receiver->joined > 0 && receiver->joined < MAX_JOINED && bytes == IP + get16(first + IP + 2) &&
           receiver->joined_bytes - PAYLOAD + bytes - PAYLOAD <= MAX_JOINED_BYTES &&
           memcmp(raw, first, IP_ID) == 0 && memcmp(raw + IP_FRAGMENT, first + IP_FRAGMENT, 4) == 0 &&
           memcmp(raw + IP_ADDRESSES, first + IP_ADDRESSES, PAYLOAD - IP_ADDRESSES) == 0;
}

static void inject(struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    receiver->frames++;
    if (!receiver->has_udp_super_frames || !can_be_joined(raw, bytes)) {
        finish_joined(receiver);
        write_frame(receiver, raw, bytes);
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
    if (receiver->accepts > 0 && receiver->accepted[receiver->accepts - 1].sequence == sequence) {
        receiver->accepted[receiver->accepts - 1].mask[0] |= mask[0];
        receiver->accepted[receiver->accepts - 1].mask[1] |= mask[1];
    } else {
        receiver->accepted[receiver->accepts++] = (struct plait_accepted){sequence, {mask[0], mask[1]}};
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
    if (!is_known(receiver, raw))
        return 0;
    if (raw[1] == 0)
        return bytes - VNET <= receiver->max_frame;
    int is_udp = (raw[1] & ~GSO_ECN) == GSO_UDP_L4;
    if (is_udp && !receiver->has_udp_super_frames)
        return 0;
    size_t l4 = VNET + get16_little(raw + 6), headers = l4 + (is_udp ? UDP : (size_t)(raw[l4 + 12] >> 4) * 4);
    return headers - VNET + get16_little(raw + 4) <= receiver->max_frame;
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
        receiver->frames++;
        write_frame(receiver, frame, run.lengths[number]);
    }
    receiver->forged += run.forged;
    receiver->malformed += run.malformed;
    receiver->replayed += run.replayed;
    receiver->data_datagrams += (uint32_t)(__builtin_popcountll(run.mask[0]) + __builtin_popcountll(run.mask[1]));
    if (run.mask[0] | run.mask[1])
        accept_mask(receiver, sequence, run.mask);
    return run.next_at;
}

/* Say whether a record may be written as it is: superframe.py, `is_sound`, without super-frames. */
static int is_usual_record(const struct plait_receiver *receiver, const uint8_t *raw, size_t bytes) {
    static const uint8_t plain[VNET];
    if (bytes < MIN_RAW || bytes - VNET > receiver->max_frame || !is_known(receiver, raw))
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
            receiver->forged++;
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
    receiver->data_datagrams++;
    accept_mask(receiver, sequence, whole);
    return end;
}

static size_t take_datagrams(struct plait_receiver *receiver, const uint8_t *data, size_t at, uint8_t *scratch) {
    size_t size = receiver->size, step = receiver->step, end = size - at > step ? at + step : size;
    const uint8_t *clear = data + at;
    if (end - at < CLEAR || memcmp(clear, receiver->name, sizeof receiver->name) != 0 || clear[7] != receiver->flags)
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

/* Receive once; gives 0, with size and step, or the errno. */
static int receive(struct plait_receiver *receiver, uint8_t *data, size_t capacity) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = {data, capacity};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(receiver->socket, &message, 0);
    if (got < 0)
        return errno;
    int step = 0;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each != NULL; each = CMSG_NXTHDR(&message, each))
        if (each->cmsg_level == UDP_LEVEL && each->cmsg_type == UDP_GRO_OPTION &&
            each->cmsg_len >= CMSG_LEN(sizeof step))
            memcpy(&step, CMSG_DATA(each), sizeof step);
    receiver->size = (uint64_t)got;
    receiver->step = step > 0 ? (uint64_t)step : got > 0 ? (uint64_t)got : 1;
    uint64_t count = (receiver->size + receiver->step - 1) / receiver->step;
    receiver->datagrams += count > 0 ? (uint32_t)count : 1;
    return 0;
}

enum plait_end plait_deliver(struct plait_receiver *receiver, uint8_t *data, size_t capacity, uint8_t *scratch,
                             uint64_t until) {
    receiver->tap_error = -1;
    while (receiver->accepts + MAX_DATAGRAMS <= PLAIT_ACCEPTED) {
        receiver->error = receive(receiver, data, capacity);
        if (receiver->error)
            return receiver->error == EAGAIN ? PLAIT_EMPTY : PLAIT_FAILED;
        size_t at = 0, next = 0;
        while (at < receiver->size && (next = take_datagrams(receiver, data, at, scratch)) != at)
            at = next;
        finish_joined(receiver);
        receiver->bytes += at;
        if (at < receiver->size || receiver->size == 0) {
            receiver->at = at;
            receiver->size -= at;
            memmove(data, data + at, receiver->size);
            return PLAIT_GIVEN_BACK;
        }
        if (now() >= until)
            break;
    }
    return PLAIT_TIME_UP;
}
