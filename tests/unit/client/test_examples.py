"""Programs on a page are those of docs/examples, which the end-to-end tests run."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["ask.py", "ask_with_client.py"])
def test_the_page_shows_the_program_that_is_run(name: str) -> None:
    _, _, program = (DOCS / "examples" / name).read_text().partition('"""\n\n')
    assert f"```python\n{program}```" in (DOCS / "life-of-a-prompt.md").read_text()
