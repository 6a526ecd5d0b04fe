"""The `coe` command."""

import os

# What gRPC's core would write on stderr is said in a line of ours. Read when gRPC is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
