"""How many statements a question joins."""

import pytest

from coe.mapper import chain
from coe.mapper.chain import Chain, chain_of

FAMILY = "Facts:\n* Ann is Bob's parent.\n* Bob is Cid's parent.\n* Ann is Dora's parent.\n* Eve is Fay's parent.\n"


@pytest.mark.parametrize(
    ("question", "chain"),
    [
        ("What is Ann's relationship to Cid?", Chain(2, 0, 0, True, False)),
        ("What is Cid's relationship to Ann?", Chain(0, 2, 0, False, True)),
        ("What is Bob's relationship to Dora?", Chain(1, 1, 1, False, False)),
        ("What is Dora's relationship to Cid?", Chain(2, 1, 1, False, False)),
        ("What is Ann's relationship to Eve?", Chain()),
        ("What is Ann's relationship to Zoe?", Chain()),
        ("Tell me about Ann and Cid.", Chain()),
    ],
)
def test_the_shortest_way_between_the_two_that_are_asked_about(question: str, chain: Chain) -> None:
    assert chain_of(f"{FAMILY}{question}\n1. Yes.\n2. No.") == chain


def test_prose_and_other_alphabets_have_chains_too() -> None:
    assert chain_of("Ömer sold it to Zoë. Zoë gave it to Jan. Did Jan know Ömer?") == Chain(0, 2, 0, False, True)


@pytest.mark.parametrize("text", ["", "?", "A?" * 9000, "Ab Cd.\n" * 4000 + "Ab Cd?", "日本語?"])
def test_any_text_has_a_chain(text: str) -> None:
    assert len(chain_of(text).figures()) == 5


def test_the_number_of_questions_that_are_followed_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = []
    shortest = chain._shortest

    def counted(links: dict[str, list[tuple[str, str]]], start: str, end: str) -> Chain | None:
        followed.append((start, end))
        return shortest(links, start, end)

    monkeypatch.setattr(chain, "_shortest", counted)
    assert chain_of(FAMILY + "What is Ann's relationship to Cid?\n" * 1000) == Chain(2, 0, 0, True, False)
    assert len(followed) == chain.MAX_QUESTIONS
