"""Turns a category into an expert, by a table that is solved once so that quality is highest under a budget."""
