"""Docker Engine: an adapter; no room knows it."""
