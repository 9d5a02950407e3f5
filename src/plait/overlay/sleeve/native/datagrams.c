/* Sends datagrams in runs (UDP_SEGMENT) and receives them in bursts (UDP_GRO). Knows no format. */

#define _GNU_SOURCE

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "datagrams.h"

enum {
    UDP_LEVEL = 17,
    UDP_SEGMENT_OPTION = 103,
    UDP_GRO_OPTION = 104,
    MAX_RUN_BYTES = 65507, /* the largest UDP payload over IPv4 */
    TRIES = 3,
};

/* What ICMP said of an earlier datagram is told with the next send on a connected socket, which is then not done. */
static int is_of_earlier(int error) {
    return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EMSGSIZE;
}

/* Answers to UDP_SEGMENT on routes that cannot: through IPsec, or by a device without checksum offload. */
static int is_of_segmentation(int error) { return error == EIO || error == EINVAL || error == EOPNOTSUPP; }

int plait_send_run(const struct plait_batch *batch, const uint8_t *data, size_t bytes, size_t segment) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(PLAIT_PKTINFO) + CMSG_SPACE(sizeof(uint16_t))];
    } control;
    struct iovec piece = {(void *)data, bytes};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control};
    memset(&control, 0, sizeof control);
    message.msg_controllen = sizeof control;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    size_t control_bytes = 0;
    if (batch->address_bytes != 0) {
        message.msg_name = (void *)batch->address;
        message.msg_namelen = batch->address_bytes;
        header->cmsg_level = (int)batch->pktinfo_level;
        header->cmsg_type = (int)batch->pktinfo_type;
        header->cmsg_len = CMSG_LEN(batch->pktinfo_bytes);
        memcpy(CMSG_DATA(header), batch->pktinfo, batch->pktinfo_bytes);
        control_bytes += CMSG_SPACE(batch->pktinfo_bytes);
        header = CMSG_NXTHDR(&message, header);
    }
    if (segment != 0) {
        uint16_t size = (uint16_t)segment;
        header->cmsg_level = UDP_LEVEL;
        header->cmsg_type = UDP_SEGMENT_OPTION;
        header->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(header), &size, sizeof size);
        control_bytes += CMSG_SPACE(sizeof size);
    }
    message.msg_controllen = control_bytes;
    if (control_bytes == 0)
        message.msg_control = NULL;
    int error = 0;
    for (int tries = 0; tries < TRIES; tries++) {
        if (sendmsg(batch->socket, &message, 0) >= 0)
            return 0;
        error = errno;
        if (batch->address_bytes != 0 || !is_of_earlier(error))
            break;
    }
    return error;
}

void plait_batch_count(struct plait_batch *batch, int error, size_t datagrams, size_t bytes) {
    if (error) {
        batch->failed += (uint32_t)datagrams;
        batch->error = error;
    } else {
        batch->datagrams += (uint32_t)datagrams;
        batch->bytes += bytes;
    }
}

int plait_batch_has_room(const struct plait_batch *batch) {
    return batch->closed < PLAIT_BATCH_DATAGRAMS && batch->closed_bytes + batch->max_payload <= PLAIT_BATCH_BYTES;
}

void plait_batch_close(struct plait_batch *batch, size_t bytes) {
    batch->sizes[batch->closed++] = (uint32_t)bytes;
    batch->closed_bytes += (uint32_t)bytes;
    batch->open_bytes = 0;
}

static void send_one_by_one(struct plait_batch *batch, const uint8_t *data, size_t bytes, size_t size) {
    for (size_t at = 0; at < bytes; at += size) {
        size_t length = bytes - at < size ? bytes - at : size;
        plait_batch_count(batch, plait_send_run(batch, data + at, length, 0), 1, length);
    }
}

static void send_datagrams(struct plait_batch *batch, const uint8_t *data, size_t bytes, size_t size, size_t count) {
    if (count == 1 || !batch->is_unsegmented) {
        int error = plait_send_run(batch, data, bytes, count > 1 ? size : 0);
        if (count == 1 || !is_of_segmentation(error)) {
            plait_batch_count(batch, error, count, bytes);
            return;
        }
        batch->is_unsegmented = 1;
    }
    send_one_by_one(batch, data, bytes, size);
}

void plait_batch_send(struct plait_batch *batch) {
    const uint8_t *data = batch->data;
    for (uint32_t first = 0, count; first < batch->closed; first += count) {
        size_t size = batch->sizes[first], bytes = size;
        for (count = 1; first + count < batch->closed && count < batch->max_run; count++) {
            size_t next = batch->sizes[first + count];
            if (next > size || bytes + next > MAX_RUN_BYTES)
                break;
            bytes += next;
            if (next < size) { /* only the last may be shorter */
                count++;
                break;
            }
        }
        send_datagrams(batch, data, bytes, size, count);
        data += bytes;
    }
    batch->waiting = batch->closed = batch->closed_bytes = 0;
}

int plait_receive(int socket, uint8_t *data, size_t capacity, struct plait_burst *burst) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = {data, capacity};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(socket, &message, 0);
    if (got < 0)
        return errno;
    int step = 0;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each != NULL; each = CMSG_NXTHDR(&message, each))
        if (each->cmsg_level == UDP_LEVEL && each->cmsg_type == UDP_GRO_OPTION &&
            each->cmsg_len >= CMSG_LEN(sizeof step))
            memcpy(&step, CMSG_DATA(each), sizeof step);
    burst->size = (uint64_t)got;
    burst->step = step > 0 ? (uint64_t)step : got > 0 ? (uint64_t)got : 1;
    uint64_t count = (burst->size + burst->step - 1) / burst->step;
    burst->count = count > 0 ? (uint32_t)count : 1;
    return 0;
}
