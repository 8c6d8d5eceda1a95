"""The schemas of a chart's values: they may refer to nothing but themselves, because helm would read it. Pure."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from supply_chain.errors import DeclarationInvalid
from supply_chain.text import sanitize_text

SCHEMA, PACKED = "values.schema.json", ".tgz"
"""The name of a schema, and how the name of a chart ends that is packed in another."""
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
DRAFTS = frozenset(
    f"{scheme}://json-schema.org/{draft}{end}"
    for scheme in ("http", "https")
    for draft in ("draft-04/schema", "draft-06/schema", "draft-07/schema", "draft/2019-09/schema",
                  "draft/2020-12/schema")
    for end in ("", "#")
)  # fmt: skip
"""The languages of schemas that helm has itself; it would read others from their address."""
MOST_BYTES = 16 * 1024**2
"""Maximum size of all packed charts together, unpacked."""


def check_schemas(files: Mapping[str, bytes]) -> None:
    """Raise `DeclarationInvalid` for a schema of values that refers to what is elsewhere or is not JSON.

    `files` are those of a chart, also with charts that are packed in it.
    """
    waiting, left = list(files.items()), MOST_BYTES
    while waiting:
        name, content = waiting.pop()
        if name.endswith(PACKED):
            packed, left = _unpack(name, content, left)
            waiting += packed
        elif name.endswith(f"/{SCHEMA}"):
            _check_schema(name, content)


def _check_schema(name: str, content: bytes) -> None:
    try:
        references = sorted(set(_find_elsewhere(json.loads(content))))
    except (ValueError, RecursionError) as error:
        raise DeclarationInvalid(f"{name} is not valid JSON: {sanitize_text(error)}\nCorrect it.") from error
    if references:
        raise DeclarationInvalid(
            f"{name} refers to {sanitize_text(', '.join(references))}, which is elsewhere.\n"
            "Copy what it needs into its own definitions, to which `#/…` refers; nothing else is read."
        )


def _find_elsewhere(value: Any) -> Iterator[str]:
    """Yield the references to other documents than the schema itself, and unknown languages."""
    if isinstance(value, list):
        for each in value:
            yield from _find_elsewhere(each)
    if not isinstance(value, dict):
        return
    yield from (value[key] for key in REFERENCES if isinstance(value.get(key), str) and not value[key].startswith("#"))
    if isinstance(language := value.get("$schema"), str) and language not in DRAFTS:
        yield language
    for each in value.values():
        yield from _find_elsewhere(each)


def _unpack(name: str, content: bytes, left: int) -> tuple[list[tuple[str, bytes]], int]:
    """Return the schemas and packed charts in a packed chart, and what is left of so many bytes.

    Raises `DeclarationInvalid` if it is not a packed chart, or has more.
    """
    files: list[tuple[str, bytes]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                left -= tarfile.BLOCKSIZE + member.size
                if left < 0:
                    raise DeclarationInvalid(
                        f"The charts that are packed have more than {MOST_BYTES} bytes at {name}.\nUnpack them there."
                    )
                file = archive.extractfile(member) if member.isfile() else None
                if file and member.name.endswith((PACKED, f"/{SCHEMA}")):
                    files.append((f"{name}/{member.name}", file.read()))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DeclarationInvalid(f"{name} is not a packed chart: {sanitize_text(error)}\nUnpack it there.") from error
    return files, left
