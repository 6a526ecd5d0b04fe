"""Varied strings for tokenizers: drawn with a seed from fragments of many kinds, so that every run sees the same."""

import random
import unicodedata

FRAGMENTS = (
    "Hello", " world", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "don't", "I'LL", "we've", "it's", "'", "''s", " 's",
    "1", "42", " 3.14159", "1,000,000", "2026-11-24", "0x1F", "\u0661\u0662", "\u00bd", "\u2167", "x\u00b2",
    "def f(x):\n    return x ** 2", "#include <vector>", "{\"key\": [1, 2]}", "<div class='a'>", "SELECT * FROM t;",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0", "\u4e2d\u6587", "\ud55c\uad6d\uc5b4",
    "\u041f\u0440\u0438\u0432\u0435\u0442",
    "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "na\u00efve caf\u00e9", "e\u0301", "\u00df", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u00a0", "\u3000", "\u200b", "\u2028", "\x00", "\x7f", "\ufeff", "\ufffd", "...", "!?", " --", "\u20ac", "\u2211",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "|>", "averyveryverylongwordwithoutanyspaces" * 3,
)  # fmt: skip
SCRIPTS = ((0x20, 0x7F), (0xA1, 0x250), (0x370, 0x530), (0x5D0, 0x700), (0x900, 0xE00), (0x3040, 0x3100),
           (0x4E00, 0x9FFF), (0x1F300, 0x1F650))  # fmt: skip


def varied_strings(count: int, seed: int = 7) -> list[str]:
    """`count` different strings; the first are the fragments themselves."""
    draw = random.Random(seed)
    strings = dict.fromkeys(FRAGMENTS)
    while len(strings) < count:
        strings[_drawn(draw)] = None
    return list(strings)[:count]


def _drawn(draw: random.Random) -> str:
    parts = []
    for _ in range(draw.randint(1, 12)):
        if draw.random() < 0.6:
            parts.append(draw.choice(FRAGMENTS))
        else:
            low, high = draw.choice(SCRIPTS)
            chars = (chr(draw.randrange(low, high)) for _ in range(draw.randint(1, 8)))
            parts.append("".join(char for char in chars if unicodedata.category(char) != "Cn"))
    return draw.choice(("", " ")).join(parts)
