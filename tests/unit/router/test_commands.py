"""`coe train router` and `coe eval router` as a user runs them, with a small encoder."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from coe.cli import eval as eval_command
from coe.cli import router as command
from coe.cli import train as train_command
from coe.encoder import EncoderSpec
from coe.platform.errors import CoEError
from coe.router import artifact as artifacts
from coe.router import classifier
from coe.router.training import seeds
from unit.router import support
from unit.router.small_training import WordEncoder, prompts

RUN = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty COE_HOME and cache, and an encoder of a few words in place of the packaged one."""
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (command, classifier):
        monkeypatch.setattr(module, "open_encoder", lambda spec: WordEncoder())
    monkeypatch.setattr(seeds, "seeds", list)
    return tmp_path


@pytest.mark.timeout(300)
def test_a_folder_of_prompts_becomes_a_category(home: Path) -> None:
    data = home / "prompts.jsonl"
    rows = [{"prompt": p.text, "domain": p.domain, "source": p.source, "language": p.language} for p in prompts()]
    data.write_text("\n".join(map(json.dumps, rows)))
    trained = RUN.invoke(train_command.app, ["router", "--data", str(data), "--json"])
    assert trained.exit_code == 0, trained.output
    base = classifier.open_classifier(artifacts.trained(home))

    folder = home / "gardening"
    folder.mkdir()
    flowers = [f"how do I grow a {flower} in my garden number {n}" for flower in ("tulip", "rose") for n in range(10)]
    (folder / "mine.txt").write_text("\n".join(flowers))
    added = RUN.invoke(train_command.app, ["router", "--add-category", f"gardening={folder}", "--json"])
    assert added.exit_code == 0, added.output
    extended = classifier.open_classifier(artifacts.trained(home))
    assert extended.version != base.version
    (asked,) = extended.classify(["a rose and a tulip in the garden"])
    assert (asked.category, asked.fallback_reason) == ("gardening", "")
    again = [decision.distribution[0].category for decision in extended.classify([p.text for p in prompts()])]
    assert again == [decision.distribution[0].category for decision in base.classify([p.text for p in prompts()])]


def test_no_category_that_was_added_is_lost(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run begins with the artifact in use, whatever is in the folder that it writes to."""
    artifacts.save(artifacts.trained(home), support.artifact(WordEncoder.fingerprint))
    for name in ("roses", "poems"):
        (home / name).mkdir()
        (home / name / "mine.txt").write_text("".join(f"a prompt of {name} number {n}\n" for n in range(10)))

    def add(name: str) -> Result:
        options = ["--add-category", f"{name}={home / name}", "--out", str(home / "out")]
        return RUN.invoke(train_command.app, ["router", *options])

    for _ in range(2):
        assert add("roses").exit_code == 0
    written = home / "out" / artifacts.FILE_NAME
    refused = add("poems")
    assert isinstance(refused.exception, CoEError)
    assert refused.exception.message.startswith(f"{written} has roses, which {artifacts.trained(home)} lacks: ")
    monkeypatch.setenv("COE_ROUTER_ARTIFACT", str(written))
    assert add("poems").exit_code == 0
    assert artifacts.load(written).model.categories[-2:] == ("roses", "poems")


def test_without_prompts_the_figures_of_the_validation_are_shown(home: Path) -> None:
    artifacts.save(artifacts.trained(home), support.artifact(WordEncoder.fingerprint))
    shown = RUN.invoke(eval_command.app, ["router", "--json"])
    assert json.loads(shown.stdout) == {"seen_accuracy": 0.98}


def test_the_artifact_is_the_one_that_the_service_has(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "elsewhere" / "mine.safetensors"
    artifacts.save(path, support.artifact(WordEncoder.fingerprint))
    monkeypatch.setenv("COE_ROUTER_ARTIFACT", str(path))
    assert command.serving() == path
    shown = RUN.invoke(eval_command.app, ["router", "--json"])
    assert json.loads(shown.stdout) == {"seen_accuracy": 0.98}


def test_another_encoder_is_named_by_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.save(artifacts.trained(home), support.artifact(WordEncoder.fingerprint))
    folders: list[Path | None] = []

    def opened(spec: EncoderSpec) -> WordEncoder:
        folders.append(spec.folder)
        return WordEncoder()

    monkeypatch.setattr(classifier, "open_encoder", opened)
    monkeypatch.setenv("COE_ROUTER_ENCODER", str(home / "encoder"))
    assert RUN.invoke(eval_command.app, ["router"]).exit_code == 0
    assert folders == [home / "encoder"]


def test_domains_that_are_no_category_are_named(home: Path) -> None:
    """A label that is spelled otherwise would only make the figures worse, in silence."""
    artifacts.save(artifacts.trained(home), support.artifact(WordEncoder.fingerprint))
    known = support.artifact(WordEncoder.fingerprint).model.categories[0]
    (home / "test.jsonl").write_text(
        "".join(json.dumps({"prompt": "a", "domain": name}) + "\n" for name in (known, "Maths"))
    )
    shown = RUN.invoke(eval_command.app, ["router", "--test", str(home / "test.jsonl")])
    assert shown.exit_code == 0, shown.output
    assert shown.stderr == "Domains without a category in the router, counted as out-of-domain: Maths\n"
    assert f"  {known} " in shown.stdout


def test_people_get_figures_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    part = {"n": 8, "accuracy": 2 / 3}
    command.show({"n": 298, "accuracy": 295 / 298, "by_domain": {"coding": part}}, as_json=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["n 298", "accuracy 0.9899", "by_domain", "coding n 8, accuracy 0.6667"]
