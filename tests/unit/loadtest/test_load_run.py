"""The generator against a system of known behaviour: nothing is omitted, nothing is lost silently."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import loadtest.__main__
from coe._proto import events_pb2, gateway_pb2
from coe.client.events import Completed, Event, Text
from coe.platform.errors import DeadlineExceeded, InvalidPrompt
from loadtest import page
from loadtest.cost import GENERATOR
from loadtest.loadprofile import PROFILES, Phase, Profile, load
from loadtest.recorder import Sample, summarise
from loadtest.report import Result
from loadtest.runner import run
from loadtest.steps import steps
from loadtest.transports import GrpcTransport

PROFILE = Profile(name="test", phases=(Phase(duration_s=0.2, rate=100, arrivals="steady"),))


class Answering:
    """Answers at once; every fifth prompt fails, every seventh gets no terminal event."""

    def __init__(self) -> None:
        self.asked = 0

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        self.asked += 1
        number = self.asked
        if number % 7 == 0:
            raise DeadlineExceeded("no answer")
        result = events_pb2.PromptCompleted(request_id=prompt.request_id)
        if number % 5 == 0:
            result.error.code = "context_exceeded"
        else:
            yield Text("hello", 0)
            result.completion.text = "hello"
            result.usage.completion_tokens = 1
            result.timings.decode_s = 0.25
        yield Completed(result)


async def test_every_prompt_has_a_fate() -> None:
    seen: list[Sample] = []
    samples = await run(PROFILE, Answering(), seen.append)
    summary = summarise(samples)
    assert len(seen) == len(samples) == summary.sent == 20
    assert summary.errors == {"context_exceeded": 4, "deadline_exceeded": 2}
    assert summary.completed == 14
    assert summary.latency_ms["service.decode"]["p50"] == pytest.approx(250, rel=0.01)
    assert "first_text" in summary.latency_ms


async def test_a_stream_without_its_last_event_is_no_answer() -> None:
    class Cut:
        async def Generate(self, request: gateway_pb2.GenerateRequest, **_: object) -> AsyncGenerator[object, None]:
            yield gateway_pb2.GenerateResponse(token=gateway_pb2.GenerateResponse.Token(text="hel"))

    samples = await run(PROFILE, GrpcTransport(Cut()), lambda _: None)  # type: ignore[arg-type]
    assert summarise(samples).errors == {"no terminal event": 20}


async def test_a_stalled_generator_does_not_hide_latency() -> None:
    """What a late start costs counts: from the schedule, not from the sending."""

    class Stalling(Answering):
        async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
            if self.asked == 0:
                # Blocks the loop as a stalled client would: the prompts behind it are sent late.
                stop = asyncio.get_running_loop().time() + 0.15
                while asyncio.get_running_loop().time() < stop:
                    pass
            async for event in super().submit(prompt, timeout_s=timeout_s):
                yield event

    samples = await run(PROFILE, Stalling(), lambda _: None)
    late = [sample for sample in samples if sample.sent_s > 0.05]
    assert len(late) >= 5
    assert all(sample.done_s is not None and sample.done_s >= sample.sent_s for sample in late)


def test_bounds_are_judged() -> None:
    good = Sample(0.0, 0.0, 0.1, 0.2, tokens=1)
    slow = Sample(0.1, 0.0, None, 50.0)
    assert Result(PROFILE, "kafka", summarise([good] * 20), {}).complaints == []
    complaints = Result(PROFILE, "kafka", summarise([good, slow, Sample(0.1, 0, error="lost")]), {}).complaints
    assert len(complaints) == 2
    assert "33.3%" in complaints[0]
    assert "fell behind" in complaints[1]


def test_a_generator_that_is_the_limit_says_so() -> None:
    prompt, late = Sample(0.0, 0.001, 0.1, 0.2), Sample(0.0, 1.0, 1.1, 1.2)
    assert Result(PROFILE, "kafka", summarise([prompt] * 20), {}).note == ""
    assert "sent late" in Result(PROFILE, "kafka", summarise([late] * 20), {}).note
    stopped = Sample(0.0, 5.0, 60.0, 90.0)
    assert "sent late" in Result(PROFILE, "kafka", summarise([stopped] * 20), {}).note


@pytest.mark.parametrize(
    ("generator_ms", "stack_ms", "limit"),
    [
        (0.9, 0.3, "one core"),
        (0.4, 1.6, "2 cores. CPU: stack 80%, generator 20%"),
        (0.2, 0.3, "waited for"),
    ],
)
def test_what_is_used_up_at_saturation(generator_ms: float, stack_ms: float, limit: str) -> None:
    cost = {GENERATOR: {"cpu_ms_per_prompt": generator_ms}, "router": {"cpu_ms_per_prompt": stack_ms}}
    result = Result(PROFILE, "kafka", summarise([Sample(0.1, 0, 0.1, 0.2)]), cost)
    assert limit in result.limit(1000.0, 2)


def test_the_limit_of_a_stack_elsewhere_is_not_known() -> None:
    assert Result(PROFILE, "kafka", summarise([Sample(0.1, 0, 0.1, 0.2)]), {}).limit(1000.0, 2) == ""


def test_the_page_has_plots_and_escapes() -> None:
    samples = [Sample(0.0, 0.0, 0.1, 0.2, expert="<b>", found_in="hbm"), Sample(1.0, 0.0, error="lost")]
    text = page.render(Result(PROFILE, "kafka", summarise(samples), {}), samples)
    assert "<svg" in text
    assert "&lt;b&gt;" in text


def test_a_rate_at_which_nothing_was_answered_has_no_latency() -> None:
    profile = Profile(name="test", phases=(Phase(duration_s=1, rate=1), Phase(duration_s=1, rate=2)))
    samples = [Sample(0.1, 0.0, 0.1, 0.2), Sample(1.1, 0.0, error="lost", phase=1)]
    result = Result(profile, "kafka", summarise(samples), {}, steps=tuple(steps(profile, samples)))
    text = page.render(result, samples)
    assert text.count("<td>-</td>") >= 4
    assert "<td>0</td>" in text


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_can_be_read(path: Path) -> None:
    profile = load(path.stem)
    assert profile.about


def test_a_wrong_profile_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("phases: [{duration_s: 1, rate: 0}]")
    with pytest.raises(InvalidPrompt, match=r"phases\.0\.rate"):
        load(str(path))
    with pytest.raises(InvalidPrompt, match=r"available profiles: .*smoke"):
        load("none-such")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a mapping of settings"),
        (b"[1]", "expected a mapping of settings"),
        (b"phases: [", "while parsing"),
        (b"\xff\xfe", "utf-8"),
        (b"phases: [{rate: 1}]", "phases.0.duration_s: Field required"),
        (b"phases: [{rate: 1, duration_s: 1}]\nspeed: 1", "speed: Extra inputs"),
        (b"phases: [{rate: .inf, duration_s: 1}]", "phases.0.rate: .*finite"),
        (b"phases: [{rate: 1, duration_s: 1, measured: false}]", "phases: at least one must be measured"),
        (
            b"phases: [{rate: 1, duration_s: 1}, {rate: 1, duration_s: 1, measured: false}, {rate: 1, duration_s: 1}]",
            "phases: an unmeasured phase stands between",
        ),
        (b"phases: [{rate: 1, duration_s: 1}]\nprompts: {expert: a, experts: [b]}", "prompts: set either"),
        (b"phases: [{rate: 1, duration_s: 1}]\nprompts: {max_tokens: 4294967296}", "prompts.max_tokens: "),
        (b"phases: [{rate: 1, duration_s: 1}]\nname: a/b", "name: "),
    ],
)
def test_a_bad_profile_is_one_line_that_names_file_and_field(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidPrompt, match=message) as refused:
        load(str(path))
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message


def test_a_folder_is_no_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").mkdir()
    with pytest.raises(InvalidPrompt, match=r"mine\.yaml: Is a directory"):
        load(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--report", "/dev/null/page.html"], "--report /dev/null/page.html: "),
        (["--transport", "pigeon"], "'pigeon' is not one of"),
        (["--report", "-", "--json"], "can't both write to stdout"),
        (["--save-baseline"], "--save-baseline: /nowhere is not writable"),
    ],
)
def test_a_slip_is_told_before_the_load(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(profile: Profile, transport: str, api_key: str) -> None:
        pytest.fail("a load was started")

    monkeypatch.setattr(loadtest.__main__, "_run", never)
    monkeypatch.setattr(loadtest.baseline, "BASELINES", Path("/nowhere"))
    with pytest.raises(SystemExit) as ended:
        loadtest.__main__.app(["run", *arguments])
    assert ended.value.code in (1, 2)
    assert said in capsys.readouterr().err


def test_http_can_t_give_a_prompt_its_category(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("phases: [{duration_s: 1, rate: 1}]\nprompts: {category: code}")
    with pytest.raises(SystemExit):
        loadtest.__main__.app(["run", "--profile", str(path), "--transport", "http"])
    assert "sets a category, which the HTTP API does not support" in capsys.readouterr().err


def test_the_report_alone_is_on_stdout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [Sample(0.0, 0.0, 0.1, 0.2)]

    async def ran(profile: Profile, transport: str, api_key: str) -> loadtest.__main__.Run:
        result = Result(PROFILE, transport, summarise(samples), {})
        return loadtest.__main__.Run(result, samples, [], loadtest.baseline.speed())

    monkeypatch.setattr(loadtest.__main__, "_run", ran)
    loadtest.__main__.app(["run", "--report", "-"], standalone_mode=False)
    shown = capsys.readouterr()
    assert shown.out.startswith("<!doctype html>")
    assert "1 of 1 prompts completed" in shown.err
