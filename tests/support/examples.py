"""How long state machines are explored."""

import os


def examples(usual: int) -> int:
    """COE_TEST_EXAMPLES: for a long search, so many where fewer are usual."""
    return max(usual, int(os.environ.get("COE_TEST_EXAMPLES", "0")))
