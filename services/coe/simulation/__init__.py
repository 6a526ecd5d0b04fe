"""Discrete-event simulator of nodes that serve many experts from little memory, with the policy code of production."""
