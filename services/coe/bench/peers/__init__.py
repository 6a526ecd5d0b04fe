"""The peers: other runtimes that a user could choose.

An interpreter that has the peer installed runs `serve.py NAME ARGUMENTS` in its own process, so that peers are never
dependencies. It answers each line of JSON with another. `NAME_subject.py` drives the runtime NAME.
"""
