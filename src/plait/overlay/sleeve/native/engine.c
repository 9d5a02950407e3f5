/*
 * Cuts super-frames into plait1 datagrams and joins them again, sealed or plain.
 *
 * The same as engine.py and superframe.py, which are the reference; tests run against both. A call keeps nothing but
 * the cipher contexts of its key. No byte outside the buffers that a caller names is read or written, whatever a peer
 * sends. libcrypto is found at run time, by its stable interface, so that no header of it is needed to build this.
 */

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "format.h"
#include "octets.h"

/* libcrypto */

typedef void *(*new_context)(void);
typedef void (*free_context)(void *);
typedef const void *(*get_cipher)(void);
typedef int (*init_cipher)(void *, const void *, void *, const uint8_t *, const uint8_t *);
typedef int (*update_cipher)(void *, uint8_t *, int *, const uint8_t *, int);
typedef int (*final_cipher)(void *, uint8_t *, int *);
typedef int (*control_cipher)(void *, int, int, void *);

enum { GET_TAG = 0x10, SET_TAG = 0x11 }; /* EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG */

static struct {
    new_context new_context;
    free_context free_context;
    get_cipher aes_256_gcm;
    get_cipher chacha20_poly1305;
    init_cipher seal_init, open_init;
    update_cipher seal_update, open_update;
    final_cipher seal_final, open_final;
    control_cipher control;
} crypto;

/* ISO C has no conversion from an object pointer to a function; POSIX has this one. */
static int find(void *library, const char *name, void *place) {
    void *found = dlsym(library, name);
    memcpy(place, &found, sizeof found);
    return found != NULL;
}

int plait_crypto_find(void) {
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1"};
    if (crypto.control != NULL)
        return 0;
    void *library = NULL;
    for (size_t i = 0; library == NULL && i < sizeof names / sizeof *names; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return -1;
    if (find(library, "EVP_CIPHER_CTX_new", &crypto.new_context) &&
        find(library, "EVP_CIPHER_CTX_free", &crypto.free_context) &&
        find(library, "EVP_aes_256_gcm", &crypto.aes_256_gcm) &&
        find(library, "EVP_chacha20_poly1305", &crypto.chacha20_poly1305) &&
        find(library, "EVP_EncryptInit_ex", &crypto.seal_init) &&
        find(library, "EVP_DecryptInit_ex", &crypto.open_init) &&
        find(library, "EVP_EncryptUpdate", &crypto.seal_update) &&
        find(library, "EVP_DecryptUpdate", &crypto.open_update) &&
        find(library, "EVP_EncryptFinal_ex", &crypto.seal_final) &&
        find(library, "EVP_DecryptFinal_ex", &crypto.open_final) &&
        find(library, "EVP_CIPHER_CTX_ctrl", &crypto.control))
        return 0;
    crypto.control = NULL;
    dlclose(library);
    return -1;
}

struct plait_key {
    void *seal;
    void *open;
};

void plait_key_free(struct plait_key *key) {
    if (key == NULL)
        return;
    if (key->seal != NULL)
        crypto.free_context(key->seal);
    if (key->open != NULL)
        crypto.free_context(key->open);
    free(key);
}

struct plait_key *plait_key_new(int cipher, const uint8_t *bytes) {
    if (plait_crypto_find() != 0)
        return NULL;
    struct plait_key *key = calloc(1, sizeof *key);
    if (key == NULL)
        return NULL;
    const void *kind = cipher == 1 ? crypto.aes_256_gcm() : crypto.chacha20_poly1305();
    key->seal = crypto.new_context();
    key->open = crypto.new_context();
    if (key->seal == NULL || key->open == NULL || !crypto.seal_init(key->seal, kind, NULL, bytes, NULL) ||
        !crypto.open_init(key->open, kind, NULL, bytes, NULL)) {
        plait_key_free(key);
        return NULL;
    }
    return key;
}

struct associated {
    const uint8_t *data;
    size_t bytes;
};

static void make_nonce(uint8_t *nonce, int kind, int index, uint64_t sequence) {
    nonce[0] = (uint8_t)kind;
    nonce[1] = (uint8_t)index;
    nonce[2] = nonce[3] = 0;
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(sequence >> (56 - 8 * i));
}

/* Write `bytes` sealed bytes and the tag. Gives 1, or 0 if libcrypto refuses. */
static int seal(struct plait_key *key, const uint8_t *nonce, struct associated with, const uint8_t *data, size_t bytes,
                uint8_t *out) {
    int length;
    return crypto.seal_init(key->seal, NULL, NULL, NULL, nonce) &&
           crypto.seal_update(key->seal, NULL, &length, with.data, (int)with.bytes) &&
           crypto.seal_update(key->seal, out, &length, data, (int)bytes) &&
           crypto.seal_final(key->seal, out + bytes, &length) &&
           crypto.control(key->seal, GET_TAG, TAG, out + bytes);
}

/* Write the plaintext of `bytes` sealed bytes, tag included. Gives 1, or 0 if the seal is not this key's. */
static int unseal(struct plait_key *key, const uint8_t *nonce, struct associated with, const uint8_t *data,
                  size_t bytes, uint8_t *out) {
    int length;
    uint8_t tag[TAG];
    if (bytes < TAG || bytes > INT_MAX)
        return 0;
    memcpy(tag, data + bytes - TAG, TAG);
    return crypto.open_init(key->open, NULL, NULL, NULL, nonce) &&
           crypto.open_update(key->open, NULL, &length, with.data, (int)with.bytes) &&
           crypto.open_update(key->open, out, &length, data, (int)(bytes - TAG)) &&
           crypto.control(key->open, SET_TAG, TAG, tag) &&
           crypto.open_final(key->open, out + bytes - TAG, &length) > 0;
}

int plait_seal_whole(struct plait_key *key, int kind, uint8_t *datagram, size_t clear_bytes, size_t bytes) {
    uint8_t nonce[NONCE], *body = datagram + clear_bytes;
    make_nonce(nonce, kind, 0, get64(datagram + SEQUENCE));
    return seal(key, nonce, (struct associated){datagram, clear_bytes}, body, bytes - clear_bytes, body);
}

int plait_open_whole(struct plait_key *key, int kind, const uint8_t *datagram, size_t clear_bytes, size_t bytes,
                     uint8_t *out) {
    uint8_t nonce[NONCE];
    make_nonce(nonce, kind, 0, get64(datagram + SEQUENCE));
    return unseal(key, nonce, (struct associated){datagram, clear_bytes}, datagram + clear_bytes, bytes - clear_bytes,
                  out);
}

/* Headers */

int plait_read_headers(const uint8_t *raw, size_t bytes, struct plait_headers *where) {
    size_t with_payload = bytes + 1;
    if (with_payload < VNET + ETHERNET + IPV4 + UDP)
        return 0;
    int gso = raw[1], kind = gso & ~GSO_ECN;
    size_t csum_start = get16_little(raw + 6), csum_offset = get16_little(raw + 8);
    where->is_tcp = kind == GSO_TCPV4 || kind == GSO_TCPV6;
    where->gso_size = get16_little(raw + 4);
    if (raw[0] != NEEDS_CSUM || where->gso_size == 0 || !(where->is_tcp || gso == GSO_UDP_L4))
        return 0;
    size_t ip = VNET + ETHERNET;
    for (int tags = 0; tags < 2; tags++) {
        uint32_t type = get16(raw + ip - 2);
        if (type != 0x8100 && type != 0x88a8)
            break;
        ip += VLAN;
    }
    uint32_t type = get16(raw + ip - 2);
    where->ip = ip;
    where->is_ipv6 = type == 0x86dd;
    if ((!where->is_ipv6 && type != 0x0800) || (where->is_tcp && where->is_ipv6 != (kind == GSO_TCPV6)))
        return 0;
    size_t least = where->is_tcp ? TCP_MIN : UDP, l4 = where->l4 = VNET + csum_start;
    if (csum_offset != (where->is_tcp ? TCP_CHECKSUM : UDP_CHECKSUM) || l4 + least > with_payload)
        return 0;
    if (l4 < ip + (where->is_ipv6 ? IPV6 : IPV4) || raw[ip] >> 4 != (where->is_ipv6 ? 6 : 4))
        return 0;
    if (!where->is_ipv6 && ((size_t)(raw[ip] & 15) * 4 != l4 - ip ||
                            raw[ip + 9] != (where->is_tcp ? TCP_PROTOCOL : UDP_PROTOCOL)))
        return 0;
    size_t header = where->is_tcp ? (size_t)(raw[l4 + 12] >> 4) * 4 : UDP;
    where->payload = l4 + header;
    return header >= least && where->payload == bytes;
}

static void checksum_ipv4(uint8_t *header, size_t bytes) {
    uint32_t sum = 0;
    put16(header + 10, 0);
    for (size_t i = 0; i < bytes; i += 2)
        sum += get16(header + i);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(header + 10, 0xffff - sum);
}

/* Make the headers of a super-frame those of a part: `payload` bytes from payload offset `at` on. */
static void make_part(uint8_t *head, const struct plait_headers *where, size_t at, size_t payload, int is_last) {
    uint8_t *ip = head + where->ip, *l4 = head + where->l4;
    long length = (long)(where->payload - where->l4 + payload), before, old;
    if (where->is_ipv6) {
        before = (long)(where->l4 - where->ip) - IPV6;
        old = (long)get16(ip + 4) - before;
        put16(ip + 4, (uint32_t)(before + length));
    } else {
        before = (long)(where->l4 - where->ip);
        old = (long)get16(ip + 2) - before;
        put16(ip + 2, (uint32_t)(before + length));
        put16(ip + 4, get16(ip + 4) + (uint32_t)(at / where->gso_size));
        checksum_ipv4(ip, (size_t)before);
    }
    if (where->is_tcp) {
        put32(l4 + 4, get32(l4 + 4) + (uint32_t)at);
        l4[13] &= (uint8_t)~((is_last ? 0 : FIN_PSH) | (at ? CWR : 0));
    } else {
        put16(l4 + 4, (uint32_t)length);
    }
    uint8_t *checksum = l4 + (where->is_tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
    long pseudo = ((long)get16(checksum) + length - old) % 0xffff;
    if (pseudo <= 0)
        pseudo += 0xffff;
    put16(checksum, (uint32_t)pseudo);
    if (payload <= where->gso_size)
        memset(head + 1, 0, 5);
}

/* Sending */

/* What the datagrams of one super-frame are made of. */
struct sending {
    struct plait_key *key;
    struct associated with;
    uint64_t sequence;
    size_t slice;
};

/* Write sealed or plain bytes; gives 1, or 0 if libcrypto refuses. */
static int write_piece(const struct sending *super, int kind, uint8_t index, const uint8_t *data, size_t bytes,
                       uint8_t *out) {
    uint8_t nonce[NONCE];
    if (super->key == NULL) {
        memcpy(out, data, bytes);
        return 1;
    }
    make_nonce(nonce, kind, index, super->sequence);
    return seal(super->key, nonce, super->with, data, bytes, out);
}

size_t plait_segment(struct plait_key *key, const uint8_t *blob, size_t blob_bytes, const uint8_t *payload,
                     size_t payload_bytes, const uint8_t *clear, size_t clear_bytes, uint64_t sequence, size_t slice,
                     uint8_t *out, size_t out_bytes) {
    if (slice == 0 || slice > 0xffff || payload_bytes == 0 || payload_bytes > MAX_SUPER || blob_bytes > MAX_BLOB ||
        clear_bytes < CLEAR || clear_bytes > MAX_CLEAR)
        return 0;
    size_t tag = key == NULL ? 0 : TAG, head = clear_bytes + FIELDS + blob_bytes + tag;
    size_t count = (payload_bytes + slice - 1) / slice, total = count * (head + 1 + tag) + payload_bytes;
    if (count > PLAIT_MAX_SLICES || total > out_bytes)
        return 0;
    struct sending super = {key, {out, clear_bytes + FIELDS}, sequence, slice};
    uint8_t *at = out, *fields = out + clear_bytes;
    memcpy(out, clear, clear_bytes);
    put16(fields, (uint32_t)slice);
    fields[2] = (uint8_t)(blob_bytes + tag);
    if (!write_piece(&super, KIND_BLOB, 0, blob, blob_bytes, fields + FIELDS))
        return 0;
    for (size_t number = 0; number < count; number++) {
        int is_last = number + 1 == count;
        size_t from = number * slice, bytes = is_last ? payload_bytes - from : slice;
        if (number > 0)
            memcpy(at, out, head);
        at[head] = (uint8_t)(number | (is_last ? LAST : 0));
        if (!write_piece(&super, KIND_PAYLOAD, at[head], payload + from, bytes, at + head + 1))
            return 0;
        at += head + 1 + bytes + tag;
    }
    return total;
}

/* Receiving */

/* Received datagrams of one run: `step` bytes each, the last one ends at `end`. */
struct received {
    const uint8_t *first;
    const uint8_t *end;
    size_t step;
    size_t head; /* bytes that all of the run have in common, the index is behind them */
};

/* A run being opened, and the frame that is being put together in `frame`. */
struct opening {
    struct plait_key *key;
    struct associated with;
    uint64_t sequence;
    uint64_t seen[2];
    size_t slice;
    struct plait_headers where;
    const uint8_t *blob;
    size_t blob_bytes;
    uint8_t opened_blob[256];

    uint8_t *frame;
    size_t payload_bytes;
    uint32_t first;
    int is_last;
    struct plait_run *run;
};

/*
 * Count the datagrams that begin with the first one's headers and have consecutive indices, up to one marked as last.
 * The first one is known to have an index; at most PLAIT_MAX_SLICES are found, since an index has seven bits.
 */
static size_t run_length(const struct received *in) {
    uint32_t index = in->first[in->head] & ~(uint32_t)LAST;
    size_t left = (size_t)(in->end - in->first), count = 0;
    for (const uint8_t *at = in->first; left > in->head; at += in->step, left -= in->step) {
        if ((at[in->head] & ~(uint32_t)LAST) != index + count || (count > 0 && memcmp(at, in->first, in->head) != 0))
            break;
        count++;
        if (at[in->head] & LAST || left <= in->step)
            break;
    }
    return count;
}

/* Open and check the blob, with all datagrams counted if there is nothing to be had. */
static int open_blob(struct opening *o, uint32_t count) {
    uint8_t nonce[NONCE];
    if (o->key != NULL) {
        make_nonce(nonce, KIND_BLOB, 0, o->sequence);
        if (!unseal(o->key, nonce, o->with, o->blob, o->blob_bytes, o->opened_blob)) {
            o->run->forged = count;
            return 0;
        }
        o->blob = o->opened_blob;
        o->blob_bytes -= TAG;
    }
    const struct plait_headers *where = &o->where;
    if (o->blob_bytes > MAX_BLOB || !plait_read_headers(o->blob, o->blob_bytes, &o->where) ||
        (o->slice != where->gso_size && !(where->is_tcp && o->slice % where->gso_size == 0))) {
        o->run->malformed = count;
        return 0;
    }
    return 1;
}

/* Give the frame its headers and begin the next one, if there is any payload. */
static void finish(struct opening *o) {
    if (o->payload_bytes == 0)
        return;
    memcpy(o->frame, o->blob, o->blob_bytes);
    if (o->first != 0 || !o->is_last)
        make_part(o->frame, &o->where, o->first * o->slice, o->payload_bytes, o->is_last);
    size_t bytes = o->blob_bytes + o->payload_bytes;
    o->run->lengths[o->run->frames++] = (uint32_t)bytes;
    o->frame += bytes;
    o->payload_bytes = 0;
}

/* Take the payload of the next datagram, sealed or plain; gives 1, or 0 with what is wrong counted. */
static int take(struct opening *o, uint32_t index, const uint8_t *data, size_t bytes) {
    uint32_t bit = index & ~(uint32_t)LAST;
    uint8_t nonce[NONCE], *place = o->frame + o->blob_bytes + o->payload_bytes;
    size_t tag = o->key == NULL ? 0 : TAG;
    if (o->seen[bit >> 6] >> (bit & 63) & 1) {
        o->run->replayed++;
        return 0;
    }
    if (o->key != NULL) {
        make_nonce(nonce, KIND_PAYLOAD, (int)index, o->sequence);
        if (!unseal(o->key, nonce, o->with, data, bytes, place)) {
            o->run->forged++;
            return 0;
        }
    }
    bytes -= tag;
    if (bytes != o->slice && !(index & LAST && bytes > 0 && bytes < o->slice)) {
        o->run->malformed++;
        return 0;
    }
    if (o->key == NULL)
        memcpy(place, data, bytes);
    if (o->payload_bytes == 0)
        o->first = bit;
    o->payload_bytes += bytes;
    o->is_last = (index & LAST) != 0;
    o->run->mask[bit >> 6] |= (uint64_t)1 << (bit & 63);
    return 1;
}

void plait_open_run(struct plait_key *key, const uint8_t *data, size_t at, size_t end, size_t step, size_t clear_bytes,
                    uint64_t seen_low, uint64_t seen_high, uint8_t *out, struct plait_run *run) {
    size_t first_end = step < end - at ? at + step : end, fields = at + clear_bytes;
    memset(run, 0, offsetof(struct plait_run, lengths));
    run->next_at = first_end;
    run->malformed = 1;
    if (clear_bytes < CLEAR || clear_bytes > MAX_CLEAR || fields + FIELDS > first_end)
        return;
    size_t slice = get16(data + fields), blob_bytes = data[fields + 2], head = clear_bytes + FIELDS + blob_bytes;
    if (slice == 0 || at + head + 1 > first_end)
        return;
    run->malformed = 0;
    struct received in = {data + at, data + end, step, head};
    size_t count = run_length(&in);
    run->next_at = count * step < end - at ? at + count * step : end;

    struct opening o = {.key = key,
                        .with = {in.first, clear_bytes + FIELDS},
                        .sequence = get64(in.first + SEQUENCE),
                        .seen = {seen_low, seen_high},
                        .slice = slice,
                        .blob = data + fields + FIELDS,
                        .blob_bytes = blob_bytes,
                        .frame = out,
                        .run = run};
    if (!open_blob(&o, (uint32_t)count))
        return;
    for (size_t number = 0; number < count; number++) {
        const uint8_t *datagram = in.first + number * step, *payload = datagram + head + 1;
        const uint8_t *behind = number + 1 < count ? datagram + step : data + run->next_at;
        if (!take(&o, datagram[head], payload, (size_t)(behind - payload)))
            finish(&o);
    }
    finish(&o);
}
