"""Giving an interface to a container or a namespace, and taking it back."""
