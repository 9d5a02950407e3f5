"""Ranges of peers that are gone go to exactly one heir: leases, votes, elections (docs/protocol/reclaim.md)."""
