"""Parts of the training: data, seeds, variations, folds, weights, an added category, and a small run of it all."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from coe.encoder import Encoder
from coe.platform.errors import ArtifactError
from coe.router import artifact as artifacts
from coe.router.classifier import Classifier
from coe.router.evaluate import evaluate
from coe.router.training import noise
from coe.router.training.augment import augmented, typing_errors
from coe.router.training.build import Trained, build
from coe.router.training.data import LabelledPrompt, distinct, load
from coe.router.training.fit import FitSettings, balance
from coe.router.training.gate import add_category, read_folder
from coe.router.training.seeds import SOURCE, seeds
from coe.router.training.validate import folds

FAST = FitSettings(k=5, iterations=5)


class WordEncoder:
    """Embeds a text by which of a few words it has: enough to tell small categories apart."""

    name = "words"
    fingerprint = "words-1"
    max_tokens, tail_tokens, dimensions = 36, 0, 16
    words = ("python", "loop", "sum", "poem", "sea", "love", "court", "contract", "judge", "tulip", "rose", "garden")

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array(
            [[0.01, 0.01, 0.01, 0.01, *(float(word in text.lower()) for word in self.words)] for text in texts]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def prompts() -> list[LabelledPrompt]:
    topics = {
        "coding": ("python", "loop", "sum"),
        "general": ("poem", "sea", "love"),
        "law": ("court", "contract", "judge"),
    }
    frames = {"a": "please tell me about the {} number {}", "b": "{} and {} what is it"}
    return [
        LabelledPrompt(frame.format(topic, number), domain, f"{domain} {source}", "en")
        for domain, words in topics.items()
        for topic in words
        for source, frame in frames.items()
        for number in range(6)
    ]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cast("Encoder", WordEncoder())


@pytest.fixture(scope="module")
def trained(encoder: Encoder) -> Trained:
    return build(prompts(), [], encoder, int8=True, seed=3, settings=FAST)


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
    ("content", "message"), [("", "no prompts"), ('{"prompt": "a"}\nnonsense', "line 2"), ("[]", "line 1")]
)
def test_a_bad_file_is_named_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=message):
        load(path)


def test_seeds_fill_every_frame() -> None:
    found = seeds()
    assert {seed.source for seed in found} == {SOURCE}
    assert not [seed.text for seed in found if "{}" in seed.text]
    assert {"coding", "general", "law", "math", "medical", "finance", "japanese", "tool-use"} <= {
        seed.domain for seed in found
    }


def test_variations_are_reproducible_and_keep_the_label() -> None:
    prompt = LabelledPrompt("Write a loop in Python that sums a list.", "coding", "s")
    made = [augmented(prompt, np.random.default_rng(seed)) for seed in range(20)]
    assert {variation.domain for variation in made} == {"coding"}
    assert len({variation.text for variation in made}) > 8
    assert made == [augmented(prompt, np.random.default_rng(seed)) for seed in range(20)]


def test_typing_errors_leave_digits_and_signs() -> None:
    made = typing_errors("12 + 34 = x1", 1.0, np.random.default_rng(0))
    assert made.startswith("12 + 34 = ")


@pytest.mark.parametrize("kind", sorted(noise.KINDS))
def test_outliers_are_made_of_every_kind(kind: str) -> None:
    texts = ["Write a loop in Python.", "日本の首都はどこですか", "¿Qué hora es?"]
    made = noise.make(kind, texts, 5, np.random.default_rng(0))
    assert len(made) == 5
    assert all(text.strip() for text in made)
    assert made == noise.make(kind, texts, 5, np.random.default_rng(0))


def test_folds_leave_out_whole_sources_and_never_seeds() -> None:
    given = [
        LabelledPrompt("a", "math", "x", "en"),
        LabelledPrompt("b", "math", "y", "en"),
        LabelledPrompt("c", "law", "z", "en"),
        LabelledPrompt("d", "math", SOURCE, "en"),
    ]
    found = folds(given)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "math: x": [True, False, False, False],
        "math: y": [False, True, False, False],
    }


def test_categories_weigh_the_same_and_sources_by_their_root() -> None:
    given = (
        [LabelledPrompt("", "a", "big")] * 16 + [LabelledPrompt("", "a", "small")] * 4 + [LabelledPrompt("", "b", "x")]
    )
    weight = balance(np.array([0] * 20 + [1]), given, seed_weight=1.0)
    assert weight.mean() == pytest.approx(1)
    assert weight[:20].sum() == pytest.approx(weight[20])
    assert weight[:16].sum() == pytest.approx(2 * weight[16:20].sum())


@pytest.mark.timeout(300)
def test_training_end_to_end(trained: Trained, encoder: Encoder, tmp_path: Path) -> None:
    assert trained.artifact.figures["seen_accuracy"] == 1.0
    assert set(trained.unseen) == {f"{d}: {d} {s}" for d in ("coding", "general", "law") for s in "ab"}
    assert set(trained.outliers) == set(noise.KINDS)
    version = artifacts.save(tmp_path / "one", trained.artifact)
    again = build(prompts(), [], encoder, int8=True, seed=3, settings=FAST)
    assert artifacts.save(tmp_path / "two", again.artifact) == version
    classifier = Classifier(artifacts.load(tmp_path / "one"), encoder)
    figures = evaluate(classifier, [*prompts(), LabelledPrompt("tulip rose", "botany", "s")])
    assert list(figures) == ["n", "accuracy", "coverage", "accuracy_covered", "ece", "ood_auroc", "by_domain"]
    assert figures["n"] == len(prompts())
    assert figures["accuracy"] == 1.0


def test_a_category_is_added_without_training_the_others(trained: Trained, encoder: Encoder) -> None:
    base = trained.artifact
    texts = [f"how do I grow a {flower} in my garden number {n}" for flower in ("tulip", "rose") for n in range(10)]
    extended = add_category(base, "gardening", texts, encoder)
    before, after = Classifier(base, encoder), Classifier(extended, encoder)
    asked = ["a rose in the garden", "a python loop", "the judge and the contract"]
    assert [decision.distribution[0].category for decision in after.classify(asked)] == ["gardening", "coding", "law"]
    assert [decision.distribution[0].category for decision in before.classify(asked)][1:] == ["coding", "law"]
    with pytest.raises(ArtifactError, match="already knows"):
        add_category(extended, "gardening", texts, encoder)
    with pytest.raises(ArtifactError, match="at least"):
        add_category(base, "gardening", texts[:3], encoder)


def test_a_folder_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n one \n")
    (tmp_path / "b.jsonl").write_text('{"prompt": "three"}\n')
    (tmp_path / "readme.md").write_text("not a prompt")
    assert read_folder(tmp_path) == ["one", "two", "three"]
    with pytest.raises(ArtifactError, match="no folder"):
        read_folder(tmp_path / "none")
