"""Dockerfiles generated from facts: they have the structure of a real Dockerfile and none of its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.support.buildkit import ADDRESS

LINES = 5
"""Maximum number of lines of one instruction."""
PLAIN = {
    "CMD": ("x", '["/x"]'), "ENTRYPOINT": ("x", '["/x"]'), "ENV": ("K=v",) * 2, "EXPOSE": ("80",) * 2,
    "HEALTHCHECK": ("NONE", 'CMD ["/x"]'), "LABEL": ("k=v",) * 2, "MAINTAINER": ("x",) * 2, "ONBUILD": ("RUN x",) * 2,
    "SHELL": ('["/bin/sh", "-c"]',) * 2, "STOPSIGNAL": ("TERM",) * 2, "USER": ("0",) * 2,
    "VOLUME": ("/v", '["/v"]'), "WORKDIR": ("/w",) * 2,
}  # fmt: skip
"""The arguments of an instruction, in shell form and in JSON form."""


def regenerate(facts: dict[str, Any], checksum: str) -> str:
    """Return a Dockerfile with these facts; files that it adds by URL have this checksum."""
    escape = facts["directives"].get("escape", "\\")
    head = [f"# {name}={value}" for name, value in facts["directives"].items() if name in ("escape", "check")]
    body = [
        _continued(text, fact[1], escape, fact[3]) for fact in facts["instructions"] for text in [_text(fact, checksum)]
    ]
    return "\n".join([*head, *body]) + "\n"


def _text(fact: list[Any], checksum: str) -> str:
    name, _, flags, form = fact[:4]
    after = "".join(f"{flag} " for flag in written_flags(flags))
    match name:
        case "FROM" | "ARG":
            return f"{name} {after}{' '.join(_quoted(name, word) for word in fact[4])}"
        case "RUN":
            return f"RUN {after}" + {"json": '["/bin/sh", "-c", "x"]', "heredoc": "<<END", "shell": "x"}[form]
        case "ADD" | "COPY":
            return f"{name} {after}{_copied(name, flags, form, fact[4], checksum)}"
    shell, json_form = PLAIN[name]
    return f"{name} {json_form if form == 'json' else shell}"


def _quoted(name: str, word: str) -> str:
    key, equals, value = word.partition("=")
    bare = (
        name == "FROM"
        or not equals
        or not set(value) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_/:@${}\"'")
    )
    return word if bare else f"{key}=x"


def _copied(name: str, flags: list[str], form: str, kinds: list[str], checksum: str) -> str:
    if form == "heredoc":
        return "<<END /h/"
    if name == "ADD" and kinds == ["url"]:
        return f"--checksum={checksum} {ADDRESS} /u/"
    source = "/bin/s[h]" if any(flag.startswith("--from=") for flag in flags) else "file"
    words = [source] * max(1, len(kinds))
    if form == "json":
        return "[" + ", ".join(f'"{word}"' for word in [*words, "/d/"]) + "]"
    return " ".join([*words, "/d/"])


def written_flags(flags: list[str]) -> Iterator[str]:
    """Return the flags that a test can use: no secrets, no agents, no host resources, no missing paths."""
    for flag in flags:
        if flag.startswith("--mount="):
            options = [each for each in flag.removeprefix("--mount=").split(",") if _is_option(each)]
            if {"type=secret", "type=ssh"} & set(options) or not any(_key(each) in TARGETS for each in options):
                continue
            yield f"--mount={','.join(options)}"
        elif flag.startswith("--platform="):
            yield "--platform=linux/amd64"
        elif flag != "--network=host":
            yield flag


TARGETS = ("target", "dst", "destination")


def _key(option: str) -> str:
    return option.partition("=")[0].lower()


def _is_option(option: str) -> bool:
    return _key(option) in ("type", "from", "id", "sharing", "ro", "readonly", "rw", "readwrite", *TARGETS)


WORDS = re.compile(r"[\w.\-]+(?:/[\w.\-]+)*")
"""A name or a path."""


def forms(facts: dict[str, Any]) -> frozenset[str]:
    """Return the distinct forms of the directives and instructions, without their names and paths.

    Two Dockerfiles with the same forms ask the same of a reader.
    """
    stages = {stage[0].lower() for stage in facts["stages"] if stage[0]}
    found = {f"# {name}" for name in facts["directives"]}
    for fact in facts["instructions"]:
        flags = sorted(_flag_form(flag, stages) for flag in written_flags(fact[2]))
        words = fact[4] if len(fact) > 4 else []
        if fact[0] in ("FROM", "ARG"):
            words = ["stage" if word.lower() in stages else WORDS.sub("w", word) for word in words]
        found.add(" ".join([fact[0], str(min(fact[1], LINES)), *flags, fact[3], *map(str, words)]))
    return frozenset(found)


def _flag_form(flag: str, stages: set[str]) -> str:
    name, _, value = flag.partition("=")
    if name == "--mount":
        options = (each if _key(each) in ("type", "sharing") else _key(each) for each in value.split(","))
        return f"{name}={','.join(options)}"
    if name == "--from":
        value = "stage" if value.lower() in stages else "number" if value.isdigit() else WORDS.sub("w", value)
        return f"{name}={value}"
    return f"{name}={'$' if '$' in value else ''}"


def _continued(text: str, lines: int, escape: str, form: str) -> str:
    """Return the instruction on `lines` lines, with comments and empty words in between."""
    if form == "heredoc":
        return f"{text}\n" + "FROM nothing\n" * min(LINES, max(0, lines - 2)) + "END"
    lines = min(lines, LINES)
    if lines < 2 or text.startswith("ONBUILD"):
        return text
    name, _, rest = text.partition(" ")
    comments = "".join(f"# {number} {escape}\n" for number in range(lines - 2))
    return f"{name} {escape}\n{comments}  {rest}"
