"""The result of a run, as tables for people and one object for programs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.cost import GENERATOR
from loadtest.growth import COLUMNS, Growth, too_much
from loadtest.loadprofile import Profile
from loadtest.recorder import Summary
from loadtest.steps import Step, saturation

# A generator that sends later than this distorts the measurement, however long the answers take.
_LATE_MS = 1000.0
# A core is exhausted above this utilisation.
_USED_UP = 0.85
# Of the generator's machine, which a local stack shares.
VERSION, CORES = version("composition-of-experts"), cpu_count() or 1


@dataclass(frozen=True)
class Result:
    """`complaints` is empty if the run met its profile's bounds."""

    profile: Profile
    transport: str
    summary: Summary
    cost: dict[str, dict[str, float]]
    # Over all prompts that ended while the cost was measured, including warm-up and failed ones.
    tokens_per_prompt: float = 0.0
    steps: tuple[Step, ...] = ()
    # Figures that exceed their baseline's limit.
    regressions: tuple[str, ...] = ()
    growth: tuple[Growth, ...] = ()
    # Services that exited during the run.
    ended: tuple[str, ...] = ()
    # When the first prompt was due.
    began: datetime | None = None

    @property
    def stack_cpu_ms(self) -> dict[str, float]:
        """CPU milliseconds per prompt of each process except the generator; empty if the stack is elsewhere."""
        return {name: use["cpu_ms_per_prompt"] for name, use in self.cost.items() if name != GENERATOR}

    @property
    def cpu_ms_per_prompt(self) -> float | None:
        """Over all processes of the stack; None if it is elsewhere."""
        return sum(self.stack_cpu_ms.values()) if self.stack_cpu_ms else None

    @property
    def cpu_ms_per_token(self) -> float | None:
        """Over all processes of the stack; None if it is elsewhere or generated no tokens."""
        whole = self.cpu_ms_per_prompt
        return whole / self.tokens_per_prompt if whole is not None and self.tokens_per_prompt else None

    @property
    def saturated_at(self) -> float | None:
        """In prompts per second; None: the system kept up throughout."""
        return saturation(self.steps)

    def limit(self, saturated_at: float, cores: int) -> str:
        """States what is exhausted at this rate on this many cores, estimated from the CPU per prompt of the whole run.

        Empty if the stack is elsewhere or answered nothing. The generator has one thread, so it uses at most one core.
        """
        whole = self.cpu_ms_per_prompt
        if whole is None or GENERATOR not in self.cost or not saturated_at:
            return ""
        generator = saturated_at * self.cost[GENERATOR]["cpu_ms_per_prompt"] / 1000
        stack = saturated_at * whole / 1000
        if generator > _USED_UP:
            what = "the generator, which uses at most one core"
        elif generator + stack > _USED_UP * cores:
            what = f"the machine's {cores} cores"
        else:
            what = "not the CPU, but something else that the prompts waited for"
        share = generator / (generator + stack)
        return f"Limit at saturation: {what}. CPU: stack {1 - share:.0%}, generator {share:.0%}."

    @property
    def complaints(self) -> list[str]:
        bounds, summary = self.profile.bounds, self.summary
        if not summary.sent:
            return ["no prompt was scheduled in a measured phase: rate times duration is too small"]
        found = [*self.regressions, *too_much(self.growth, bounds)]
        found += [f"{service} exited during the run: see its log" for service in self.ended]
        errors = sum(summary.errors.values()) / summary.sent
        if errors > bounds.most_errors:
            found.append(f"{errors:.1%} of the prompts failed: {summary.errors}")
        ratio = summary.throughput * self.profile.measured_s / summary.sent
        if ratio < bounds.least_throughput_ratio:
            found.append(f"throughput is {ratio:.0%} of the offered rate: the system fell behind")
        return found

    @property
    def note(self) -> str:
        """A caveat about the figures; usually empty."""
        latencies = self.summary.latency_ms
        sent = latencies.get("send_delay", {}).get("p99", 0.0)
        # If nothing was answered, there is no latency to compare with.
        late = min(latencies["total"]["p99"] / 2, _LATE_MS) if "total" in latencies else _LATE_MS
        if sent < late:
            return ""
        return f"the generator sent late (p99 {sent:.0f} ms): it, or the machine it shares with the stack, is the limit"

    def to_json(self) -> dict[str, object]:
        return {
            "profile": self.profile.name,
            "transport": self.transport,
            "began": self.began.astimezone(UTC).isoformat(timespec="seconds") if self.began else None,
            "version": VERSION,
            "cores": CORES,
            **asdict(self.summary),
            "cost": self.cost,
            "cpu_ms_per_prompt": self.cpu_ms_per_prompt,
            "cpu_ms_per_token": self.cpu_ms_per_token,
            "steps": [asdict(step) for step in self.steps],
            "saturated_at": self.saturated_at,
            "growth": [asdict(one) for one in self.growth],
            "note": self.note,
            "complaints": self.complaints,
        }


def print_result(console: Console, result: Result) -> None:
    summary = result.summary
    console.print(
        f"[bold]{result.profile.name}[/] over {result.transport}: {summary.completed} of {summary.sent} prompts "
        f"completed, {summary.throughput:.1f} prompts/s, {summary.tokens_per_s:.1f} tokens/s"
    )
    if len(result.steps) > 1:
        reached = result.saturated_at
        console.print("saturation: " + ("not reached" if reached is None else f"{reached:.1f} prompts/s"))
    for table in _tables(result):
        console.print(table)
    for name, counts in (("experts", summary.experts), ("weights found in", summary.found_in)):
        if counts:
            console.print(f"{name}: " + ", ".join(f"{key or '-'} {count}" for key, count in sorted(counts.items())))
    for code, count in sorted(summary.errors.items()):
        console.print(f"error {code}: {count}, first message: {escape(summary.reasons[code] or '-')}")
    if result.note:
        console.print(f"[yellow]{result.note}[/]")
    for complaint in result.complaints:
        console.print(f"[red]{complaint}[/]")


def _tables(result: Result) -> Iterator[Table]:
    latencies = result.summary.latency_ms.items()
    columns = result.summary.latency_columns
    yield _table(
        ["milliseconds"], columns, ([name, *(f"{values[c]:.1f}" for c in columns)] for name, values in latencies)
    )
    if result.cost:
        uses = sorted(result.cost.items())
        columns = ["CPU ms per prompt", "memory MiB", "growth MiB"]
        yield _table(["process"], columns, ([name, *(f"{value:.2f}" for value in use.values())] for name, use in uses))
    if result.growth:
        yield _table(COLUMNS[:2], COLUMNS[2:], (one.row for one in result.growth))


def _table(names: Sequence[str], figures: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*names, title_justify="left")
    for figure in figures:
        table.add_column(figure, justify="right")
    for row in rows:
        table.add_row(*row)
    return table
