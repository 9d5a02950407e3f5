/* Datagrams for one neighbour, many in one send, and bursts of them as the kernel merged them: see datagrams.c. */

#ifndef PLAIT_DATAGRAMS_H
#define PLAIT_DATAGRAMS_H

#include <stddef.h>
#include <stdint.h>

enum {
    PLAIT_BATCH_DATAGRAMS = 128,
    PLAIT_BATCH_BYTES = 1 << 17,
    PLAIT_BATCH_FRAMES = 64, /* single frames that wait for company at most */
    PLAIT_ADDRESS = 28,      /* struct sockaddr_in6 */
    PLAIT_PKTINFO = 20,      /* struct in6_pktinfo */
    PLAIT_MERGED = 64,       /* datagrams that the kernel merges at most */
};

/* Datagrams that wait, one behind the other; the last one may be open. */
struct plait_batch {
    /* By the caller. */
    int socket;
    uint32_t max_payload;   /* of a datagram */
    uint32_t max_run;       /* datagrams of one send */
    uint32_t address_bytes; /* 0: the socket is connected */
    uint32_t pktinfo_level;
    uint32_t pktinfo_type;
    uint32_t pktinfo_bytes;
    uint8_t address[PLAIT_ADDRESS];
    uint8_t pktinfo[PLAIT_PKTINFO];

    /* What was done since the caller made these 0. */
    uint64_t bytes;
    uint32_t frames;
    uint32_t datagrams;
    uint32_t failed;    /* datagrams */
    int error;          /* errno of the last that failed */
    int is_unsegmented; /* the kernel refused UDP_SEGMENT, and took the datagrams one by one */

    uint32_t waiting; /* frames */
    uint32_t closed;  /* datagrams */
    uint32_t closed_bytes;
    uint32_t open_bytes; /* 0: there is none */
    uint32_t sizes[PLAIT_BATCH_DATAGRAMS];
    uint8_t data[PLAIT_BATCH_BYTES];
};

/* Say whether another datagram fits. */
int plait_batch_has_room(const struct plait_batch *batch);

/* Note that what is open is a whole datagram, and goes on with the next one. */
void plait_batch_close(struct plait_batch *batch, size_t bytes);

/* Send what is closed, and forget it. */
void plait_batch_send(struct plait_batch *batch);

/* Count datagrams that were sent, or that were not with an errno. */
void plait_batch_count(struct plait_batch *batch, int error, size_t datagrams, size_t bytes);

/* Send datagrams of `segment` bytes that lie one behind the other, or with 0 a single one; gives 0 or the errno. */
int plait_send_run(const struct plait_batch *batch, const uint8_t *data, size_t bytes, size_t segment);

/* What one receive gave: `size` bytes, datagrams of `step` bytes each, the last one maybe fewer. */
struct plait_burst {
    uint64_t size;
    uint64_t step;
    uint32_t count;
};

/* Receive once; gives 0 or the errno. */
int plait_receive(int socket, uint8_t *data, size_t capacity, struct plait_burst *burst);

#endif
