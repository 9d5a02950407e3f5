/*
 * Cuts super-frames into Ethernet frames with finished checksums, and joins TCP segments into super-frames.
 *
 * The same as cutting.py and coalescing.py, which are the reference; tests run against both. No call keeps anything.
 * No byte outside the buffers that a caller names is read or written, whatever the frames hold.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cutting.h"
#include "format.h"
#include "octets.h"

enum {
    ACK = 0x10,
    ECE = 0x40,
    DF = 0x40,
    MAX_IP = 0xffff
};

static uint32_t fold(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)((sum & 0xffff) + (sum >> 16));
}

/* The folded sum of big-endian 16-bit words, padded with a zero byte if odd. */
static uint32_t words(const uint8_t *data, size_t bytes) {
    uint64_t one = 0, other = 0, sum = 0;
    uint64_t low, high;
    uint8_t pair[2] = {0, 0};
    uint16_t word;

    /* Sums of halves of 8 bytes: 2^29 of them fit, far more than any frame has. */
    for (; bytes >= 16; data += 16, bytes -= 16) {
        memcpy(&low, data, 8);
        memcpy(&high, data + 8, 8);
        one += (low & 0xffffffff) + (low >> 32);
        other += (high & 0xffffffff) + (high >> 32);
    }
    sum = one + other;
    for (; bytes >= 2; data += 2, bytes -= 2) {
        memcpy(&word, data, 2);
        sum += word;
    }
    if (bytes) {
        pair[0] = data[0];
        memcpy(&word, pair, 2);
        sum += word;
    }
    /* The sum of swapped words is the swapped sum (RFC 1071, section 2): memory order makes it big-endian. */
    word = (uint16_t)fold(sum);
    memcpy(pair, &word, 2);
    return get16(pair);
}

static uint32_t not_sum(uint64_t sum) { return 0xffff - fold(sum); }

/* As the kernel's skb_checksum_help: 0 is written 0xffff. */
static uint32_t checksum(uint64_t sum) {
    uint32_t value = not_sum(sum);

    return value ? value : 0xffff;
}

uint32_t plait_checksum(const uint8_t *data, size_t bytes) { return checksum(words(data, bytes)); }

static int is_layout(const struct plait_layout *where, size_t raw_bytes) {
    return where->payload < raw_bytes && where->l4 <= where->payload &&
           where->payload - where->l4 >= (where->is_tcp ? TCP_MIN : UDP) && where->ip <= where->l4 &&
           where->l4 - where->ip >= (where->is_ipv6 ? IPV6 : IPV4) && where->ip >= VNET + ETHERNET;
}

/* What the checksums of all frames have in common. */
struct fixed {
    uint64_t ip;
    uint64_t l4;
};

/* Make all zero in `head` that differs from frame to frame, and sum the rest. */
static struct fixed clear(uint8_t *head, size_t ip, size_t l4, size_t head_bytes, const struct plait_layout *where) {
    uint8_t *field = head + l4 + (where->is_tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
    struct fixed fixed = {0, get16(field)};
    int64_t length = where->is_ipv6 ? (int64_t)get16(head + ip + 4) + IPV6 : (int64_t)get16(head + ip + 2);

    /* The checksum of a super-frame is the sum of its pseudo header, which includes its length. */
    length -= (int64_t)(l4 - ip);
    fixed.l4 += (uint64_t)(2 * 0xffff - length);
    put16(field, 0);
    if (where->is_tcp) {
        put32(head + l4 + 4, 0);
        head[l4 + 13] = 0;
    } else {
        put16(head + l4 + 4, 0);
    }
    fixed.l4 += words(head + l4, head_bytes - l4);
    if (!where->is_ipv6) {
        put32(head + ip + 2, 0);
        put16(head + ip + 10, 0);
        fixed.ip = words(head + ip, l4 - ip);
    }
    return fixed;
}

size_t plait_cut(const uint8_t *raw, size_t raw_bytes, const struct plait_layout *where, size_t size, size_t gap,
                 uint8_t *out, size_t out_bytes) {
    size_t ip, l4, head_bytes, payload_bytes, count, at, number, bytes, l4_bytes;
    uint32_t identification, sequence, value;
    uint8_t head[VNET + 512], flags, first_flags;
    struct fixed fixed;
    uint64_t sum;

    if (!is_layout(where, raw_bytes) || size == 0)
        return 0;
    head_bytes = where->payload - VNET;
    payload_bytes = raw_bytes - where->payload;
    if (size > payload_bytes)
        size = payload_bytes;
    count = (payload_bytes + size - 1) / size;
    if (head_bytes > sizeof head || where->payload - where->ip + size > MAX_IP ||
        out_bytes < payload_bytes || (out_bytes - payload_bytes) / (gap + head_bytes) < count)
        return 0;
    ip = where->ip - VNET;
    l4 = where->l4 - VNET;
    memcpy(head, raw + VNET, head_bytes);
    identification = get16(head + ip + 4);
    sequence = get32(head + l4 + 4);
    first_flags = where->is_tcp ? head[l4 + 13] : 0;
    fixed = clear(head, ip, l4, head_bytes, where);
    for (number = 0, at = 0; at < payload_bytes; number++, at += size) {
        bytes = payload_bytes - at < size ? payload_bytes - at : size;
        l4_bytes = head_bytes - l4 + bytes;
        sum = fixed.l4 + l4_bytes + words(raw + where->payload + at, bytes);
        out += gap;
        memcpy(out, head, head_bytes);
        if (where->is_ipv6) {
            put16(out + ip + 4, l4 - ip - IPV6 + l4_bytes);
        } else {
            value = (identification + (uint32_t)number) & 0xffff;
            put16(out + ip + 2, l4 - ip + l4_bytes);
            put16(out + ip + 4, value);
            put16(out + ip + 10, not_sum(fixed.ip + l4 - ip + l4_bytes + value));
        }
        if (where->is_tcp) {
            flags = first_flags;
            if (at + bytes < payload_bytes)
                flags &= (uint8_t)~FIN_PSH;
            if (number)
                flags &= (uint8_t)~CWR;
            value = sequence + (uint32_t)at;
            put32(out + l4 + 4, value);
            out[l4 + 13] = flags;
            put16(out + l4 + TCP_CHECKSUM, checksum(sum + value + flags));
        } else {
            put16(out + l4 + 4, l4_bytes);
            put16(out + l4 + UDP_CHECKSUM, checksum(sum + l4_bytes));
        }
        memcpy(out + head_bytes, raw + where->payload + at, bytes);
        out += head_bytes + bytes;
    }
    return count * (gap + head_bytes) + payload_bytes;
}

/* A frame; what is behind `is_head` counts only for the first of a run, or one that stands alone. */
struct segment {
    const uint8_t *frame;
    size_t bytes;
    size_t l4;
    size_t payload; /* 0: not a TCP segment with right checksums */
    uint32_t sequence;
    int32_t identification; /* -1 with DF or IPv6, where it says nothing */
    uint8_t flags;
    uint8_t is_head;
    size_t next; /* of the same run; 0: none */

    size_t last;
    size_t size;
    size_t total; /* payload bytes */
    uint32_t next_sequence;
    int32_t next_identification;
    uint8_t last_flags;
    uint8_t is_open;
};

static int is_sound_ipv4(const uint8_t *ip, size_t bytes) {
    return ip[0] == 0x45 && ip[9] == TCP_PROTOCOL && get16(ip + 2) == bytes && !(ip[6] & ~DF) && !ip[7] &&
           words(ip, IPV4) == 0xffff;
}

static int is_sound_ipv6(const uint8_t *ip, size_t bytes) {
    return ip[0] >> 4 == 6 && ip[6] == TCP_PROTOCOL && get16(ip + 4) + IPV6 == bytes;
}

/* Where the addresses of IP begin, which end where TCP begins. */
static size_t addresses(size_t l4) { return l4 - (l4 == ETHERNET + IPV4 ? 8 : 32); }

static void read_segment(struct segment *segment, const uint8_t *frame, size_t bytes) {
    const uint8_t *ip = frame + ETHERNET;
    size_t l4, payload;

    memset(segment, 0, sizeof *segment);
    segment->frame = frame;
    segment->bytes = bytes;
    segment->is_head = 1;
    if (bytes < ETHERNET + IPV4 + TCP_MIN)
        return;
    if (get16(frame + 12) == 0x0800) {
        l4 = ETHERNET + IPV4;
        if (!is_sound_ipv4(ip, bytes - ETHERNET))
            return;
        segment->identification = ip[6] & DF ? -1 : (int32_t)get16(ip + 4);
    } else if (get16(frame + 12) == 0x86dd) {
        l4 = ETHERNET + IPV6;
        if (bytes < ETHERNET + IPV6 + TCP_MIN || !is_sound_ipv6(ip, bytes - ETHERNET))
            return;
        segment->identification = -1;
    } else {
        return;
    }
    payload = l4 + (size_t)(frame[l4 + 12] >> 4) * 4;
    if (payload < l4 + TCP_MIN || payload > bytes)
        return;
    if (fold((uint64_t)words(frame + addresses(l4), bytes - addresses(l4)) + TCP_PROTOCOL + bytes - l4) != 0xffff)
        return;
    segment->l4 = l4;
    segment->payload = payload;
    segment->sequence = get32(frame + l4 + 4);
    segment->flags = frame[l4 + 13];
}

static int32_t after(int32_t identification) { return identification < 0 ? -1 : (identification + 1) & 0xffff; }

static void begin_run(struct segment *head, size_t at) {
    head->last = at;
    head->size = head->total = head->bytes - head->payload;
    head->last_flags = head->flags;
    head->next_sequence = head->sequence + (uint32_t)head->size;
    head->next_identification = after(head->identification);
    /* Only data with nothing but an acknowledgement continues: the kernel's GRO, too, leaves SYN, URG, CWR alone. */
    head->is_open = head->size && (head->flags & ~ECE) == ACK;
}

static int is_flow_of(const struct segment *head, const struct segment *segment) {
    size_t from = addresses(segment->l4);

    return head->l4 == segment->l4 && !memcmp(head->frame, segment->frame, ETHERNET) &&
           !memcmp(head->frame + from, segment->frame + from, segment->l4 + 4 - from);
}

static int is_like(const struct segment *head, const struct segment *segment) {
    const uint8_t *one = head->frame, *other = segment->frame;
    size_t ip = ETHERNET, l4 = head->l4;
    int ip_differs;

    if (l4 == ETHERNET + IPV4)
        ip_differs = memcmp(one + ip, other + ip, 2) || memcmp(one + ip + 6, other + ip + 6, 3);
    else
        ip_differs = memcmp(one + ip, other + ip, 4) || one[ip + 7] != other[ip + 7];
    return !ip_differs && !memcmp(one + l4 + 8, other + l4 + 8, 5) && !memcmp(one + l4 + 14, other + l4 + 14, 2) &&
           !memcmp(one + l4 + 18, other + l4 + 18, head->payload - l4 - 18);
}

/* Take a segment that continues the run; 0 if it does not. */
static int add(struct segment *segments, struct segment *head, size_t at) {
    struct segment *segment = &segments[at];
    size_t size = segment->bytes - segment->payload;

    if (!head->is_open || segment->sequence != head->next_sequence ||
        segment->identification != head->next_identification || ((segment->flags ^ head->last_flags) & ~FIN_PSH) ||
        size == 0 || size > head->size || head->payload - ETHERNET + head->total + size > MAX_IP ||
        !is_like(head, segment))
        return 0;
    segments[head->last].next = at;
    segment->is_head = 0;
    head->last = at;
    head->total += size;
    head->last_flags = segment->flags;
    head->next_sequence += (uint32_t)size;
    head->next_identification = after(segment->identification);
    head->is_open = size == head->size && !(segment->flags & FIN_PSH);
    return 1;
}

/* Join what continues; `open` has room for as many indices as there are segments. */
static void join(struct segment *segments, size_t count, size_t *open) {
    size_t open_count = 0, at, flow;

    for (at = 0; at < count; at++) {
        if (!segments[at].payload) {
            open_count = 0;
            continue;
        }
        for (flow = 0; flow < open_count; flow++)
            if (is_flow_of(&segments[open[flow]], &segments[at]))
                break;
        if (flow < open_count && add(segments, &segments[open[flow]], at))
            continue;
        begin_run(&segments[at], at);
        open[flow] = at;
        if (flow == open_count)
            open_count++;
    }
}

/* Write the headers of a super-frame. */
static void write_head(uint8_t *out, const struct segment *head) {
    size_t l4 = head->l4, ip_bytes = head->payload - ETHERNET + head->total;
    uint8_t *frame = out + VNET, *ip = frame + ETHERNET;

    out[0] = NEEDS_CSUM;
    out[1] = l4 == ETHERNET + IPV4 ? GSO_TCPV4 : GSO_TCPV6;
    put16_little(out + 2, head->payload);
    put16_little(out + 4, head->size);
    put16_little(out + 6, l4);
    put16_little(out + 8, TCP_CHECKSUM);
    memcpy(frame, head->frame, head->payload);
    if (l4 == ETHERNET + IPV4) {
        put16(ip + 2, ip_bytes);
        put16(ip + 10, 0);
        put16(ip + 10, not_sum(words(ip, IPV4)));
    } else {
        put16(ip + 4, ip_bytes - IPV6);
    }
    frame[l4 + 13] = head->last_flags;
    put16(frame + l4 + TCP_CHECKSUM, fold((uint64_t)words(frame + addresses(l4), l4 - addresses(l4)) + TCP_PROTOCOL +
                                          ip_bytes - (l4 - ETHERNET)));
}

/* Write a frame or super-frame with its virtio-net header; gives its length. */
static size_t write_raw(uint8_t *out, const struct segment *segments, const struct segment *head) {
    const struct segment *segment = head;
    uint8_t *to = out + VNET + head->payload;
    size_t bytes;

    if (!head->next) {
        memset(out, 0, VNET);
        memcpy(out + VNET, head->frame, head->bytes);
        return VNET + head->bytes;
    }
    write_head(out, head);
    for (;;) {
        bytes = segment->bytes - segment->payload;
        memcpy(to, segment->frame + segment->payload, bytes);
        to += bytes;
        if (!segment->next)
            return (size_t)(to - out);
        segment = &segments[segment->next];
    }
}

size_t plait_coalesce(const uint8_t *const *frames, const uint32_t *lengths, size_t count, uint8_t *out,
                      size_t out_bytes, uint32_t *out_lengths) {
    struct segment *segments;
    size_t *open, at, needed = 0, made = 0, bytes;

    for (at = 0; at < count; at++)
        needed += VNET + (size_t)lengths[at];
    if (count == 0 || needed > out_bytes)
        return 0;
    segments = malloc(count * sizeof *segments);
    open = malloc(count * sizeof *open);
    if (segments && open) {
        for (at = 0; at < count; at++)
            read_segment(&segments[at], frames[at], lengths[at]);
        join(segments, count, open);
        for (at = 0; at < count; at++) {
            if (!segments[at].is_head)
                continue;
            bytes = write_raw(out, segments, &segments[at]);
            out_lengths[made++] = (uint32_t)bytes;
            out += bytes;
        }
    }
    free(segments);
    free(open);
    return made;
}
