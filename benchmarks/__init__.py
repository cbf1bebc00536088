"""Benchmarks of the kernel: `make bench`."""
