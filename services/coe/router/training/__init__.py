"""Trains a router artifact from labelled prompts, for `coe train router`."""
