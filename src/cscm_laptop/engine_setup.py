"""Install Docker Engine from Debian's packages, for a machine that has none and a user who is root.

Debian 12's engine is too old. Its newer engine comes from the next release, which is requested by name; a low pin
priority keeps all other packages from coming from there. Measured: 6 packages, 72 MB, libc stays.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supply_chain.adapters.process.command import run
from supply_chain.errors import EngineUnavailable, EngineUnsuitable, ToolFailed

DAEMON_JSON = Path("/etc/docker/daemon.json")
DATA = Path("/var/lib/docker")
FEATURES = {"containerd-snapshotter": True}
SERVING = {"live-restore": True, "userland-proxy": False}
"""Containers keep running and stay reachable while the engine is stopped: its userland proxies would end with it."""
BUILDER = {"gc": {"enabled": True, "defaultKeepStorage": "10GB"}}
"""How much cache the builder keeps; without a limit, it grows until the disk is full."""
PACKAGES = ("docker.io", "docker-cli")
AROUND = ("containerd", "runc", "tini", "iptables")
APT = Path("/etc/apt")
NEXT_RELEASE = {"bookworm": "trixie"}
"""Releases whose own engine is too old, with the release that the engine is taken from instead."""

REMEDY = (
    "Install Docker Engine 26.1 or later (https://docs.docker.com/engine/install/), "
    'put {"features": {"containerd-snapshotter": true}} into /etc/docker/daemon.json, '
    "and add your user to the group docker."
)


def install() -> None:
    """Install the engine from Debian's packages; raise `EngineUnavailable` if this is not Debian."""
    release = read_debian_release(Path("/etc/os-release"))
    if release is None or shutil.which("apt-get") is None:
        raise EngineUnavailable(f"There is no container engine, and this is not Debian.\n{REMEDY}")
    packages = list(PACKAGES)
    if release in NEXT_RELEASE:
        newer = NEXT_RELEASE[release]
        add_release(APT, release, newer)
        packages = [f"{name}/{newer}" for name in PACKAGES]
    _apt("update")
    _apt("install", "--yes", "--no-install-recommends", *AROUND, *packages)


def _apt(*args: str) -> None:
    settings = {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "--option", "DPkg::Lock::Timeout=120", "--quiet", *args]
    done = run(command, name="apt-get", timeout=900, environment=settings)
    if done.status != 0:
        raise ToolFailed(
            f"apt-get {args[0]} ended with status {done.status}: {done.stderr[-1500:].strip()}\n"
            "Correct it (often another apt runs, or the mirror is not reachable), then run this again."
        )


def read_debian_release(os_release: Path) -> str | None:
    """Return Debian's code name, or None on any other system, including derivatives of Debian."""
    try:
        lines = os_release.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("VERSION_CODENAME", "").strip('"') if fields.get("ID", "").strip('"') == "debian" else None


def add_release(apt: Path, release: str, newer: str) -> None:
    """Add the newer release as a package source from which only packages requested by name are installed."""
    mirror = find_mirror(apt, release)
    source = (
        f"Types: deb\nURIs: {mirror}\nSuites: {newer}\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    pin = f"Package: *\nPin: release n={newer}\nPin-Priority: 100\n"
    (apt / "preferences.d").mkdir(exist_ok=True)
    (apt / "preferences.d" / f"cscm-{newer}").write_text(pin, encoding="ascii")  # before the source that it restricts
    (apt / "sources.list.d").mkdir(exist_ok=True)
    (apt / "sources.list.d" / f"cscm-{newer}.sources").write_text(source, encoding="ascii")


def find_mirror(apt: Path, release: str) -> str:
    """Return the mirror from which this machine gets `release`; raise `EngineUnavailable` if none is listed."""
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            fields = dict(re.findall(r"^(URIs|Suites):\s*(.+)$", stanza, re.MULTILINE))
            if release in fields.get("Suites", "").split() and fields.get("URIs"):
                return str(fields["URIs"].split()[0])
    listed = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    for path in filter(Path.is_file, listed):
        line = re.compile(rf"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{re.escape(release)}\s", re.MULTILINE)
        if match := line.search(path.read_text(encoding="utf-8")):
            return match[1]
    raise EngineUnavailable(f"No source in {apt} lists {release}, so there is no mirror to install from.\n{REMEDY}")


def configure(path: Path = DAEMON_JSON, data: Path = DATA) -> None:
    """Add what the chain needs to the engine's settings and keep the existing settings.

    Raises `EngineUnsuitable` if an engine has worked without the containerd store: its images would be hidden, and
    that is for their owner to decide.
    """
    try:
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        before = {}
    except ValueError as error:
        raise EngineUnsuitable(f"{path} is not JSON: {error}\nCorrect it, then run this again.") from error
    after = merge_engine_settings(before)
    if after == before:
        return
    if not (before.get("features") or {}).get("containerd-snapshotter") and (data / "image").is_dir():
        raise EngineUnsuitable(
            f"An engine is installed but not running, and it has images in the old store ({data}).\n"
            f'Put {{"features": {{"containerd-snapshotter": true}}}} into {path} if they may be hidden, '
            "then run this again."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(after, indent=2) + "\n", encoding="utf-8")


def merge_engine_settings(before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's settings with ours; existing settings win, except for the features that the chain needs."""
    features = {**(before.get("features") or {}), **FEATURES}
    return {**SERVING, "builder": BUILDER, **before, "features": features}
