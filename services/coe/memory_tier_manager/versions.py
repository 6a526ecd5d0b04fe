"""Tracks which bytes an expert's name stands for. Reimporting an expert puts different bytes under the same name.

The core identifies weights by a key: the expert's name for the first weights seen under it, NAME#TAG for any others.
So weights that are leased, loading or being read keep their key, whatever the name stands for by now.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from coe.memory_tier_manager.arena import Facts, Library, Source
from coe.memory_tier_manager.events import Replaced
from coe.memory_tier_manager.looks import Looks
from coe.platform import logs
from coe.platform.errors import CoEError, ExpertNotFound, TierLoadError

_log = logs.get(__name__)
_SEPARATOR = "#"
# Reading thousands of manifests takes a while.
LIST_S = 10.0


def name_of(key: str) -> str:
    """The expert's name; names never contain the separator."""
    return key.partition(_SEPARATOR)[0]


@dataclass(frozen=True, slots=True)
class Version:
    """`gone`: the expert is no longer hosted."""

    key: str
    tag: int
    nbytes: int
    gone: bool = False


class Versions:
    """`on_replaced` is called when a name stands for different bytes than before. `looks`: used to ask the library."""

    def __init__(self, library: Library, on_replaced: Callable[[Replaced], None], looks: Looks | None = None) -> None:
        self._library = library
        self._on_replaced = on_replaced
        self._looks = looks or Looks()
        self._now: dict[str, Version] = {}
        self._tags: dict[str, int] = {}

    def seen(self, expert: str) -> Version | None:
        """The version last seen, if the expert was hosted then."""
        known = self._now.get(expert)
        return known if known is not None and not known.gone else None

    def known(self, expert: str, weights: int) -> Version | None:
        """Like `current`, but None if the expert would first have to be looked up on disk."""
        known = self.seen(expert)
        return known if known is not None and known.tag == weights else None

    async def current(self, expert: str, weights: int = 0) -> Version:
        """`weights`: the tag of the required weights; 0: whichever the expert has.

        Raises ExpertNotFound; TierLoadError if the expert has other weights or its file system is unresponsive;
        CoEError for a damaged bundle.
        """
        known = self.known(expert, weights) or await self._look(expert)
        if weights and known.tag != weights:
            raise TierLoadError(f"{expert} was reimported meanwhile: try again", expert=expert)
        return known

    def last(self, expert: str) -> Version:
        """The version last seen, even if the expert is gone. Raises ExpertNotFound if it was never seen."""
        if expert not in self._now:
            raise ExpertNotFound(f"expert {expert!r} is not hosted here", expert_id=expert)
        return self._now[expert]

    def key(self, expert: str) -> str:
        """The key of the bytes that the expert had when last seen."""
        known = self._now.get(expert)
        return known.key if known is not None else expert

    async def hosted(self) -> dict[str, Version]:
        """All hosted experts; as last seen if the file system is unresponsive."""
        try:
            return await self.learn(await self._looks.ask("listing experts", self._library.experts, patience_s=LIST_S))
        except TierLoadError as error:
            _log.warning("cannot list experts: using those last seen", reason=error.message)
            return {expert: version for expert, version in self._now.items() if not version.gone}

    def all(self) -> list[Version]:
        """All versions last seen."""
        return list(self._now.values())

    def meet(self, hosted: dict[str, Facts]) -> list[str]:
        """Adds experts never seen before. Returns those whose known version differs."""
        others = []
        for expert, facts in hosted.items():
            known = self._now.get(expert)
            if known is None:
                self._is(expert, facts)
            elif known.gone or known.tag != facts.tag:
                others.append(expert)
        return others

    async def learn(self, hosted: dict[str, Facts]) -> dict[str, Version]:
        """The versions of these experts. Since the listing may be old, those that differ are looked up again."""
        await self.look_again(self.meet(hosted))
        return {expert: self._now[expert] for expert in hosted}

    async def follow(self, experts: Iterable[str]) -> None:
        """Looks up those of the experts whose files have changed."""
        kept = list(experts)
        with suppress(TierLoadError):
            await self.look_again(await self._looks.ask("looking for imports", lambda: self._library.changed(kept)))

    async def look_again(self, experts: Iterable[str]) -> None:
        for expert in experts:
            with suppress(CoEError):
                await self._look(expert)

    def open(self, key: str) -> Source:
        """Called in a thread. Raises CoEError; TierLoadError if the expert has different bytes by now."""
        expert = name_of(key)
        source = self._library.open(expert)
        if key in self._tags and source.tag != self._tags[key]:
            source.close()
            raise TierLoadError(f"{expert} was reimported meanwhile: try again", expert=expert)
        return source

    async def _look(self, expert: str) -> Version:
        try:
            facts = await self._looks.ask(f"looking at {expert}", partial(self._library.look, expert))
        except ExpertNotFound:
            known = self._now.get(expert)
            if known is not None and not known.gone:
                self._now[expert] = replace(known, gone=True)
                _log.info("expert was removed", expert=expert)
                self._on_replaced(Replaced(known.key, "", 0))
            raise
        return self._is(expert, facts)

    def _is(self, expert: str, facts: Facts) -> Version:
        known = self._now.get(expert)
        if known is not None and known.tag == facts.tag and not known.gone:
            return known
        first = self._tags.setdefault(expert, facts.tag) == facts.tag
        key = expert if first else f"{expert}{_SEPARATOR}{facts.tag:016x}"
        self._tags[key] = facts.tag
        version = self._now[expert] = Version(key, facts.tag, facts.nbytes)
        if known is not None:
            _log.info("expert was reimported", expert=expert, key=key)
            self._on_replaced(Replaced(known.key, key, facts.nbytes))
        return version
