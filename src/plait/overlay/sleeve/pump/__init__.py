"""The process that moves frames between the tap and UDP; supervisor.py runs it (`python -m` with this package)."""
