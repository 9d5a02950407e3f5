"""The kernel of this machine: links, addresses, namespaces, nftables, sysctl, ethtool. Nothing else touches them."""
