"""Benchmarks: plait and its rivals in the same lab and the same run. Method: docs/benchmarks.md."""
