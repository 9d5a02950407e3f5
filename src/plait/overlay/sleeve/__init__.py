"""The userspace UDP overlay: codec, crypto and session are pure; the pump moves the frames."""
