"""The `coe` command."""

import os
import sys

# A stream that is closed (`>&-`) is /dev/null: whatever is opened next would get its number, and Python has None there.
for _name, _mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
    if getattr(sys, _name) is None:
        setattr(sys, _name, os.fdopen(os.open(os.devnull, os.O_RDWR), _mode))

# What gRPC's core would write on stderr is said in a line of ours. Read when gRPC is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
