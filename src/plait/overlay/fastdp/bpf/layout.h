/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs and the node (../tables.py) share: keys and values of the maps. Only types of the uapi headers,
 * so neither BTF of the target's kernel nor relocations by it are needed. */
#ifndef PLAIT_LAYOUT_H
#define PLAIT_LAYOUT_H
#include <linux/types.h>

#define SHORT_IDS 4096    /* 12 bits of the VXLAN network identifier each for source and destination */
#define MAX_FANOUT 200    /* neighbours of one broadcast tree: Weave's and our limit of connections */
#define MAX_CONTAINERS 16384
#define MAX_LEARNED 65536
#define MAX_NEIGHBOURS 4096
#define EVENT_BYTES 60    /* of a heartbeat that the node is told: all of plait's (../wire.py) */
#define LEAST_EVENT_BYTES 24 /* Ethernet header, connection UID, length: the least that Weave takes */

/* How frames for a peer leave. */
enum { VIA_NOTHING = 0, VIA_VXLAN = 1, VIA_PUMP = 2 };

/* nexthop.flags */
enum {
	NH_DIRECT = 1,        /* write the outer headers here; else the kernel's VXLAN device does */
	NH_IPV6 = 4,          /* remote6 and local6 count, not remote and local */
	NH_KERNEL_ANSWERS = 2 /* the MTU is the underlay interface's, so the VXLAN device answers oversize frames itself */
};

/* container.flags */
enum {
	CONTAINER_ELSEWHERE = 1 /* the other end of its port is in another network namespace: bpf_redirect_peer works */
};

/* learned.kind */
enum { LEARNED_HERE = 1, LEARNED_PEER = 2 };

enum drop {
	DROP_RUNT, DROP_NO_ROUTE, DROP_FOREIGN, DROP_FORGED, DROP_ECHO, DROP_RETURNED, DROP_STP, DROP_TAGGED,
	DROP_NO_TUNNEL, DROP_LOCAL, DROP_EVENTS_FULL, DROP_KINDS
};

struct conf {             /* conf[0] */
	__u32 our_id;         /* short id, SHORT_IDS while we have none */
	__u32 vxlan;          /* interface numbers */
	__u32 tap;
	__u16 port;           /* UDP port of VXLAN, network order */
	__u16 flags;
};

struct mac {
	__u8 octets[6];
	__u16 zero;
};

struct container {        /* containers[mac]: written by the node alone */
	__u32 port;           /* interface number of the host's end; 0 for the bridge itself */
	__u32 flags;
};

struct learned {          /* learned[mac]: written by the programs */
	__u64 seen;           /* bpf_ktime_get_ns of the last refresh */
	__u16 peer;           /* short id, of LEARNED_PEER */
	__u16 kind;
	__u32 zero;
};

struct address6 {         /* IPv6, network order */
	__u32 words[4];
};

struct nexthop {          /* nexthops[short id of the final destination] */
	__u32 remote;         /* IPv4 addresses in network order */
	__u32 local;
	__u32 underlay;       /* interface number, for NH_DIRECT */
	__u16 via;
	__u16 flags;
	__u16 hop;            /* short id of the neighbour that frames go to */
	__u16 mtu;            /* of inner IP packets */
	struct address6 remote6, local6;
};

struct fan {              /* trees[short id of the source]: neighbours that get its broadcasts from us */
	__u32 count;
	__u16 hops[MAX_FANOUT];
	__u32 has_pump;       /* and others that the pump serves */
};

struct neighbour {        /* neighbours[IPv4 address in network order] */
	__u32 local;          /* the address of ours that it sends to, network order */
	__u16 id;
	__u16 zero;
};

struct neighbour6 {       /* neighbours6[IPv6 address]: the same, in a map of its own so that IPv4 costs what it did */
	struct address6 local;
	__u16 id;
	__u16 zero;
};

struct peer_stats {       /* stats[short id of the neighbour] */
	__u64 tx_packets, tx_bytes, rx_packets, rx_bytes;
};

struct event {            /* to the node, about a frame with the special prefix */
	__u16 source, destination; /* short ids */
	struct address6 remote; /* an IPv4 address as ::ffff:a.b.c.d */
	__u32 length;         /* of the frame */
	__u8 head[EVENT_BYTES]; /* zeros where the frame is shorter */
};

#endif
