"""The tokenizer of a Hugging Face folder: tokenizer.json, and the settings in tokenizer_config.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from coe.experts.gguf_tokenizer import END_OF_GENERATION, in_order
from coe.experts.source import TokenizerSpec
from coe.experts.tokenizer_file import load_tokenizer
from coe.platform.errors import ArtifactError

MAX_TEMPLATE_BYTES = 1 << 20
MAX_TOKENIZER_BYTES = 128 << 20
# If not a control token, as in Gemma's vocabulary, this is HTML's strikethrough and does not end an answer.
HTML_TAG = "</s>"


def read_hf_tokenizer(folder: Path) -> TokenizerSpec:
    """Raises ArtifactError when there is no readable tokenizer.json."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        how = "try to create one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        raise ArtifactError(f"{folder} has no tokenizer.json: {how}")
    try:
        if path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise ArtifactError(f"{path} is too large")
        tokenizer, _ = load_tokenizer(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"can't read {path}: {error}") from error
    settings = _optional(folder / "tokenizer_config.json")
    bos = _token_id(tokenizer, settings.get("bos_token"))
    return TokenizerSpec(
        json=tokenizer.to_str(),
        chat_template=_template(folder, settings),
        bos_id=bos,
        add_bos=bos is not None and tokenizer.encode("a").ids[:1] == [bos],
        eos_ids=_end_ids(folder, tokenizer, settings),
    )


def _end_ids(folder: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> tuple[int, ...]:
    named = (_optional(folder / name).get("eos_token_id") for name in ("generation_config.json", "config.json"))
    declared = next((one for one in named if one is not None), None)
    tokens = set(tokenizer.get_vocab().values())
    found = {one for one in (declared if isinstance(declared, list) else [declared]) if isinstance(one, int)} & tokens
    added = tokenizer.get_added_tokens_decoder()
    ends = {index: token for index, token in added.items() if token.content in END_OF_GENERATION}
    found |= {index for index, token in ends.items() if token.special or token.content != HTML_TAG}
    return in_order(found, _token_id(tokenizer, settings.get("eos_token")))


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    beside = folder / "chat_template.jinja"
    if beside.is_file() and beside.stat().st_size <= MAX_TEMPLATE_BYTES:
        try:
            return beside.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"can't read {beside}: {error}") from error
    # For a while, transformers wrote the template of vision models to a separate file.
    template = settings.get("chat_template") or _optional(folder / "chat_template.json").get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default", "")
    return template if isinstance(template, str) else ""


def _token_id(tokenizer: Tokenizer, token: Any) -> int | None:
    content = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(content) if isinstance(content, str) else None


def _optional(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file is missing."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"can't read {path}: {error}") from error
    return document if isinstance(document, dict) else {}
