"""Frames between hosts by the kernel alone: VXLAN, as Weave's fast datapath has it (docs/protocol/fastdp.md)."""
