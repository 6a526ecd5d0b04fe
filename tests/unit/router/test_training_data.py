"""What is trained on: files, seeds, collections of others, and which prompts stand for them."""

import json
from pathlib import Path

import numpy as np
import pytest

from coe.platform.errors import ArtifactError
from coe.router.training.corpus import gather
from coe.router.training.data import distinct, load
from coe.router.training.gate import read_folder
from coe.router.training.others import load_others
from coe.router.training.seeds import SOURCE, seeds
from unit.router.small_training import OTHERS, prompts


def test_rows_become_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a", "domain": "law", "source": "s"}, {"prompt": "b", "domain": "arena-hard"}, {"prompt": "a"}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    read = load(path)
    assert [(prompt.text, prompt.domain, prompt.source) for prompt in read] == [
        ("a", "law", "s"),
        ("b", "", "prompts"),
        ("a", "", "prompts"),
    ]
    assert [prompt.text for prompt in distinct(read)] == ["a", "b"]
    assert load(path, unlabelled=frozenset())[1].domain == "arena-hard"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no prompts"),
        (b'{"prompt": "a"}\nnonsense', "prompts.jsonl, line 2: Expecting value"),
        (b'{"prompt": "a"}\n\n\xff', "line 3: 'utf-8' codec"),
        (b"[]", "line 1: a JSON object is wanted"),
        (b"null", "line 1: a JSON object is wanted"),
        (b"[" * 100_000, "line 1: .*recursion"),
        (b'{"domain": "law"}', "line 1: the field 'prompt' must be a string"),
        (b'{"prompt": null, "domain": "law"}', "line 1: the field 'prompt' must be a string"),
        (b'{"prompt": "a", "domain": ["law"]}', "line 1: the field 'domain' must be a string"),
    ],
    ids=range(9),
)
def test_a_bad_file_is_named_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        load(path)


def test_what_is_judged_needs_a_domain_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "domain": "law"}\n{"prompt": "b"}\n')
    assert load(path)[1].domain == ""
    with pytest.raises(ArtifactError, match="line 2: the field 'domain'"):
        load(path, every_domain=True)


def test_a_line_ends_with_a_line_feed_only(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a\u2028b", "dataset": "d", "category": "law"}\n', encoding="utf-8")
    assert [prompt.text for prompt in load(path)] == ["a\u2028b"]
    assert [prompt.text for prompt in load_others([path])] == ["a\u2028b"]


def test_seeds_fill_every_frame() -> None:
    found = seeds()
    assert {seed.source for seed in found} == {SOURCE}
    assert not [seed.text for seed in found if "{}" in seed.text]
    assert {"coding", "general", "law", "math", "medical", "finance", "japanese", "tool-use"} <= {
        seed.domain for seed in found
    }


def test_held_prompts_stand_for_the_collected_ones() -> None:
    corpus = gather(prompts(), [], OTHERS, np.random.default_rng(0))
    assert corpus.categories == ("coding", "general", "law")
    assert corpus.stands_for[corpus.held].sum() == pytest.approx(len(prompts()))
    assert (corpus.held <= corpus.seen).all()
    assert (corpus.held <= corpus.written).all()
    assert {corpus.prompts[row].domain for row in np.flatnonzero(corpus.targets == 3)} == {"", "botany"}


def test_outcome_rows_become_prompts_of_other_collections(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    rows = [
        {"prompt": "a", "dataset": "exams", "category": "computer science"},
        {"prompt": "b", "dataset": "exams", "category": "law/contracts"},
        {"prompt": "c", "dataset": "zeroeval-gsm8k", "category": "math"},
        {"prompt": "d", "dataset": "mgsm", "category": "math-multilingual"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [(prompt.text, prompt.domain, prompt.source) for prompt in load_others([path])] == [
        ("a", "coding", "exams"),
        ("b", "law", "exams"),
        ("c", "math", "openai/grade-school-math"),
    ]
    path.write_text('{"prompt": "a"}')
    with pytest.raises(ArtifactError, match="line 1"):
        load_others([path])
    with pytest.raises(ArtifactError, match="can't read"):
        load_others([tmp_path / "none"])


def test_a_folder_of_prompts(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no \*\.txt"):
        read_folder(tmp_path)
    (tmp_path / "a.TXT").write_text("\ufeffone\n\ntwo\n one \n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"prompt": "three"}\n')
    (tmp_path / "readme.md").write_text("not a prompt")
    assert read_folder(tmp_path) == ["one", "two", "three"]
    with pytest.raises(ArtifactError, match="not a folder"):
        read_folder(tmp_path / "none")
