"""Shipped test tools: `lab` (virtual hosts in namespaces) and `sim` (virtual clock and network)."""
