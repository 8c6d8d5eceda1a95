"""Model values for tests: each function returns a valid value, and keyword arguments change it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from supply_chain.evidence.checks import TESTED, Check, CheckResult
from supply_chain.model.declaration import DECLARATION, Base, Service
from supply_chain.model.image import BuiltImage, Interval, Source
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused
from supply_chain.vulnerability.findings import Database, Distribution, Finding, Report, Severity

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def declaration(**changes: Any) -> Service | Base:
    values: dict[str, Any] = {
        "kind": "service",
        "name": "hello",
        "owner": "web team",
        "test": {"command": ["true"]},
        "probe": {"port": 8080},
        **changes,
    }
    return DECLARATION.validate_python({key: value for key, value in values.items() if value is not None})


def base(**changes: Any) -> Service | Base:
    return declaration(kind="base", test=None, probe=None, **{"name": "base/python", "check": ["true"], **changes})


def source(**changes: Any) -> Source:
    values: dict[str, Any] = {
        "path": ".",
        "repository": "shop",
        "revision": "3f2a1c0" + "0" * 33,
        "dirty": False,
        "committed": 1000,
    }
    return Source(**{**values, **changes})


def built(**changes: Any) -> BuiltImage:
    values: dict[str, Any] = {
        "application": "hello",
        "digest": DIGEST,
        "source": source(),
        "dockerfile": "sha256:" + "c" * 64,
        "declaration": "sha256:" + "d" * 64,
        "materials": (),
        "uncurated": (),
        "versions": {"buildx": "0.1"},
        "started": NOON,
        "finished": NOON,
        "invocation": "run",
    }
    return BuiltImage(**{**values, **changes})


def check(which: Check, *, at: datetime = NOON, **changes: Any) -> CheckResult:
    interval = Interval(started=at - timedelta(seconds=1), finished=at)
    outcomes = {"passed", "failed", "warned"} & changes.keys()
    values: dict[str, Any] = {} if outcomes else {"passed": ("it is well",)}
    if which is Check.TESTS:
        values["details"] = {TESTED: {"proven": True, "by": "pytest", "ran": 3}}
    return CheckResult(check=which, interval=interval, **{**values, **changes})


def finding(severity: Severity | str = "high", **changes: Any) -> Finding:
    values: dict[str, Any] = {
        "id": "CVE-2026-0001",
        "severity": severity,
        "package": "openssl",
        "version": "3.0.1",
        "type": "deb",
        "fixed_in": ("3.0.2",),
    }
    return Finding(**{**values, **changes})


def report(*findings: Finding, at: datetime = NOON, kind: str = "official", **changes: Any) -> Report:
    values: dict[str, Any] = {
        "scanner": "grype",
        "scanner_version": "0.115.0",
        "database": Database(kind=kind, built=NOON - timedelta(days=1), digest="xxh64:0"),
        "scanned": at,
        "distribution": Distribution(name="debian", version="12", codename="bookworm", in_database=True),
        "packages": 10,
        "findings": findings,
    }
    return Report(**{**values, **changes})


def refused(**changes: Any) -> Refused:
    values: dict[str, Any] = {
        "image": None,
        "application": "hello",
        "gate": Gate.INTAKE,
        "policy": "sha256:" + "9" * 64,
        "reasons": (Reason(code="name.taken", fact="it is another's", remedy="use your own"),),
    }
    return Refused(**values | changes)
