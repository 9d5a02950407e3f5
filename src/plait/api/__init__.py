"""HTTP over a unix socket and loopback: status, report, verbs."""
