"""Runtimes that a user would pick instead.

Each is a script of its own, run by an interpreter that has the peer installed (`--peer-python`): peers are never
dependencies. A script reads one JSON object a line and answers with one.
"""
