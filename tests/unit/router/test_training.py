"""A small run of the whole training, and data that is too little for one."""

from pathlib import Path

import pytest

from coe.encoder import Encoder
from coe.platform.errors import ArtifactError
from coe.router import artifact as artifacts
from coe.router.classifier import Classifier
from coe.router.evaluate import evaluate
from coe.router.training import noise
from coe.router.training.build import Trained, build
from coe.router.training.data import LabelledPrompt
from coe.router.training.seeds import seeds
from unit.router.small_training import FAST, KIND, OTHERS, prompts


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
