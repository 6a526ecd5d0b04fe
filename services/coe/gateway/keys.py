"""Authenticates callers by API key. Keys are listed per tenant in a YAML file that is reloaded when it changes."""

import asyncio
import hashlib
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

from coe.platform.errors import ArtifactError, Unauthenticated
from coe.platform.renewed import Renewed

_LOOK_EVERY_S = 2.0
_SCHEME = "bearer"


class _Once(yaml.SafeLoader):
    """Rejects duplicate names. SafeLoader keeps the last of two lines for a tenant, which would drop a key silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [str(name.value) for name, _ in node.value]
        if len(set(names)) < len(names):
            raise yaml.constructor.ConstructorError(problem="a name stands there twice")
        return super().construct_mapping(node, deep)


class ApiKeys:
    """Without a file anyone may call. Call `load` first; `follow` then reloads the file when it changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Renewed[dict[bytes, str]] | None = None

    def load(self) -> None:
        """Reads the file, if any. Raises ArtifactError."""
        if self._path is not None:
            self._file = Renewed("API keys", [self._path], partial(read_keys, self._path))

    async def follow(self) -> None:
        """Runs until cancelled. A file that cannot be read leaves the keys unchanged and is logged once."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Reloads the file if it has changed."""
        if self._file is not None:
            self._file.renew()

    def tenant(self, authorization: str | None) -> str | None:
        """The tenant whose key is in `Bearer KEY`; None if no keys are required. Raises Unauthenticated."""
        if self._path is None:
            return None
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != _SCHEME or not key.strip():
            raise Unauthenticated("an API key is needed: Authorization: Bearer KEY")
        # Looked up by digest: lookup timing may reveal something about digests, but nothing about keys.
        tenant = self._file.made.get(_digest(key.strip())) if self._file is not None else None
        if tenant is None:
            raise Unauthenticated("this API key is not known")
        return tenant


def read_keys(path: Path) -> dict[bytes, str]:
    """Reads lines of `TENANT: KEY` or `TENANT: [KEY, ...]`; returns a map from key digests to tenants.

    Raises ArtifactError, whose message contains no key.
    """

    def refuse(what: str) -> NoReturn:
        raise ArtifactError(f"{path.name} {what}", path=path) from None

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Once)
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"can't be read: {error}")
    # PyYAML also raises the others: for impossible dates, infinite numbers, mismatched tags and deep nesting.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
        refuse("is no YAML, or has two lines for one tenant: write TENANT: [KEY, KEY]")
    if not isinstance(data, dict) or not data:
        refuse("must map tenants to API keys")
    tenants: dict[bytes, str] = {}
    for tenant, keys in data.items():
        if not isinstance(tenant, str) or not tenant.isprintable() or "/" in tenant:
            refuse(f"must name tenants by text without a slash (in quotes where it looks like a number): {tenant!r}")
        for key in keys if isinstance(keys, list) else [keys]:
            if not isinstance(key, str) or not key.strip() or not key.isascii():
                refuse(f"must give {tenant!r} keys that are text (in quotes where they look like numbers)")
            if tenants.setdefault(_digest(key.strip()), tenant) != tenant:
                refuse(f"gives {tenant!r} a key that another tenant has")
    return tenants


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
