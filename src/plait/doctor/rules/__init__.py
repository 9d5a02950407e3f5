"""What a host's firewall does with a packet, as far as that can be said without sending one.

`save_text` reads what iptables-save prints, `nft_json` what nft lists. Both give `model`'s chains; `walk` follows them.
Of IPv4 only: what drops IPv6 between hosts is not looked at.
"""
