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
from coe.router.metrics import auroc
from coe.router.novelty import FEATURES
from coe.router.training import noise
from coe.router.training.augment import augmented, typing_errors
from coe.router.training.build import Trained, build
from coe.router.training.corpus import gather
from coe.router.training.data import LabelledPrompt, distinct, load
from coe.router.training.fit import FitSettings, balance
from coe.router.training.folds import domain_rounds, source_rounds
from coe.router.training.gate import add_category, read_folder
from coe.router.training.injections import fit_phrases, injections, ways
from coe.router.training.novelty import out_of_source
from coe.router.training.others import load_others
from coe.router.training.seeds import SOURCE, seeds

FAST = FitSettings(k=5, iterations=5)
KIND = artifacts.EncoderKind("words-1", 36, 0, True, 5)
OTHERS = [LabelledPrompt(f"a tulip and a rose in bed {number}", "botany", "flowers") for number in range(12)]


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

    def vocabulary(self) -> list[str]:
        return [*self.words, "please", "tell", "about", "number", "what"]


def prompts() -> list[LabelledPrompt]:
    topics = {
        "coding": ("python", "loop", "sum"),
        "general": ("poem", "sea", "love"),
        "law": ("court", "contract", "judge"),
    }
    frames = {"a": "please tell me about the {} number {}", "b": "{} and {} what is it"}
    english = [
        LabelledPrompt(frame.format(topic, number), domain, f"{domain} {source}", "en")
        for domain, words in topics.items()
        for topic in words
        for source, frame in frames.items()
        for number in range(6)
    ]
    german = [LabelledPrompt(f"{word}: was ist das denn nun?", "law", "law a", "de") for word in topics["law"]]
    return [*english, *german]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cast("Encoder", WordEncoder())


@pytest.fixture(scope="module")
def trained(encoder: Encoder) -> Trained:
    return build(prompts(), [], encoder, kind=KIND, others=OTHERS, seed=3, settings=FAST)


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
        (b"", "holds no prompts"),
        (b'{"prompt": "a"}\nnonsense', "prompts.jsonl, line 2: Expecting value"),
        (b'{"prompt": "a"}\n\n\xff', "line 3: 'utf-8' codec"),
        (b"[]", "line 1: a JSON object is wanted"),
        (b"null", "line 1: a JSON object is wanted"),
        (b'{"domain": "law"}', "line 1: the field 'prompt' must be a string"),
        (b'{"prompt": null, "domain": "law"}', "line 1: the field 'prompt' must be a string"),
        (b'{"prompt": "a", "domain": ["law"]}', "line 1: the field 'domain' must be a string"),
    ],
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


def test_too_few_labels_are_an_error_of_the_data(encoder: Encoder) -> None:
    with pytest.raises(ArtifactError, match="too few prompts to train on: 0"):
        build([LabelledPrompt("a", "", "s")], seeds()[:40], encoder, kind=KIND, settings=FAST)


def test_prompts_of_which_nobody_said_the_source_are_enough(encoder: Encoder) -> None:
    mine = [LabelledPrompt(prompt.text, prompt.domain, "mine", "en") for prompt in prompts()]
    trained = build(mine, [], encoder, kind=KIND, others=OTHERS, seed=3, settings=FAST)
    summary = trained.figures.summary
    assert summary["seen_accuracy"] == pytest.approx(1.0)
    assert not [name for name in summary if name.startswith("unseen")]
    # Noise is learnt from and judged all the same.
    assert {"auroc_noise", "auroc_left_out_domain", "auroc_other_domain"} <= set(summary)
    (asked,) = Classifier(trained.artifact, encoder).classify(["please tell me about the loop number 9"])
    assert (asked.category, asked.fallback_reason) == ("coding", "")


def test_a_handful_of_prompts_is_an_error_of_the_data(encoder: Encoder) -> None:
    with pytest.raises(ArtifactError, match="12 with a domain, where some fifty are the least"):
        build(prompts()[:12], seeds()[:40], encoder, kind=KIND, settings=FAST)


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


TEXTS = noise.Texts(
    ["Write a loop in Python. It counts to ten.", "What is a tort? Give an example of one."],
    {"ja": ["日本の首都はどこですか。東京です。"], "es": ["¿Qué hora es? Son las tres de la tarde."]},
)


@pytest.mark.parametrize("way", sorted(noise.WAYS))
def test_outliers_are_made_in_every_way(way: str) -> None:
    made = noise.make(way, TEXTS, 5, np.random.default_rng(0))
    assert len(made) == 5
    assert all(text.strip() and text not in TEXTS.plain for text in made)
    assert made == noise.make(way, TEXTS, 5, np.random.default_rng(0))


def test_switching_takes_two_languages() -> None:
    for way in ("switching/words", "switching/phrases", "switching/sentences"):
        for text in noise.make(way, TEXTS, 10, np.random.default_rng(0)):
            written = [
                any(part in text for part in parts)
                for parts in (("日本", "首都"), ("Qué", "hora"), ("Pyth", "tort", "Write", "What"))
            ]
            assert sum(written) == 2, text
    assert noise.make("switching/words", noise.Texts(TEXTS.plain, {}), 3, np.random.default_rng(0)) == []


def test_phrases_of_a_way_that_was_not_learnt_are_still_told_from_ordinary_prompts() -> None:
    rng = np.random.default_rng(0)
    ordinary = [prompt.text for prompt in seeds()]
    some = [ordinary[row] for row in rng.permutation(len(ordinary))]
    found = fit_phrases([way for way in ways() if way != "override"], some[:-200], rng)
    strange = [found.features(text)[1] for text in injections("override", 200, rng)]
    assert auroc(np.array([found.features(text)[1] for text in some[-200:]]), np.array(strange)) > 0.9


def test_features_come_from_what_did_not_know_the_source() -> None:
    word = "flibbertigibbets"
    texts = [f"please tell me of the {word} number {number}" for number in range(8)]
    given = [LabelledPrompt(text, "law", "one source") for text in texts]
    given += [LabelledPrompt(f"please tell me the number of {name}", "law", f"source {name}") for name in "abcdefgh"]
    held = np.arange(len(given)) == 0
    vocabulary = ["please", "tell", "number"]
    found = out_of_source(given, ~held, held, vocabulary, 0)[:, FEATURES.index("unseen English words")]
    # The word is known for the held prompt of the source, and for no other one of it.
    assert found[0] == 0
    assert (found[1:8] > 0).all()


def test_held_prompts_stand_for_the_collected_ones() -> None:
    corpus = gather(prompts(), [], OTHERS, np.random.default_rng(0))
    assert corpus.categories == ("coding", "general", "law")
    assert corpus.stands_for[corpus.held].sum() == pytest.approx(len(prompts()))
    assert (corpus.held <= corpus.seen).all()
    assert (corpus.held <= corpus.written).all()
    assert {corpus.prompts[row].domain for row in np.flatnonzero(corpus.targets == 3)} == {"", "botany"}


def test_a_source_is_left_out_whole_when_others_can_stand_in() -> None:
    given = [
        LabelledPrompt("a", "math", "x"),
        LabelledPrompt("b", "math", "y"),
        LabelledPrompt("c", "law", "y"),
        LabelledPrompt("d", "law", "z"),
        LabelledPrompt("e", "poems", "z"),
        LabelledPrompt("f", "math", SOURCE),
    ]
    strangers = ["noise 1", "noise 2", "noise 3", "y"]
    rounds = source_rounds(given, strangers)
    held = [[[prompt.text for prompt in given if fold.holds(prompt)] for fold in one.folds] for one in rounds]
    # Poems come from z alone; two sources of a domain are never left out at once.
    assert held == [[["b", "c"]], [["d"], ["a"]]]
    assert all(fold.hides(prompt) == fold.holds(prompt) for one in rounds for fold in one.folds for prompt in given)
    assert sorted(name for one in rounds for name in one.strangers) == strangers
    assert "y" in rounds[0].strangers


def test_a_category_of_many_languages_is_left_out_by_language() -> None:
    given = [LabelledPrompt(code, "multilingual", "x", code) for code in ("bn", "de", "es", "fr")]
    folds = [fold for one in source_rounds(given, []) for fold in one.folds]
    assert [fold.language for fold in folds] == ["de", "fr"]


def test_a_domain_is_left_out_with_its_seeds_which_are_not_tested_on() -> None:
    collected, seed = LabelledPrompt("a", "law", "x"), LabelledPrompt("b", "law", SOURCE)
    rounds = domain_rounds(["coding", "law", "math"])
    assert [[sorted(fold.domains) for fold in one.folds] for one in rounds] == [[["coding"], ["law"]], [["math"]]]
    fold = rounds[0].folds[1]
    assert (fold.holds(collected), fold.holds(seed)) == (True, False)
    assert (fold.hides(collected), fold.hides(seed)) == (True, True)
    assert not fold.hides(LabelledPrompt("c", "math", "x"))


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
    figures = trained.artifact.figures
    assert figures["seen_accuracy"] == 1.0
    assert {name.removesuffix(" en").removesuffix(" de") for name in trained.figures.unseen} == {
        f"{domain}: {domain} {source}" for domain in ("coding", "general", "law") for source in "ab"
    }
    groups = {f"noise: {way}" for way in noise.WAYS} | {"left-out domain: coding", "left-out domain: law"}
    assert set(trained.figures.aurocs) == groups | {"other domain: flowers"}
    assert {"auroc_noise", "seen_auroc_noise", "auroc_left_out_domain", "auroc_other_domain", "unseen_ece"} <= set(
        figures
    )
    version = artifacts.save(tmp_path / "one", trained.artifact)
    again = build(prompts(), [], encoder, kind=KIND, others=OTHERS, seed=3, settings=FAST)
    assert artifacts.save(tmp_path / "two", again.artifact) == version
    classifier = Classifier(artifacts.load(tmp_path / "one"), encoder)
    judged = evaluate(classifier, [*prompts(), LabelledPrompt("tulip rose", "botany", "s")])
    assert list(judged) == ["n", "accuracy", "coverage", "accuracy_covered", "ece", "ood_auroc", "by_domain"]
    assert judged["n"] == len(prompts())
    assert judged["accuracy"] == 1.0
    assert judged["ood_auroc"] == 1.0


def test_figures_of_nothing_are_null(trained: Trained, encoder: Encoder) -> None:
    unknown = [LabelledPrompt("tulip rose", "botany", "s"), LabelledPrompt("asdf jkl", "", "s")]
    judged = evaluate(Classifier(trained.artifact, encoder), unknown)
    nothing = dict.fromkeys(["accuracy", "coverage", "accuracy_covered", "ece", "ood_auroc"])
    assert judged == {"n": 0, **nothing, "by_domain": {}}


def test_a_category_is_added_without_training_the_others(trained: Trained, encoder: Encoder) -> None:
    base = trained.artifact
    texts = [f"how do I grow a {flower} in my garden number {n}" for flower in ("tulip", "rose") for n in range(10)]
    extended = add_category(base, "gardening", texts, encoder)
    before, after = Classifier(base, encoder), Classifier(extended, encoder)
    asked = ["a rose in the garden", "a python loop", "the judge and the contract"]
    assert [decision.distribution[0].category for decision in after.classify(asked)] == ["gardening", "coding", "law"]
    assert [decision.distribution[0].category for decision in before.classify(asked)][1:] == ["coding", "law"]
    with pytest.raises(ArtifactError, match="already knows"):
        add_category(extended, "law", texts, encoder)
    with pytest.raises(ArtifactError, match="at least"):
        add_category(base, "gardening", texts[:3], encoder)
    for name in ("gardening/roses", " ", "a\ud800"):
        with pytest.raises(ArtifactError, match="is no name for a category"):
            add_category(base, name, texts, encoder)


def test_a_category_that_was_added_is_replaced(trained: Trained, encoder: Encoder) -> None:
    def asking(*flowers: str) -> list[str]:
        return [f"how do I grow a {flower} in my garden number {n}" for flower in flowers for n in range(10)]

    roses = add_category(trained.artifact, "roses", asking("rose"), encoder)
    poems = [f"a poem of love by the sea, number {n}" for n in range(10)]
    both = add_category(roses, "love poems", poems, encoder)
    again = add_category(both, "roses", asking("rose", "tulip"), encoder)
    assert again.model.categories == ("coding", "general", "law", "love poems", "roses")
    assert again.model.neighbours.labels.max() == 4
    assert (again.model.neighbours.labels == 4).sum() == 20
    fresh = add_category(
        add_category(trained.artifact, "love poems", poems, encoder), "roses", asking("rose", "tulip"), encoder
    )
    np.testing.assert_array_equal(again.model.neighbours.labels, fresh.model.neighbours.labels)
    # The gate of the poems was fitted beside the former roses, so it differs a little.
    np.testing.assert_allclose(again.model.gate_weight[1], fresh.model.gate_weight[1], atol=1e-5)


def test_a_folder_of_prompts(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no \*\.txt"):
        read_folder(tmp_path)
    (tmp_path / "a.TXT").write_text("\ufeffone\n\ntwo\n one \n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"prompt": "three"}\n')
    (tmp_path / "readme.md").write_text("not a prompt")
    assert read_folder(tmp_path) == ["one", "two", "three"]
    with pytest.raises(ArtifactError, match="no folder"):
        read_folder(tmp_path / "none")
