"""Benchmarks of the native path. Figures are ratios of medians over several rounds of one run."""
