"""Chooses what validation leaves out: whole sources and domains, because a random split overstates accuracy. Pure.

Prompts of one source share templates. A source is therefore left out as a whole, with all its domains, if each of them
has another source. Otherwise its domains that have another source are left out one by one, and a category whose only
source is in many languages is split by language. The rounds that leave out sources also leave out collections of other
domains and kinds of synthetic outliers, so that nothing is scored by a model that saw it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from coe.router.training.data import LabelledPrompt
from coe.router.training.seeds import SOURCE as SEEDS

# A category with a single source is split by language from this many languages on. To save time, only every second
# language is left out.
MANY_LANGUAGES = 4
# Fewest rounds that leave out outliers: in each, the outliers of the other rounds show what belongs to no category.
FEWEST_ROUNDS = 2
# Domains that one round leaves out together.
DOMAINS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Fold:
    """Prompts of some domains, restricted to one source and one language where given."""

    domains: frozenset[str]
    source: str = ""
    language: str = ""

    def holds(self, prompt: LabelledPrompt) -> bool:
        """Whether the prompt is tested in this fold. Seeds never are."""
        return (
            prompt.domain in self.domains
            and prompt.source != SEEDS
            and self.source in ("", prompt.source)
            and self.language in ("", prompt.language)
        )

    def hides(self, prompt: LabelledPrompt) -> bool:
        """Whether the fold's model must not learn from the prompt; for a left-out domain, that includes its seeds."""
        return self.holds(prompt) or (not self.source and prompt.domain in self.domains)


@dataclass(frozen=True, slots=True)
class Round:
    """Folds of different domains, and sources of outliers (`strangers`), that one model leaves out together."""

    folds: tuple[Fold, ...]
    strangers: frozenset[str] = frozenset()


def source_rounds(prompts: Sequence[LabelledPrompt], strangers: Sequence[str]) -> list[Round]:
    """Rounds that leave out each source that others can stand in for; `strangers` are spread over them."""
    rounds: list[list[Fold]] = []
    for fold in _source_folds(prompts):
        free = (group for group in rounds if not any(fold.domains & other.domains for other in group))
        group = next(free, None)
        if group is None:
            group = []
            rounds.append(group)
        group.append(fold)
    rounds += [[] for _ in range(FEWEST_ROUNDS - len(rounds) if strangers else 0)]
    hidden: list[set[str]] = [{fold.source for fold in group} & set(strangers) for group in rounds]
    left = sorted(set(strangers) - set().union(*hidden))
    for number, name in enumerate(left if rounds else []):
        hidden[number % len(rounds)].add(name)
    return [Round(tuple(group), frozenset(names)) for group, names in zip(rounds, hidden, strict=True)]


def domain_rounds(domains: Sequence[str]) -> list[Round]:
    """Rounds that leave out each domain, a few at a time, to measure how well unknown domains are detected."""
    return [
        Round(tuple(Fold(frozenset({domain})) for domain in domains[start : start + DOMAINS_AT_ONCE]))
        for start in range(0, len(domains), DOMAINS_AT_ONCE)
    ]


def _source_folds(prompts: Sequence[LabelledPrompt]) -> list[Fold]:
    sources: dict[str, set[str]] = defaultdict(set)
    domains: dict[str, set[str]] = defaultdict(set)
    languages: dict[tuple[str, str], set[str]] = defaultdict(set)
    for prompt in prompts:
        if prompt.source != SEEDS:
            sources[prompt.domain].add(prompt.source)
            domains[prompt.source].add(prompt.domain)
            languages[prompt.domain, prompt.source].add(prompt.language)
    found: list[Fold] = []
    for source, covered in sorted(domains.items(), key=lambda item: (-len(item[1]), item[0])):
        if all(len(sources[domain]) > 1 for domain in covered):
            found.append(Fold(frozenset(covered), source))
            continue
        for domain in sorted(covered):
            spoken = sorted(languages[domain, source])
            if len(sources[domain]) > 1:
                found.append(Fold(frozenset({domain}), source))
            elif len(spoken) >= MANY_LANGUAGES:
                found += [Fold(frozenset({domain}), source, code) for code in spoken[1::2]]
    return found
