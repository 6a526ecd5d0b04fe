"""Evaluates a router and a mapping offline, on outcomes of models on prompts."""
