"""A run as tables for people and as one object for programs."""

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

# A generator that is later than this disturbs what it measures, however long the answers take.
_LATE_MS = 1000.0
# A share of a core above which nothing is left to speak of.
_USED_UP = 0.85
# Of the generator and its machine, which are the stack's too unless that is elsewhere.
VERSION, CORES = version("composition-of-experts"), cpu_count() or 1


@dataclass(frozen=True)
class Result:
    """`complaints` is empty when the run kept its profile's bounds."""

    profile: Profile
    transport: str
    summary: Summary
    cost: dict[str, dict[str, float]]
    # Of all prompts that ended while the cost was counted, the warm-up's and failed ones too.
    tokens_per_prompt: float = 0.0
    steps: tuple[Step, ...] = ()
    # Figures that cost more than their baseline allows.
    regressions: tuple[str, ...] = ()
    growth: tuple[Growth, ...] = ()
    # Services that ended while they were looked at.
    ended: tuple[str, ...] = ()
    # When the first prompt was due.
    began: datetime | None = None

    @property
    def stack_cpu_ms(self) -> dict[str, float]:
        """CPU milliseconds a prompt of each process but the generator; empty when the stack is elsewhere."""
        return {name: use["cpu_ms_per_prompt"] for name, use in self.cost.items() if name != GENERATOR}

    @property
    def cpu_ms_per_prompt(self) -> float | None:
        """Of all processes of the stack; None when it is elsewhere."""
        return sum(self.stack_cpu_ms.values()) if self.stack_cpu_ms else None

    @property
    def cpu_ms_per_token(self) -> float | None:
        """Of all processes of the stack; None when it is elsewhere, or made no tokens."""
        whole = self.cpu_ms_per_prompt
        return whole / self.tokens_per_prompt if whole is not None and self.tokens_per_prompt else None

    @property
    def saturated_at(self) -> float | None:
        """Prompts a second; None: the system kept up throughout."""
        return saturation(self.steps)

    def limit(self, saturated_at: float, cores: int) -> str:
        """What is used up at that many prompts a second on so many cores, by the CPU a prompt of the whole run.

        Empty when the stack is elsewhere or answered nothing. The generator is one thread, so it has one core at most.
        """
        whole = self.cpu_ms_per_prompt
        if whole is None or GENERATOR not in self.cost or not saturated_at:
            return ""
        generator = saturated_at * self.cost[GENERATOR]["cpu_ms_per_prompt"] / 1000
        stack = saturated_at * whole / 1000
        if generator > _USED_UP:
            what = "the generator, which has one core at most"
        elif generator + stack > _USED_UP * cores:
            what = f"the machine's {cores} cores"
        else:
            what = "no processor: what the prompts waited for"
        share = generator / (generator + stack)
        return f"Limit at saturation: {what}. Of the CPU the stack took {1 - share:.0%}, the generator {share:.0%}."

    @property
    def complaints(self) -> list[str]:
        bounds, summary = self.profile.bounds, self.summary
        if not summary.sent:
            return ["no prompt was due in a measured phase: rate times duration is too small"]
        found = [*self.regressions, *too_much(self.growth, bounds)]
        found += [f"{service} ended during the run: its log says why" for service in self.ended]
        errors = sum(summary.errors.values()) / summary.sent
        if errors > bounds.most_errors:
            found.append(f"{errors:.1%} of the prompts failed: {summary.errors}")
        ratio = summary.throughput * self.profile.measured_s / summary.sent
        if ratio < bounds.least_throughput_ratio:
            found.append(f"throughput is {ratio:.0%} of what was offered: the system fell behind")
        return found

    @property
    def note(self) -> str:
        """What a reader must know of the figures; empty mostly."""
        latencies = self.summary.latency_ms
        sent = latencies.get("send_delay", {}).get("p99", 0.0)
        # Where nothing was answered no share of it can be told.
        late = min(latencies["total"]["p99"] / 2, _LATE_MS) if "total" in latencies else _LATE_MS
        if sent < late:
            return ""
        return (
            f"the generator itself sent late (p99 {sent:.0f} ms): it and not the system is the limit, or they share it"
        )

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
        console.print(f"error {code}: {count}, the first: {escape(summary.reasons[code] or '-')}")
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
        columns = ["CPU ms a prompt", "memory MiB", "grown MiB"]
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
