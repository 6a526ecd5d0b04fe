"""Runtimes that a user would pick instead.

`serve.py NAME ARGUMENTS` is run by an interpreter that has the peer installed, in a process of its own: peers are never
dependencies. It answers each JSON line with one. `NAME_subject.py` drives the runtime NAME.
"""
