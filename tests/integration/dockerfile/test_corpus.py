"""Facts of Dockerfiles in public repositories: the reader has to agree with BuildKit about each of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from supply_chain.concurrency import map_concurrently
from supply_chain.development.dockerfile import Reading
from supply_chain.development.record import Expected, check_record
from supply_chain.errors import SupplyChainError
from tests.integration.dockerfile.structure import LINES, forms, regenerate, written_flags
from tests.support.buildkit import ADDRESS, NAMESPACE, BuildKit
from tests.support.command import ROOT

pytestmark = pytest.mark.real

CORPUS: list[dict[str, Any]] = json.loads((ROOT / "tests/assets/dockerfiles.json").read_text())

ALL = os.environ.get("CSCM_CORPUS") == "all"


def checksum(buildkit: BuildKit) -> str:
    return f"sha256:{hashlib.sha256((buildkit.fetched / 'file').read_bytes()).hexdigest()}"


def structure(reading: Reading) -> list[Any]:
    """Return the facts that the generated Dockerfile must share with the original."""
    named = [[each.name, each.base] for each in reading.stages]
    return [named, [[each.name, list(each.flags), each.json_form, each.heredocs > 0] for each in reading.instructions]]


def wanted(facts: dict[str, Any]) -> list[Any]:
    named = [stage[:2] for stage in facts["stages"]]
    return [
        named,
        [[f[0], list(written_flags(f[2])), f[3] == "json", f[3] == "heredoc"] for f in facts["instructions"]],
    ]


def test_corpus_has_enough_dockerfiles_of_enough_repositories() -> None:
    """The tests below would prove little with a small corpus."""
    assert len(CORPUS) >= 300 and len({each["repo"] for each in CORPUS}) >= 10
    assert len({each["sha256"] for each in CORPUS}) == len(CORPUS)
    assert sum(any(fact[1] >= LINES for fact in each["instructions"]) for each in CORPUS) > 100


def test_reader_finds_the_structure_of_each_dockerfile(buildkit: BuildKit) -> None:
    """It covers continued lines, comments, heredocs and other escape characters."""
    differing = {}
    texts = [regenerate(facts, checksum(buildkit)) for facts in CORPUS]
    readings = map_concurrently(lambda text: buildkit.read(text.encode(), ()), texts)
    for facts, text, reading in zip(CORPUS, texts, readings, strict=True):
        found = [
            *structure(reading)[:1],
            [[n, [x for x in f if not x.startswith("--checksum")], j, h] for n, f, j, h in structure(reading)[1]],
        ]
        if reading.error or found != wanted(facts):
            differing[f"{facts['repo']} {facts['path']}"] = (reading.error, text)
    assert differing == {}


LACKING = ("did not complete successfully", "failed to compute cache key", "failed to calculate checksum", "lstat /")
"""BuildKit's messages if a stage lacks a shell or a file that the original has."""


def built(content: bytes, buildkit: BuildKit) -> str | None:
    """Return the difference between reader and build record: None if equal, "" if there is no record."""
    target = buildkit.read(content).targets[""]
    result = buildkit.run(
        content, buildkit.policy(target.images), f"--build-context={buildkit.fetched.name}={buildkit.fetched}"
    )
    if result.done.status:
        log = result.done.stderr[-600:]
        lacking = any(words in log for words in LACKING) and "denied by policy" not in log
        return "" if target.error or lacking else f"is read, and not built: {log}"
    if target.error:
        return f"is built, and not read: {target.error}"
    images = dict.fromkeys(target.images, buildkit.image)
    try:
        check_record("", result.record, Expected(target, images, {ADDRESS: checksum(buildkit)}, NAMESPACE))
    except SupplyChainError as error:
        return str(error)
    return None


def choose(has: Mapping[bytes, frozenset[str]], results: Mapping[bytes, str | None]) -> list[bytes]:
    """Return Dockerfiles to build next: they have every form that no build has confirmed so far."""
    confirmed = {form for content, why in results.items() if why is None for form in has[content]}
    left = {content: new - confirmed for content, new in has.items() if content not in results}
    if ALL:
        return list(left)
    chosen = []
    while left and left[best := max(left, key=lambda content: (len(left[content]), -len(content)))]:
        chosen.append(best)
        found = left.pop(best)
        left = {content: new - found for content, new in left.items()}
    return chosen


@pytest.mark.timeout(1800)
def test_reader_agrees_with_the_build_record_for_each_form_of_instruction(buildkit: BuildKit) -> None:
    """Sources, images, cache mounts and networks are the same; each form is built until one build confirms it.

    With CSCM_CORPUS=all, every Dockerfile of the corpus is built.
    """
    texts = {regenerate(facts, checksum(buildkit)).encode(): facts for facts in CORPUS}
    has = {content: forms(facts) for content, facts in texts.items()}
    results: dict[bytes, str | None] = {}
    with ThreadPoolExecutor(2) as pool:
        while chosen := choose(has, results):
            results |= zip(chosen, pool.map(lambda content: built(content, buildkit), chosen), strict=True)

    assert {f"{texts[each]['repo']} {texts[each]['path']}": why for each, why in results.items() if why} == {}
    confirmed = {form for content, why in results.items() if why is None for form in has[content]}
    assert len(confirmed) > len({form for each in has.values() for form in each}) / 2
