/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's helper functions by number (linux/bpf.h, __BPF_FUNC_MAPPER), and how a map is declared. */
#ifndef PLAIT_KERNEL_H
#define PLAIT_KERNEL_H
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#define swap16(x) __builtin_bswap16(x)
#define swap32(x) __builtin_bswap32(x)

#define ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7) /* both since Linux 6.3: absent from older headers */
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

static void *(*map_lookup)(void *, const void *) = (void *)1;
static long (*map_update)(void *, const void *, const void *, __u64) = (void *)2;
static __u64 (*ktime_get_ns)(void) = (void *)5;
static long (*skb_store_bytes)(void *, __u32, const void *, __u32, __u64) = (void *)9;
static long (*clone_redirect)(void *, __u32, __u64) = (void *)13;
static long (*skb_vlan_push)(void *, __u16, __u16) = (void *)18;
static long (*skb_vlan_pop)(void *) = (void *)19;
static long (*skb_get_tunnel_key)(void *, struct bpf_tunnel_key *, __u32, __u64) = (void *)20;
static long (*skb_set_tunnel_key)(void *, struct bpf_tunnel_key *, __u32, __u64) = (void *)21;
static long (*redirect)(__u32, __u64) = (void *)23;
static long (*skb_load_bytes)(void *, __u32, void *, __u32) = (void *)26;
static __u32 (*get_hash_recalc)(void *) = (void *)34;
static long (*skb_adjust_room)(void *, __s32, __u32, __u64) = (void *)50;
static void *(*ringbuf_reserve)(void *, __u64, __u64) = (void *)131;
static void (*ringbuf_submit)(void *, __u64) = (void *)132;
static void (*ringbuf_discard)(void *, __u64) = (void *)133;
static long (*redirect_neigh)(__u32, void *, int, __u64) = (void *)152;
static long (*redirect_peer)(__u32, __u64) = (void *)155;

#endif
