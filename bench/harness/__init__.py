"""Measures Motorcade against its bars: see docs/BENCHMARKS.md."""
