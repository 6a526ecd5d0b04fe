"""What validation leaves out: whole sources and whole domains, because a random split overstates accuracy. Pure.

Prompts of one source share templates. So a source is left out whole, with all domains it has, when each of them has
another one; else one domain of it; and of a category with one source in many languages, a language. Beside sources
each round leaves out collections of other domains and kinds of made outliers: nothing is judged by what saw it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from coe.router.training.data import LabelledPrompt
from coe.router.training.seeds import SOURCE as SEEDS

# A category of one source in so many languages is split by language; every other one is left out, to save time.
MANY_LANGUAGES = 4
# Outliers are left out in so many rounds at least: those of the others show what belongs to no category.
FEWEST_ROUNDS = 2
# Domains that a round leaves out at once.
DOMAINS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Fold:
    """Prompts of these domains, of one source and language where given; without a source, of all of them."""

    domains: frozenset[str]
    source: str = ""
    language: str = ""

    def holds(self, prompt: LabelledPrompt) -> bool:
        """Whether the prompt is scored by this fold. Seeds are never tested on."""
        return (
            prompt.domain in self.domains
            and prompt.source != SEEDS
            and self.source in ("", prompt.source)
            and self.language in ("", prompt.language)
        )

    def hides(self, prompt: LabelledPrompt) -> bool:
        """Whether the fold's model must not learn from the prompt: of a left-out domain neither from its seeds."""
        return self.holds(prompt) or (not self.source and prompt.domain in self.domains)


@dataclass(frozen=True, slots=True)
class Round:
    """Folds of different domains that one model can leave out at once, and the sources of outliers that it does."""

    folds: tuple[Fold, ...]
    strangers: frozenset[str] = frozenset()


def source_rounds(prompts: Sequence[LabelledPrompt], strangers: Sequence[str]) -> list[Round]:
    """Each source that others can stand in for, and the sources of `strangers` spread over the rounds."""
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
    """Each domain, a few at once: the router does not know them, and their prompts are to be told from others."""
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
