"""Discrete-event simulator of nodes that serve many experts from little memory, running the production policy code."""
