"""Measurements of the native path. Figures are ratios taken in one run, medians of several rounds."""
