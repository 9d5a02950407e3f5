"""Moving frames between hosts."""
