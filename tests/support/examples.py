"""How long state machines are explored."""

import os

import pytest


def examples(usual: int) -> int:
    """COE_TEST_EXAMPLES: for a long search, so many where fewer are usual."""
    return max(usual, int(os.environ.get("COE_TEST_EXAMPLES", "0")))


# A time limit that strikes in the middle of an example is taken for a failure of that example. Played again it goes on
# where it "failed", and the report is of a flaky strategy: so the limit grows with the search, and outlasts a pause.
search_timeout = pytest.mark.timeout(900 + 0.1 * examples(0))
