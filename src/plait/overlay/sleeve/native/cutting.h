/* Frames for Weave peers: see cutting.c. */

#ifndef PLAIT_CUTTING_H
#define PLAIT_CUTTING_H

#include <stddef.h>
#include <stdint.h>

/* Where the headers of a super-frame are; offsets count from its virtio-net header. */
struct plait_layout {
    size_t ip;
    size_t l4;
    size_t payload;
    int is_ipv6;
    int is_tcp;
};

/*
 * Write the frames that a super-frame stands for one behind the other, with `size` bytes of payload each, fewer in the
 * last, and `gap` bytes before each that are left as they are. Gives the bytes of all; 0 if `where` does not fit, a frame would be longer than IP can say, or `out` is too small.
 */
size_t plait_cut(const uint8_t *raw, size_t raw_bytes, const struct plait_layout *where, size_t size, size_t gap,
                 uint8_t *out, size_t out_bytes);

/* Give the checksum of RFC 1071 over bytes, 0 written 0xffff: those of IP and TCP know no difference, UDP's demands it. */
uint32_t plait_checksum(const uint8_t *data, size_t bytes);

/*
 * Write the frames of a burst, joined where possible, behind virtio-net headers and one behind the other, and their
 * lengths, at most `count`. Gives how many; 0 if `out` has less than 10 bytes more than each frame, or without memory.
 */
size_t plait_coalesce(const uint8_t *const *frames, const uint32_t *lengths, size_t count, uint8_t *out,
                      size_t out_bytes, uint32_t *out_lengths);

#endif
