/* SPDX-License-Identifier: Apache-2.0 */
/* plait's datapath in the kernel: frames between containers and the VXLAN of other hosts.
 *
 *   from_container  ingress of each port of the bridge but the overlays' own: frames that containers send
 *   from_underlay   ingress of each interface towards other hosts: strips the outer headers, relays (direct mode)
 *   from_vxlan      ingress of the VXLAN device: what from_underlay left to it, broadcasts, heartbeats
 *   to_vxlan        egress of the VXLAN device, a port of the bridge: frames that the bridge floods
 *   from_tap        ingress of the pump's tap: frames that came through user space, kept from posing as VXLAN
 *   to_tap          egress of the pump's tap: lets nobody but us put short ids in front of a frame
 *
 * Frames for the pump carry two 802.1ad tags, the short ids of source (outer) and destination: unlike a header of our
 * own they leave super-frames whole. Everything is inlined, so an object is code, map references and nothing else. */
#include "kernel.h"
#include "layout.h"

#define OURS 0x504c /* skb->mark of a frame that has its tunnel key or its tags; cleared at the device's egress */
#define REFRESH_NS 1000000000ULL
#define VXLAN_FLAGS 0x08
#define VXLAN_BYTES 8
#define PRIORITY_TAGS 4 /* the most that are looked behind */
#define VLAN_ID 0x0fff
#define HOPS 64 /* outer TTL; relays pass on one less than they got, so that what goes in circles ends */

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);
	 __type(key, __u32); __type(value, struct conf); } conf SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, MAX_CONTAINERS);
	 __type(key, struct mac); __type(value, struct container); } containers SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, MAX_LEARNED);
	 __type(key, struct mac); __type(value, struct learned); } learned SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, MAX_LEARNED);
	 __type(key, struct mac); __type(value, __u32); } announced SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, SHORT_IDS);
	 __type(key, __u32); __type(value, struct nexthop); } nexthops SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, SHORT_IDS);
	 __type(key, __u32); __type(value, struct fan); } trees SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, MAX_NEIGHBOURS);
	 __type(key, __u32); __type(value, struct neighbour); } neighbours SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, MAX_NEIGHBOURS);
	 __type(key, struct address6); __type(value, struct neighbour6); } neighbours6 SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, SHORT_IDS);
	 __type(key, __u32); __type(value, struct peer_stats); } stats SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, DROP_KINDS);
	 __type(key, __u32); __type(value, __u64); } drops SECTION(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } events SECTION(".maps");

struct tunnel {
	struct udphdr udp;
	__u8 vxlan[VXLAN_BYTES];
	struct ethhdr inner;
} __attribute__((packed));

struct outer {
	struct iphdr ip;
	struct tunnel t;
} __attribute__((packed));

struct outer6 {
	struct ipv6hdr ip;
	struct tunnel t;
} __attribute__((packed));

INLINE int drop(__u32 reason)
{
	__u64 *count = map_lookup(&drops, &reason);

	if (count)
		(*count)++;
	return TC_ACT_SHOT;
}

INLINE void count_tx(__u32 hop, __u32 packets, __u32 bytes)
{
	struct peer_stats *s = map_lookup(&stats, &hop);

	if (s) {
		s->tx_packets += packets;
		s->tx_bytes += bytes;
	}
}

INLINE void count_rx(__u32 hop, __u32 packets, __u32 bytes)
{
	struct peer_stats *s = map_lookup(&stats, &hop);

	if (s) {
		s->rx_packets += packets;
		s->rx_bytes += bytes;
	}
}

INLINE struct conf *get_conf(void)
{
	__u32 first = 0;

	return map_lookup(&conf, &first);
}

INLINE struct ethhdr *eth_of(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	return data + sizeof(struct ethhdr) > end ? 0 : data;
}

INLINE struct mac to_key(const __u8 *octets)
{
	struct mac key = {};

	__builtin_memcpy(key.octets, octets, ETH_ALEN);
	return key;
}

INLINE int is_group(const __u8 *octets) { return octets[0] & 1; }

/* 01:80:c2:00:00:0x stays on its bridge: spanning tree, pause, LLDP (IEEE 802.1D, 7.12.6). */
INLINE int is_link_local(const __u8 *o)
{
	return o[0] == 0x01 && o[1] == 0x80 && o[2] == 0xc2 && o[3] == 0 && o[4] == 0 && o[5] < 0x10;
}

struct vlan_tag {
	__u16 tci, protocol;
};

INLINE int is_vlan(__u16 protocol) { return protocol == swap16(ETH_P_8021Q) || protocol == swap16(ETH_P_8021AD); }

/* Both addresses zero: heartbeats, which are between nodes. */
INLINE int is_special(struct ethhdr *eth)
{
	__u8 any = 0;

#pragma unroll
	for (int i = 0; i < ETH_ALEN; i++)
		any |= eth->h_source[i] | eth->h_dest[i];
	return !any;
}

/* Note where an address was seen. It is written only when it moved or after a second: most frames cost a look-up.
 * Containers, of this host and those that peers announced, are the nodes' business and are never learned away. */
INLINE void learn(const __u8 *octets, __u16 kind, __u16 peer)
{
	struct mac key = to_key(octets);
	struct learned *known;
	__u32 *told;
	__u64 now;

	if (is_group(octets))
		return;
	known = map_lookup(&learned, &key);
	now = ktime_get_ns();
	if (known && known->kind == kind && known->peer == peer) {
		if (now - known->seen > REFRESH_NS)
			known->seen = now;
		return;
	}
	if (map_lookup(&containers, &key))
		return;
	told = map_lookup(&announced, &key);
	if (told && (kind == LEARNED_HERE || *told != peer))
		return;
	struct learned fresh = { .seen = now, .peer = peer, .kind = kind };
	map_update(&learned, &key, &fresh, BPF_ANY);
}

/* The short id of the peer behind an address; SHORT_IDS if it is unknown, SHORT_IDS + 1 if it is on this host. */
#define UNKNOWN SHORT_IDS
#define HERE (SHORT_IDS + 1)
INLINE __u32 owner_of(struct mac *key)
{
	__u32 *told = map_lookup(&announced, key);
	struct learned *known;

	if (told)
		return *told;
	known = map_lookup(&learned, key);
	if (known)
		return known->kind == LEARNED_PEER ? known->peer : HERE;
	return UNKNOWN;
}

/* The length of the IP packet behind `outer` bytes, or of the largest segment that a super-frame will be cut into. */
INLINE __u32 packet_length(struct __sk_buff *skb, __u32 outer)
{
	void *data = (void *)(long)skb->data + outer, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u32 l4 = ETH_HLEN, headers;
	__u8 protocol;

	if (!skb->gso_size)
		return skb->len - outer - ETH_HLEN;
	if (data + ETH_HLEN + sizeof(struct iphdr) > end)
		return skb->len;
	if (eth->h_proto == swap16(ETH_P_IP)) {
		struct iphdr *ip = data + ETH_HLEN;
		l4 += ip->ihl * 4;
		protocol = ip->protocol;
	} else {
		struct ipv6hdr *ip6 = data + ETH_HLEN;
		if ((void *)(ip6 + 1) > end)
			return skb->len;
		l4 += sizeof(*ip6);
		protocol = ip6->nexthdr;
	}
	headers = l4 - ETH_HLEN + 8; /* UDP's */
	if (protocol == 6) {
		__u8 *tcp = data + (l4 & 0x7f);
		if ((void *)(tcp + 20) > end)
			return skb->len;
		headers += (tcp[12] >> 4) * 4 - 8;
	}
	return headers + skb->gso_size;
}

/* How many packets a frame stands for: a super-frame may reach the other end cut otherwise, or whole. gso_segs would say
 * it, but is forgotten whenever headers are added or taken away. */
INLINE __u32 packets_in(struct __sk_buff *skb, __u32 outer)
{
	__u32 size = skb->gso_size, headers;

	if (!size)
		return 1;
	headers = packet_length(skb, outer) - size;
	return (skb->len - outer - ETH_HLEN - headers + size - 1) / size;
}

/* Say where the VXLAN device is to send the frame, and that it is ours. Not 0 if it cannot be said. */
INLINE int address(struct __sk_buff *skb, struct nexthop *to, __u32 source, __u32 destination, __u8 ttl)
{
	union { __u64 words[(sizeof(struct bpf_tunnel_key) + 7) / 8]; struct bpf_tunnel_key key; } tunnel = {};
	struct bpf_tunnel_key *key = &tunnel.key;
	__u64 flags = BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT;

	key->tunnel_id = source | destination << 12;
	key->tunnel_ttl = ttl;
	if (to->flags & NH_IPV6) {
		flags |= BPF_F_TUNINFO_IPV6;
		__builtin_memcpy(key->remote_ipv6, &to->remote6, sizeof(to->remote6));
		/* Hosts have several addresses of IPv6, and the neighbour knows us by one. */
		__builtin_memcpy(key->local_ipv6, &to->local6, sizeof(to->local6));
	} else {
		key->remote_ipv4 = swap32(to->remote);
	}
	if (skb_set_tunnel_key(skb, key, sizeof(*key), flags))
		return -1;
	skb->mark = OURS;
	return 0;
}

INLINE __u16 ip_checksum(struct iphdr *ip)
{
	__u16 *words = (__u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#define ENCAPSULATION (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | \
		       BPF_F_ADJ_ROOM_ENCAP_L2_ETH)

/* Without a checksum, over IPv6 too: RFC 6935 allows that to tunnels. */
INLINE void fill(struct tunnel *t, struct ethhdr *inner, __u16 port, __u32 vni, __u32 hash, __u32 length)
{
	__builtin_memcpy(&t->inner, inner, ETH_HLEN);
	t->udp.source = swap16(0xc000 | (hash & 0x3fff));
	t->udp.dest = port;
	t->udp.len = swap16(length);
	t->vxlan[0] = VXLAN_FLAGS;
	t->vxlan[4] = vni >> 16;
	t->vxlan[5] = vni >> 8;
	t->vxlan[6] = vni;
}

/* Whether outer headers can be written: what is in front of the frame must be IP, and nothing of it beside. */
INLINE int is_simple(struct __sk_buff *skb, struct ethhdr *eth, __u32 length)
{
	return eth && !skb->vlan_present && length <= 0xffff &&
	       (eth->h_proto == swap16(ETH_P_IP) || eth->h_proto == swap16(ETH_P_IPV6));
}

INLINE int encapsulate6(struct __sk_buff *skb, struct conf *c, struct nexthop *to, __u32 vni, __u8 ttl)
{
	__u32 hash = get_hash_recalc(skb), length = skb->len - ETH_HLEN + sizeof(struct outer6);
	struct ethhdr *eth = eth_of(skb);
	struct outer6 o = {};
	__u16 proto = swap16(ETH_P_IPV6);

	if (!is_simple(skb, eth, length))
		return -1;
	o.ip.version = 6;
	o.ip.hop_limit = ttl;
	o.ip.nexthdr = 17;
	o.ip.payload_len = swap16(length - sizeof(o.ip));
	__builtin_memcpy(&o.ip.saddr, &to->local6, sizeof(to->local6));
	__builtin_memcpy(&o.ip.daddr, &to->remote6, sizeof(to->remote6));
	fill(&o.t, eth, c->port, vni, hash, length - sizeof(o.ip));
	if (skb_adjust_room(skb, sizeof(o), BPF_ADJ_ROOM_MAC, ENCAPSULATION | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
		return -1;
	if (skb_store_bytes(skb, ETH_HLEN, &o, sizeof(o), 0) || skb_store_bytes(skb, 12, &proto, sizeof(proto), 0))
		return TC_ACT_SHOT;
	return redirect_neigh(to->underlay, 0, 0, 0);
}

/* Write the outer headers and send, past the host's IP stack. Negative if the frame has to go by the VXLAN device. */
INLINE int encapsulate(struct __sk_buff *skb, struct conf *c, struct nexthop *to, __u32 source, __u32 destination,
		       __u8 ttl)
{
	__u32 vni = source | destination << 12, hash = get_hash_recalc(skb), length = skb->len - ETH_HLEN + sizeof(struct outer);
	struct ethhdr *eth = eth_of(skb);
	struct iphdr ip = {};
	struct outer o = {};
	__u16 proto = swap16(ETH_P_IP);

	if (to->flags & NH_IPV6)
		return encapsulate6(skb, c, to, vni, ttl);
	if (!is_simple(skb, eth, length))
		return -1;
	ip.version = 4;
	ip.ihl = 5;
	ip.ttl = ttl;
	ip.protocol = 17;
	ip.frag_off = swap16(0x4000); /* DF */
	ip.tot_len = swap16(length);
	ip.saddr = to->local;
	ip.daddr = to->remote;
	ip.check = ip_checksum(&ip);
	o.ip = ip;
	fill(&o.t, eth, c->port, vni, hash, length - sizeof(o.ip));
	if (skb_adjust_room(skb, sizeof(o), BPF_ADJ_ROOM_MAC, ENCAPSULATION | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
		return -1;
	if (skb_store_bytes(skb, ETH_HLEN, &o, sizeof(o), 0) || skb_store_bytes(skb, 12, &proto, sizeof(proto), 0))
		return TC_ACT_SHOT;
	return redirect_neigh(to->underlay, 0, 0, 0);
}

/* Put the short ids in front; not 0 if there is no memory. */
INLINE int tag(struct __sk_buff *skb, __u32 source, __u32 destination)
{
	if (skb_vlan_push(skb, swap16(ETH_P_8021AD), destination) || skb_vlan_push(skb, swap16(ETH_P_8021AD), source))
		return -1;
	skb->mark = OURS;
	return 0;
}

INLINE int to_pump(struct __sk_buff *skb, struct conf *c, __u32 source, __u32 destination)
{
	return tag(skb, source, destination) ? drop(DROP_NO_TUNNEL) : (int)redirect(c->tap, 0);
}

/* Send a frame to one peer. `arrived_from` is the neighbour that a relayed frame came from, else UNKNOWN. */
INLINE int send(struct __sk_buff *skb, struct conf *c, __u32 source, __u32 destination, __u32 arrived_from, __u8 ttl)
{
	struct nexthop *to = map_lookup(&nexthops, &destination);
	int sent;

	if (!to || to->via == VIA_NOTHING)
		return drop(DROP_NO_ROUTE);
	/* Peers that name each other as next hop would pass it on until its hops are used up. */
	if (to->hop == arrived_from)
		return drop(DROP_RETURNED);
	if (to->via == VIA_PUMP)
		return to_pump(skb, c, source, destination);
	if (packet_length(skb, 0) > to->mtu) {
		/* Who sends too much is told so: by the kernel if the underlay's interface is the limit, else by the pump.
		 * The kernel's answer to a relayed frame would come back as one that the next hop sent here. */
		if (!(to->flags & NH_KERNEL_ANSWERS) || arrived_from != UNKNOWN)
			return to_pump(skb, c, source, destination);
	} else if (to->flags & NH_DIRECT) {
		count_tx(to->hop, packets_in(skb, 0), skb->len);
		sent = encapsulate(skb, c, to, source, destination, ttl);
		if (sent >= 0)
			return sent;
	} else {
		count_tx(to->hop, packets_in(skb, 0), skb->len);
	}
	if (address(skb, to, source, destination, ttl))
		return drop(DROP_NO_TUNNEL);
	return redirect(c->vxlan, 0);
}

/* A copy to each neighbour of the source's broadcast tree, labelled with that neighbour as the destination. */
INLINE void flood(struct __sk_buff *skb, struct conf *c, __u32 source, __u32 arrived_from, __u8 ttl)
{
	struct fan *tree = map_lookup(&trees, &source);
	__u32 packets = packets_in(skb, 0);

	if (!tree)
		return;
	for (__u32 i = 0; i < MAX_FANOUT; i++) {
		if (i >= tree->count)
			break;
		__u32 hop = tree->hops[i];
		struct nexthop *to = map_lookup(&nexthops, &hop);
		if (!to || to->via != VIA_VXLAN || hop == arrived_from || address(skb, to, source, hop, ttl))
			continue;
		count_tx(hop, packets, skb->len);
		clone_redirect(skb, c->vxlan, 0);
	}
	skb->mark = 0;
	/* The pump passes on what came by VXLAN; of what the bridge floods it has a copy already. */
	if (tree->has_pump && arrived_from != UNKNOWN && !tag(skb, source, c->our_id)) {
		clone_redirect(skb, c->tap, 0);
		skb_vlan_pop(skb);
		skb_vlan_pop(skb);
		skb->mark = 0;
	}
}

/* The same by IPv6. A neighbour's address in front of anything but what ends in itself is refused too: UDP may be behind
 * extension headers, which the host reads and we do not. */
INLINE int is_forged_vxlan6(struct __sk_buff *skb, struct conf *c, __u32 at)
{
	struct address6 source;
	struct ipv6hdr ip;
	__u16 port;

	if (skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.nexthdr == 6 || ip.nexthdr == 58)
		return 0;
	if (ip.nexthdr == 17 &&
	    (skb_load_bytes(skb, at + sizeof(ip) + 2, &port, sizeof(port)) || port != c->port))
		return 0;
	__builtin_memcpy(&source, &ip.saddr, sizeof(source));
	return map_lookup(&neighbours6, &source) != 0;
}

/* VXLAN that pretends to come from a neighbour, on its way to this host itself: only interfaces to other hosts, not the
 * bridge, may bring such. The host strips as many tags of VLAN 0 as there are, so they hide nothing. */
INLINE int is_forged_vxlan(struct __sk_buff *skb, struct conf *c)
{
	__u32 at = ETH_HLEN;
	__u16 protocol = skb->protocol, port;
	struct vlan_tag tag;
	struct iphdr ip;

#pragma unroll
	for (int i = 0; i < PRIORITY_TAGS && is_vlan(protocol); i++) {
		if (skb_load_bytes(skb, at, &tag, sizeof(tag)) || tag.tci & swap16(VLAN_ID))
			return 0; /* of a VLAN that the host is not in */
		protocol = tag.protocol;
		at += sizeof(tag);
	}
	if (is_vlan(protocol))
		return 1;
	if (protocol == swap16(ETH_P_IPV6))
		return is_forged_vxlan6(skb, c, at);
	if (protocol != swap16(ETH_P_IP) || skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.protocol != 17 ||
	    skb_load_bytes(skb, at + ip.ihl * 4 + 2, &port, sizeof(port)) || port != c->port)
		return 0;
	return map_lookup(&neighbours, &ip.saddr) != 0;
}

INLINE int deliver(struct container *to)
{
	if (to->flags & CONTAINER_ELSEWHERE)
		return redirect_peer(to->port, 0);
	return TC_ACT_OK; /* the bridge does it: bpf_redirect_peer drops a frame whose receiver is in our own namespace */
}

SECTION("tc") int from_container(struct __sk_buff *skb)
{
	struct ethhdr *eth = eth_of(skb);
	struct conf *c = get_conf();
	struct container *here;
	struct mac key;
	__u32 peer;

	if (!c)
		return TC_ACT_OK;
	if (!eth)
		return drop(DROP_RUNT);
	if (is_special(eth))
		return drop(DROP_FORGED);
	learn(eth->h_source, LEARNED_HERE, 0);
	if (!is_group(eth->h_dest)) {
		key = to_key(eth->h_dest);
		here = map_lookup(&containers, &key);
		if (here && here->flags & CONTAINER_ELSEWHERE)
			return here->port == skb->ifindex ? TC_ACT_OK : deliver(here);
		peer = here ? HERE : owner_of(&key);
		if (peer < SHORT_IDS && c->our_id < SHORT_IDS)
			return send(skb, c, c->our_id, peer, UNKNOWN, HOPS);
	}
	/* What the bridge floods or takes itself. */
	return is_forged_vxlan(skb, c) ? drop(DROP_FORGED) : TC_ACT_OK;
}

SECTION("tc") int to_vxlan(struct __sk_buff *skb)
{
	struct ethhdr *eth = eth_of(skb);
	struct conf *c = get_conf();
	struct mac key;
	__u32 peer;

	if (!c || !eth)
		return drop(DROP_RUNT);
	if (skb->mark == OURS) {
		skb->mark = 0; /* the look-up of the outer route would see it */
		return TC_ACT_OK;
	}
	if (is_special(eth))
		return drop(DROP_FORGED);
	if (is_link_local(eth->h_dest))
		return drop(DROP_STP);
	if (c->our_id >= SHORT_IDS)
		return drop(DROP_NO_ROUTE);
	learn(eth->h_source, LEARNED_HERE, 0);
	if (!is_group(eth->h_dest)) {
		key = to_key(eth->h_dest);
		if (map_lookup(&containers, &key))
			return drop(DROP_LOCAL);
		peer = owner_of(&key);
		if (peer == HERE)
			return drop(DROP_LOCAL);
		if (peer != UNKNOWN)
			return send(skb, c, c->our_id, peer, UNKNOWN, HOPS);
	}
	flood(skb, c, c->our_id, UNKNOWN, HOPS);
	return TC_ACT_SHOT;
}

/* Tell the node of a heartbeat: its whole head, or what Weave's least one has. */
INLINE int tell(struct __sk_buff *skb, struct conf *c, struct bpf_tunnel_key *tunnel, int is_ipv6)
{
	__u32 destination = tunnel->tunnel_id >> 12 & 0xfff;
	struct event *e;
	long failed;

	if (destination != c->our_id)
		return drop(DROP_FORGED);
	if (skb->len < LEAST_EVENT_BYTES)
		return drop(DROP_RUNT);
	e = ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return drop(DROP_EVENTS_FULL);
	e->source = tunnel->tunnel_id & 0xfff;
	e->destination = destination;
	if (is_ipv6) {
		__builtin_memcpy(&e->remote, tunnel->remote_ipv6, sizeof(e->remote));
	} else {
		e->remote.words[0] = e->remote.words[1] = 0;
		e->remote.words[2] = swap32(0xffff);
		e->remote.words[3] = swap32(tunnel->remote_ipv4);
	}
	e->length = skb->len;
	__builtin_memset(e->head, 0, sizeof(e->head));
	if (skb->len >= EVENT_BYTES)
		failed = skb_load_bytes(skb, 0, e->head, EVENT_BYTES);
	else
		failed = skb_load_bytes(skb, 0, e->head, LEAST_EVENT_BYTES);
	if (failed) {
		ringbuf_discard(e, 0);
		return drop(DROP_RUNT);
	}
	ringbuf_submit(e, 0);
	return TC_ACT_SHOT;
}

/* The short id of the neighbour that a frame came from; UNKNOWN if it is none. */
INLINE __u32 sender_of(struct bpf_tunnel_key *tunnel, int is_ipv6)
{
	__u32 remote = swap32(tunnel->remote_ipv4);
	struct neighbour6 *six;
	struct neighbour *four;

	if (is_ipv6) {
		six = map_lookup(&neighbours6, tunnel->remote_ipv6);
		return six ? six->id : UNKNOWN;
	}
	four = map_lookup(&neighbours, &remote);
	return four ? four->id : UNKNOWN;
}

SECTION("tc") int from_vxlan(struct __sk_buff *skb)
{
	struct bpf_tunnel_key tunnel = {};
	struct ethhdr *eth = eth_of(skb);
	struct conf *c = get_conf();
	struct container *here = 0;
	__u32 source, destination, from;
	int is_ipv6 = 0;
	struct mac key;

	if (!c || !eth)
		return drop(DROP_RUNT);
	if (skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), 0)) {
		is_ipv6 = 1;
		if (skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_TUNINFO_IPV6))
			return drop(DROP_FOREIGN);
	}
	if (is_special(eth))
		return tell(skb, c, &tunnel, is_ipv6);
	source = tunnel.tunnel_id & 0xfff;
	destination = tunnel.tunnel_id >> 12 & 0xfff;
	from = sender_of(&tunnel, is_ipv6);
	if (from == UNKNOWN)
		return drop(DROP_FOREIGN);
	key = to_key(eth->h_dest);
	if (!is_group(eth->h_dest))
		here = map_lookup(&containers, &key);
	/* Our own id as the source is the kernel's answer to an oversize frame of ours, which comes back through the
	 * VXLAN device with the key that the frame had. It is for a container here, and nothing is learned from it. */
	if (source == c->our_id)
		return here && destination == from ? deliver(here) : drop(DROP_ECHO);
	count_rx(from, packets_in(skb, 0), skb->len);
	if (destination != c->our_id)
		return tunnel.tunnel_ttl > 1 ? send(skb, c, source, destination, from, tunnel.tunnel_ttl - 1) :
					       drop(DROP_RETURNED);
	learn(eth->h_source, LEARNED_PEER, source);
	if (here && here->flags & CONTAINER_ELSEWHERE)
		return deliver(here);
	if (!here && tunnel.tunnel_ttl > 1 && (is_group(eth->h_dest) || owner_of(&key) != HERE))
		flood(skb, c, source, from, tunnel.tunnel_ttl - 1);
	return is_forged_vxlan(skb, c) ? drop(DROP_FORGED) : TC_ACT_OK; /* into the bridge */
}

/* The network identifier: short ids of destination and source. */
INLINE __u32 vni_of(struct tunnel *t)
{
	return t->vxlan[4] << 16 | t->vxlan[5] << 8 | t->vxlan[6];
}

/* Take `size` bytes of outer headers off a frame for a container of this host, and deliver it; leave all others be. */
INLINE int strip(struct __sk_buff *skb, struct conf *c, struct tunnel *t, __u32 from, __s32 size, __u16 outer)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	__u32 source = vni_of(t) & 0xfff;
	struct container *here;
	struct ethhdr inner;
	struct mac key;

	if (source == c->our_id)
		return TC_ACT_OK;
	__builtin_memcpy(&inner, &t->inner, sizeof(inner));
	if (inner.h_proto != swap16(ETH_P_IP) && inner.h_proto != swap16(ETH_P_IPV6))
		return TC_ACT_OK;
	if (inner.h_proto != outer)
		flags |= inner.h_proto == swap16(ETH_P_IPV6) ? ADJ_ROOM_DECAP_L3_IPV6 : ADJ_ROOM_DECAP_L3_IPV4;
	key = to_key(inner.h_dest);
	here = map_lookup(&containers, &key);
	if (!here || !(here->flags & CONTAINER_ELSEWHERE))
		return TC_ACT_OK;
	if (skb_adjust_room(skb, -size, BPF_ADJ_ROOM_MAC, flags))
		return TC_ACT_OK;
	if (skb_store_bytes(skb, 0, &inner, sizeof(inner), 0))
		return drop(DROP_NO_TUNNEL);
	learn(inner.h_source, LEARNED_PEER, source);
	count_rx(from, packets_in(skb, 0), skb->len);
	return redirect_peer(here->port, 0);
}

INLINE int is_vxlan(struct tunnel *t, struct conf *c)
{
	return t->udp.dest == c->port && t->vxlan[0] == VXLAN_FLAGS && !t->vxlan[7];
}

/* The next hop of a frame for another peer, if a new outer IP header is all that it takes to pass it on. */
INLINE struct nexthop *onward(struct __sk_buff *skb, struct conf *c, struct tunnel *t, __u32 from, __u32 outer, __u8 ttl,
			      __u16 version)
{
	__u32 destination = vni_of(t) >> 12, source = vni_of(t) & 0xfff;
	struct nexthop *to = map_lookup(&nexthops, &destination);

	if (!to || to->via != VIA_VXLAN || (to->flags & (NH_DIRECT | NH_IPV6)) != (NH_DIRECT | version) ||
	    to->hop == from || source == c->our_id || ttl <= 1 || skb->vlan_present || t->udp.check ||
	    is_special(&t->inner) || packet_length(skb, outer) > to->mtu)
		return 0;
	return to;
}

/* `outer` is the length of all that is in front of the inner Ethernet header, `size` that of the IP header. */
INLINE int pass_on(struct __sk_buff *skb, struct nexthop *to, __u32 from, __u32 outer, void *ip, __u32 size)
{
	__u32 packets = packets_in(skb, outer), bytes = skb->len - outer;

	if (skb_store_bytes(skb, ETH_HLEN, ip, size, 0))
		return drop(DROP_NO_TUNNEL);
	count_rx(from, packets, bytes);
	count_tx(to->hop, packets, bytes);
	return redirect_neigh(to->underlay, 0, 0, 0);
}

INLINE int relay6(struct __sk_buff *skb, struct conf *c, struct outer6 *o, __u32 from)
{
	struct ipv6hdr ip = o->ip;
	struct nexthop *to = onward(skb, c, &o->t, from, sizeof(*o), ip.hop_limit, NH_IPV6);

	if (!to)
		return TC_ACT_OK;
	ip.hop_limit--;
	__builtin_memcpy(&ip.saddr, &to->local6, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, &to->remote6, sizeof(ip.daddr));
	return pass_on(skb, to, from, sizeof(*o), &ip, sizeof(ip));
}

INLINE int relay(struct __sk_buff *skb, struct conf *c, struct outer *o, __u32 from)
{
	struct iphdr ip = o->ip;
	struct nexthop *to = onward(skb, c, &o->t, from, sizeof(*o), ip.ttl, 0);

	if (!to)
		return TC_ACT_OK;
	ip.ttl--;
	ip.saddr = to->local;
	ip.daddr = to->remote;
	ip.check = 0;
	ip.check = ip_checksum(&ip);
	return pass_on(skb, to, from, sizeof(*o), &ip, sizeof(ip));
}

INLINE int from_underlay6(struct __sk_buff *skb, struct conf *c)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct { struct ethhdr eth; struct outer6 o; } __attribute__((packed)) *p = data;
	struct address6 remote, local;
	struct neighbour6 *from;

	if ((void *)(p + 1) > end || p->o.ip.version != 6 || p->o.ip.nexthdr != 17 || !is_vxlan(&p->o.t, c))
		return TC_ACT_OK;
	__builtin_memcpy(&remote, &p->o.ip.saddr, sizeof(remote));
	__builtin_memcpy(&local, &p->o.ip.daddr, sizeof(local));
	from = map_lookup(&neighbours6, &remote);
	if (!from || from->local.words[0] != local.words[0] || from->local.words[1] != local.words[1] ||
	    from->local.words[2] != local.words[2] || from->local.words[3] != local.words[3])
		return TC_ACT_OK;
	if (vni_of(&p->o.t) >> 12 != c->our_id)
		return relay6(skb, c, &p->o, from->id);
	return strip(skb, c, &p->o.t, from->id, sizeof(struct outer6), swap16(ETH_P_IPV6));
}

SECTION("tc") int from_underlay(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct { struct ethhdr eth; struct outer o; } __attribute__((packed)) *p = data;
	struct conf *c = get_conf();
	struct neighbour *from;
	__u32 remote;

	if (!c || (void *)(p + 1) > end)
		return TC_ACT_OK;
	if (p->eth.h_proto != swap16(ETH_P_IP))
		return p->eth.h_proto == swap16(ETH_P_IPV6) ? from_underlay6(skb, c) : TC_ACT_OK;
	if (p->o.ip.version != 4 || p->o.ip.ihl != 5 || p->o.ip.protocol != 17 ||
	    (p->o.ip.frag_off & swap16(0x3fff)) || !is_vxlan(&p->o.t, c))
		return TC_ACT_OK;
	remote = p->o.ip.saddr;
	from = map_lookup(&neighbours, &remote);
	if (!from || from->local != p->o.ip.daddr)
		return TC_ACT_OK;
	if (vni_of(&p->o.t) >> 12 != c->our_id)
		return relay(skb, c, &p->o, from->id);
	return strip(skb, c, &p->o.t, from->id, sizeof(struct outer), swap16(ETH_P_IP));
}

SECTION("tc") int from_tap(struct __sk_buff *skb)
{
	struct conf *c = get_conf();

	return c && is_forged_vxlan(skb, c) ? drop(DROP_FORGED) : TC_ACT_OK;
}

SECTION("tc") int to_tap(struct __sk_buff *skb)
{
	struct ethhdr *eth = eth_of(skb);

	if (!eth)
		return drop(DROP_RUNT);
	if (skb->mark == OURS) {
		skb->mark = 0;
		return TC_ACT_OK;
	}
	if (eth->h_proto == swap16(ETH_P_8021AD) || (skb->vlan_present && skb->vlan_proto == swap16(ETH_P_8021AD)))
		return drop(DROP_TAGGED);
	return TC_ACT_OK;
}

char license_text[] SECTION("license") = "Apache-2.0";
