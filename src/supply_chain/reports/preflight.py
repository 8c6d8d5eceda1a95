"""What the intake gate would say about a working copy: for a terminal, as SARIF 2.1.0 and as JUnit's XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import Any
from urllib.parse import quote

from supply_chain.development.preflight import Diagnostic, Level, Preflight
from supply_chain.model.declaration import FILE
from supply_chain.text import list_remedies, pluralize, sanitize_lines, sanitize_text

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
TOOL = "cscm check"
NONCHARACTERS = {0xFFFE: "·", 0xFFFF: "·"}
"""Characters that XML does not allow, besides those that `sanitize_text` replaces."""


def preflight_lines(result: Preflight, directory: str) -> str:
    """Return each diagnostic with location and remedy, and what was not judged; paths begin with `directory`."""
    return "\n".join(map(sanitize_text, _lines(result, directory)))


def _lines(result: Preflight, directory: str) -> Iterator[str]:
    for is_error, group in groupby(result.diagnostics, key=lambda each: each.level is Level.ERROR):
        lines = [
            (f"{_location(each, directory)}: {each.level}: {_fact(each)} [{each.code}]", each.remedy) for each in group
        ]
        yield from list_remedies(lines, "    ") if is_error else (line for line, _ in lines)
    if result.images:
        yield f"not read: {', '.join(result.images)} (a build refuses blocked or missing bases, and runs their ONBUILD)"
    yield from _unjudged(result)
    yield _summary(result)


def _unjudged(result: Preflight) -> Iterator[str]:
    """Yield each missing fact with the rules that need it."""
    rules: dict[tuple[str, ...], list[str]] = {}
    for each in result.rules:
        if each.result is None:
            rules.setdefault(each.needs, []).append(each.id)
    if result.application is not None and rules:
        have = "a working copy and its image do" if result.image else "a working copy does"
        yield f"not judged, because {have} not have these facts:"
        yield from (f"    {', '.join(needs)}: {', '.join(ids)}" for needs, ids in rules.items())


def _summary(result: Preflight) -> str:
    judged = sum(each.result is not None for each in result.rules)
    rules = f"{judged} of {pluralize(len(result.rules), 'rule')} judged"
    errors = sum(each.level is Level.ERROR for each in result.diagnostics)
    answer = f"refused, {pluralize(errors, 'error')}" if errors else "nothing to refuse"
    return f"{result.application or FILE}: {answer} ({rules})"


def _location(diagnostic: Diagnostic, directory: str) -> str:
    path = _join(directory, diagnostic.file or FILE)
    return f"{path}:{diagnostic.line}" if diagnostic.line else path


def _join(directory: str, file: str) -> str:
    return f"{directory}/{file}" if directory else file


def _fact(diagnostic: Diagnostic) -> str:
    """Return the fact without the location that it begins with, if that is printed before it."""
    fact = diagnostic.fact.removeprefix(f"{diagnostic.file}:{diagnostic.line}: ")
    return fact.removeprefix(f"line {diagnostic.line}: ")


def preflight_sarif(result: Preflight, directory: str, version: str) -> str:
    """Return a SARIF log; its URIs begin with `directory`, and a finding without a file is at the declaration."""
    rules = [
        {"id": each.id, "shortDescription": {"text": sanitize_text(each.title)}, "properties": {"policy": each.policy}}
        for each in result.rules
    ]
    ids = [each.id for each in result.rules]
    for code in dict.fromkeys(each.code for each in result.diagnostics if each.code not in ids):
        rules.append({"id": code, "shortDescription": {"text": code}})
        ids.append(code)
    run: dict[str, Any] = {
        "tool": {"driver": {"name": TOOL, "version": version, "rules": rules}},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {
                        "level": "note",
                        "message": {"text": f"{each.id} was not judged: it needs {', '.join(each.needs)}"},
                        "associatedRule": {"id": each.id, "index": ids.index(each.id)},
                    }
                    for each in result.rules
                    if each.result is None
                ],
            }
        ],
        "results": [_result(each, ids, directory) for each in result.diagnostics],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(diagnostic: Diagnostic, ids: list[str], directory: str) -> dict[str, Any]:
    path = _join(directory, diagnostic.file or FILE)
    uri = f"file://{quote(path)}" if path.startswith("/") else quote(path)
    region = {"region": {"startLine": diagnostic.line}} if diagnostic.line else {}
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": ids.index(diagnostic.code),
        "level": diagnostic.level.value,
        "message": {"text": sanitize_lines(f"{diagnostic.fact}\n{diagnostic.remedy}")},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, **region}}],
    }


def preflight_junit(result: Preflight, directory: str) -> str:
    """Return JUnit's XML: a test case for each rule and for each error; one that is not judged is skipped."""
    cases = list(_cases(result, directory))
    failures, skipped = (sum(f"<{word}" in case for case in cases) for word in ("failure", "skipped"))
    notes = "\n".join(_note(each, directory) for each in result.diagnostics if each.level is not Level.ERROR)
    name = _xml(f"{TOOL} {result.application or FILE}")
    counts = f'tests="{len(cases)}" failures="{failures}" errors="0" skipped="{skipped}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuites {counts}>",
        f'<testsuite name="{name}" {counts}>',
        *cases,
        *([f"<system-out>{_xml(notes)}</system-out>"] if notes else []),
        "</testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines)


def _cases(result: Preflight, directory: str) -> Iterator[str]:
    errors: dict[str, list[Diagnostic]] = {}
    for each in result.diagnostics:
        if each.level is Level.ERROR:
            errors.setdefault(each.code, []).append(each)
    for rule in result.rules:
        skipped = f'<skipped message="{_xml("needs " + ", ".join(rule.needs))}"/>' if rule.result is None else ""
        yield _case(rule.policy, rule.id, skipped or _failure(errors.pop(rule.id, []), directory))
    for code, of_code in errors.items():
        yield _case("build", code, _failure(of_code, directory))


def _case(of: str, name: str, content: str) -> str:
    return f'<testcase classname="{_xml(of)}" name="{_xml(name)}">{content}</testcase>'


def _failure(diagnostics: list[Diagnostic], directory: str) -> str:
    if not diagnostics:
        return ""
    lines = "\n".join(list_remedies(((_note(each, directory), each.remedy) for each in diagnostics), "    "))
    return f'<failure message="{_xml(diagnostics[0].fact)}">{_xml(lines)}</failure>'


def _note(diagnostic: Diagnostic, directory: str) -> str:
    return f"{_location(diagnostic, directory)}: {_fact(diagnostic)} [{diagnostic.code}]"


def _xml(text: str) -> str:
    return escape(sanitize_lines(text).translate(NONCHARACTERS))
