"""What a pump counts: the keys of `ipc.Stats.counters`, in words for people."""

from plait.overlay.forwarding import DROP_REASONS

CORE_COUNTERS = {
    "captured": "frames that containers of this host sent to others",
    "injected": "frames given to containers of this host",
    "sent": "datagrams sent",
    "received": "datagrams received",
    "answered": "too big frames answered with ICMP",
    "fragmented": "IPv4 packets cut because they did not fit",
    "unknown_hop": "datagrams that name no neighbour we have a connection with",
    "forged": "encrypted datagrams whose seal is not the neighbour's",
    "replayed": "encrypted datagrams received before, or too old to tell",
    "malformed": "datagrams whose content breaks off",
    "special_flood": "overlay messages of one neighbour that came faster than it would send them",
    "no_link": "frames for a neighbour without a connection",
    "no_address": "frames for a neighbour whose UDP address is not known yet",
    "broadcast_too_big": "broadcast copies that may not be fragmented and do not fit",
    "too_big_unanswered": "too big frames that nobody may be told about, or too many at once",
    "too_big_here": "frames of other hosts that do not fit this host's overlay MTU and cannot be cut",
    "unfit": "frames that fit no datagram",
    "refused_too_big": "datagrams that the kernel refused as larger than the path MTU",
    "queue_full": "datagrams lost because an interface's queue or the send buffer was full",
    "send_failed": "datagrams the kernel refused for another reason",
}

COUNTERS = CORE_COUNTERS | {
    **DROP_REASONS,
    "macs": "MAC addresses known now",
    "macs_announced": "MAC addresses that other nodes say are theirs, where the kernel carries no frames",
    "mac_moves": "MAC addresses that changed their host",
    "macs_evicted": "MAC addresses forgotten because the table was full",
    "tap_refused": "frames the tap did not take",
    "receive_errors": "failed attempts to receive",
    "receive_buffer_full": "datagrams lost because the pump did not read fast enough",
    "messages_lost": "messages to a node that did not read",
}

LOSSES = (
    *("unknown_hop", "forged", "replayed", "malformed", "special_flood", "no_link", "no_address"),
    *("broadcast_too_big", "too_big_unanswered", "too_big_here", "unfit", "refused_too_big", "queue_full"),
    *("send_failed", "tap_refused", "receive_buffer_full", *DROP_REASONS),
)
"""Those that count frames or datagrams that went no further."""
