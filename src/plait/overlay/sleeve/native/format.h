/* Sizes and values of datagrams (docs/protocol/sleeve2.md), virtio-net headers and packets. */

#ifndef PLAIT_FORMAT_H
#define PLAIT_FORMAT_H

enum {
    VNET = 10,
    ETHERNET = 14,
    MIN_RAW = VNET + ETHERNET,
    VLAN = 4,
    IPV4 = 20,
    IPV6 = 40,
    TCP_MIN = 20,
    UDP = 8,
    TCP_CHECKSUM = 16,
    UDP_CHECKSUM = 6,
    TCP_PROTOCOL = 6,
    UDP_PROTOCOL = 17,
    NEEDS_CSUM = 1,
    GSO_TCPV4 = 1,
    GSO_TCPV6 = 4,
    GSO_UDP_L4 = 5,
    GSO_ECN = 0x80,
    FIN_PSH = 0x09,
    CWR = 0x80,
    CLEAR = 16, /* the clear header without names of a relayed frame */
    SEQUENCE = 8,
    FIELDS = 3,
    TAG = 16,
    MAX_BLOB = 255 - TAG,
    MAX_CLEAR = 28,
    MAX_SUPER = 0xffff, /* no frame of a tap is longer */
    LAST = 0x80,
    KIND_RECORDS = 1,
    KIND_PAYLOAD = 2,
    KIND_BLOB = 5,
    NONCE = 12
};

#endif
