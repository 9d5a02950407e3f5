"""Who owns which addresses: a range divided among peers, agreed by gossip, handed out locally. Pure state machines."""
