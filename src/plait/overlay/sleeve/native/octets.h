/* Numbers in headers: big-endian as on the wire, little-endian as in a virtio-net header. */

#ifndef PLAIT_OCTETS_H
#define PLAIT_OCTETS_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

static inline uint32_t get16_little(const uint8_t *at) { return (uint32_t)at[1] << 8 | at[0]; }

static inline uint32_t get32(const uint8_t *at) { return get16(at) << 16 | get16(at + 2); }

static inline uint64_t get64(const uint8_t *at) { return (uint64_t)get32(at) << 32 | get32(at + 4); }

static inline void put16(uint8_t *at, size_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put16_little(uint8_t *at, size_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void put32(uint8_t *at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value);
}

static inline void put64(uint8_t *at, uint64_t value) {
    put32(at, (uint32_t)(value >> 32));
    put32(at + 4, (uint32_t)value);
}

#endif
