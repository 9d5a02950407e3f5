/* Segments of plait1: see engine.c and docs/protocol/sleeve2.md. */

#ifndef PLAIT_ENGINE_H
#define PLAIT_ENGINE_H

#include <stddef.h>
#include <stdint.h>

enum { PLAIT_MAX_SLICES = 128 };

/* The key of one epoch, for sealing and opening. */
struct plait_key;

/* Find the AEADs of the system's libcrypto. Gives 0, or -1 if it is not there or too old. */
int plait_crypto_find(void);

/* `cipher`: 1 AES-256-GCM, 2 ChaCha20-Poly1305; `key`: 32 bytes. NULL without memory or crypto. */
struct plait_key *plait_key_new(int cipher, const uint8_t *key);

void plait_key_free(struct plait_key *key);

/* Where the headers of a super-frame are; offsets count from its virtio-net header. */
struct plait_headers {
    size_t ip;
    size_t l4;
    size_t payload;
    size_t gso_size;
    int is_ipv6;
    int is_tcp;
};

/* Read the headers of a super-frame, `bytes` up to its payload. Gives 1, or 0 if they break the rules. */
int plait_read_headers(const uint8_t *raw, size_t bytes, struct plait_headers *where);

/* Seal what is behind the clear header of a datagram of `bytes`, where it is; the tag follows. Gives 1, or 0. */
int plait_seal_whole(struct plait_key *key, int kind, uint8_t *datagram, size_t clear_bytes, size_t bytes);

/* Write the plaintext of a datagram's sealed body, tag included in `bytes`. Gives 1, or 0 if the seal is not the key's. */
int plait_open_whole(struct plait_key *key, int kind, const uint8_t *datagram, size_t clear_bytes, size_t bytes,
                     uint8_t *out);

/*
 * Write the datagrams of a super-frame one behind the other, `slice` payload bytes in each but the last. `key` is NULL
 * on a plain connection. Gives their bytes, 0 if they do not fit, an argument is beyond its bounds, or libcrypto fails.
 */
size_t plait_segment(struct plait_key *key, const uint8_t *blob, size_t blob_bytes, const uint8_t *payload,
                     size_t payload_bytes, const uint8_t *clear, size_t clear_bytes, uint64_t sequence, size_t slice,
                     uint8_t *out, size_t out_bytes);

/* What a run of segments became: frames in `out`, one behind the other. */
struct plait_run {
    size_t next_at;
    uint64_t mask[2];
    uint32_t frames;
    uint32_t forged;
    uint32_t malformed;
    uint32_t replayed;
    uint32_t lengths[PLAIT_MAX_SLICES];
};

/*
 * Take the run that begins at `at`, before `end`. The datagrams have `step` bytes, more than 0, but for the last, which
 * ends at `end`. `seen` has a bit for each index that came before. `out` must hold `end - at` bytes.
 */
void plait_open_run(struct plait_key *key, const uint8_t *data, size_t at, size_t end, size_t step, size_t clear_bytes,
                    uint64_t seen_low, uint64_t seen_high, uint8_t *out, struct plait_run *run);

#endif
