"""Checks of every part of the laptop: what was found, what is expected, and how to correct a difference."""

from __future__ import annotations

import http.client
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cscm_laptop import emulator_service, firewall, namespaces, prefect_server
from cscm_laptop.checks import Check, check, format_error_message, make_note
from cscm_laptop.cluster.doctor import examine_cluster
from cscm_laptop.engine import STORE, WANTED, ask, find_foreign_networks, parse_engine_version, read_engine_url
from cscm_laptop.home import Home
from cscm_laptop.laptop import load_state, select_needed_pins
from cscm_laptop.ports import find_listener, request
from cscm_laptop.profile import Profile
from cscm_laptop.services import Service
from orchestration.registration import list_registered_deployments, read_declared_deployments
from supply_chain.adapters.aws.accounts import POLICIES
from supply_chain.adapters.aws.signers import list_foreign_keys
from supply_chain.adapters.docker.build_cgroup import is_cgroup_writable
from supply_chain.adapters.docker.buildx import find_client
from supply_chain.adapters.docker.step_mounts import find_missing_capabilities
from supply_chain.adapters.tools.toolbox import Toolbox
from supply_chain.adapters.vulndb import read_database
from supply_chain.errors import DatabaseUnusable, EngineUnavailable, EngineUnsuitable, SettingInvalid, SupplyChainError
from supply_chain.evidence.envelope import Key, find_shared_keys, parse_keys
from supply_chain.execution.environment import name_network
from supply_chain.execution.signed_project import read_project_state
from supply_chain.model.documents import read_document
from supply_chain.policy.loading import list_environments
from supply_chain.policy.people import FILE as PEOPLE
from supply_chain.policy.people import LAPTOP, PeopleDocument, PeopleOwner, parse_owner_keys

UP = "run `cscm up`"
ROOM = 5
"""Minimum free disk space in GiB, for images, their builds and the emulator's blobs."""
OLD = 5
"""Age in days from which the official database is too old for verdicts; grype has the same limit."""


def examine(profile: Profile, home: Home) -> list[Check]:
    """Check every part without changing anything; a missing part is a failed check, not an error."""
    return [
        _python(),
        *_engine(),
        *check_environments(home),
        *_builds(home),
        *_namespaces(),
        *_tools(home),
        *_emulator(profile, home),
        *_prefect(profile, home),
        _runner(prefect_server.make_prefork_service(home, profile)),
        _runner(prefect_server.make_worker_service(home, profile)),
        _runner(prefect_server.make_bridge_service(home, profile)),
        _database(home),
        _policies(profile, home),
        _identities(home.project / POLICIES),
        _public_keys(home),
        *examine_cluster(profile, home),
        *_ports(profile, home),
        *_room({"home": home.directory, "temporary files": Path("/tmp")}),  # noqa: S108 # nosec B108 - looked at, not used
    ]


def _python() -> Check:
    return check("python", platform.python_version(), "3.11 or later", sys.version_info >= (3, 11), "install it")


def _engine() -> Iterable[Check]:
    url = read_engine_url()
    requirement = f"{WANTED[0]}.{WANTED[1]} or later"
    try:
        engine = ask(url)
    except EngineUnavailable as error:
        yield check("docker engine", "does not answer", requirement, False, format_error_message(error))
    else:
        upgrade = "upgrade Docker Engine: https://docs.docker.com/engine/install/"
        yield check(
            "docker engine", engine.version, requirement, parse_engine_version(engine.version) >= WANTED, upgrade
        )
        turn_on = 'put {"features": {"containerd-snapshotter": true}} into /etc/docker/daemon.json and restart it'
        yield check("image store", engine.store or "classic", STORE, engine.store == STORE, turn_on)
    try:
        client = find_client(os.environ.get("PATH", os.defpath))
    except EngineUnsuitable as error:
        yield check("docker client", "none", "any", False, format_error_message(error))
    else:
        yield check("docker client", str(client), "any", True, "")


def check_environments(home: Home) -> Iterable[Check]:
    """Check that no other supply chain on the engine has an environment of the same name."""
    if not home.is_ours():
        return
    try:
        foreign = find_foreign_networks(home.owner)
    except EngineUnavailable:
        return
    taken = {each: foreign[name] for each in list_environments(home.project) if (name := name_network(each)) in foreign}
    conflicts = ", ".join(
        f"{each} belongs to {owner}, another supply chain on this engine" for each, owner in taken.items()
    )
    remedy = "".join(
        f"; where {owner} is gone, `cscm reset --left-by {owner}`" for owner in sorted(set(taken.values()))
    )
    yield check("environments", conflicts or "free", "free", not taken, f"give the environment another name{remedy}")


def _builds(home: Home) -> Iterable[Check]:
    """Check the isolation and the limits of builds, which only root can set, and only on the engine's machine."""
    network, apart, limits, each = "build network", "kept apart", "build limits", "set for each build"
    if os.geteuid() != 0 or not read_engine_url().startswith("unix://"):
        who = "root on the engine's machine"
        rules = firewall.render_commands(home.owner) if home.is_ours() else UP
        yield make_note(
            network, f"unknown: only {who} can check this", apart, f"once after each start of that machine: {rules}"
        )
        unlimited = f"only the size of a file is limited; {who} can set the others"
        yield make_note(limits, unlimited, each, "run builds as root, on the engine's own machine")
        return
    yield _build_network(network, apart, home.owner)
    limited = is_cgroup_writable()
    state = each if limited else "only the size of a file is limited: the control groups are read-only"
    yield check(limits, state, each, limited, "run builds where /sys/fs/cgroup can be written")
    missing = ", ".join(find_missing_capabilities())
    state = f"cannot be measured, which ends each build: this process lacks {missing}" if missing else each
    yield check("build disk", state, each, not missing, f"run builds with {missing}")


def _build_network(name: str, requirement: str, owner: str) -> Check:
    if firewall.has_ipv6():
        remedy = "give the engine's default bridge no IPv6 addresses (`ipv6` in /etc/docker/daemon.json)"
        return check(name, "open to: whatever has an IPv6 address", requirement, False, remedy)
    open_to = ", ".join(rule.why for rule in firewall.find_missing_rules(owner))
    state = f"open to: {open_to}" if open_to else requirement
    return check(name, state, requirement, not open_to, "run `cscm up`, again after each start of the machine")


def _namespaces() -> Iterable[Check]:
    if os.geteuid() != 0:
        state, remedy = namespaces.explain_missing_mappings() or ("usable", "")
        yield check("user namespaces", state, "usable", not remedy, remedy)


def _tools(home: Home) -> Iterable[Check]:
    for tool in Toolbox(home.tools, select_needed_pins(home.project)).report():
        where = f" ({tool.path})" if tool.path else ""
        yield check(tool.name, f"{tool.version or 'none'}{where}", tool.accepted, tool.ok, tool.remedy)


def _emulator(profile: Profile, home: Home) -> Iterable[Check]:
    fits = emulator_service.environment_fits(home)
    yield check("emulator environment", "as locked" if fits else "missing or outdated", "as locked", fits, UP)
    yield _answering("emulator", emulator_service.make_emulator_service(home, profile))


def _answering(name: str, service: Service) -> Check:
    if service.explain_taken_port():
        return check(name, "not running; its port is taken", "answers", False, f"see port {service.port} below")
    answers = service.ready()
    state = f"answers on {service.address}" if answers else f"does not answer on {service.address}"
    return check(name, state, "answers", answers, f"{UP}; if it does, see {service.log}")


def _prefect(profile: Profile, home: Home) -> Iterable[Check]:
    service = prefect_server.make_server_service(home, profile)
    line = _answering("prefect server", service)
    yield line
    if not line.ok:
        return
    port, auth = profile.ports.prefect, prefect_server.ensure_auth_string(home)
    again = "run `cscm down` and `cscm up`"
    refused = _get(port, "/api/admin/version", None)[0] == 401
    yield check("prefect auth", "asked for" if refused else "open", "asked for", refused, again)
    status, settings = _get(port, "/api/admin/settings", auth)
    accepted = status == 200 and isinstance(settings, dict)
    yield check("prefect login", "accepted" if accepted else f"status {status}", "accepted", accepted, again)
    wrong = find_wrong_batches(settings) if accepted else sorted(prefect_server.BATCHES)
    yield check("prefect batches", ", ".join(wrong) or "as measured", "as measured", not wrong, again)
    if accepted:
        unregistered = read_declared_deployments(home.project) - list_registered_deployments(
            prefect_server.make_prefect_api(home, profile)
        )
        state = f"missing: {', '.join(sorted(unregistered))}" if unregistered else "all registered"
        yield check("deployments", state, "all registered", not unregistered, UP)


def _get(port: int, path: str, auth: str | None) -> tuple[int, Any]:
    try:
        return request("GET", port, path, auth=auth)
    except (OSError, http.client.HTTPException):
        return 0, None


def find_wrong_batches(settings: dict[str, Any]) -> list[str]:
    """Return the batch settings of a running server that differ from those that the laptop wants."""
    services = settings.get("server", {}).get("services", {})
    wrong = []
    for name, size in prefect_server.BATCHES.items():
        words = name.removeprefix("PREFECT_SERVER_SERVICES_").lower()
        part = next((part for part in services if words.startswith(f"{part}_")), "")
        value = services.get(part, {}).get(words.removeprefix(f"{part}_"))
        if value is None or float(value) != float(size):
            wrong.append(f"{words}={value}")
    return wrong


def _runner(service: Service) -> Check:
    record = service.record()
    if record is None:
        return check(service.name, "not running", "running", False, UP)
    heard = service.ready()
    state = f"running (pid {record.pid})" if heard else f"silent (pid {record.pid})"
    return check(service.name, state, "running", heard, f"see {service.log}; `cscm down` and `cscm up` start it again")


def _database(home: Home) -> Check:
    try:
        database = read_database(home.database)
    except DatabaseUnusable as error:
        return check(
            "vulnerability database", "no usable database", "whole", False, f"{UP} ({format_error_message(error)})"
        )
    age = (datetime.now(UTC) - database.built).days
    state = f"{database.kind}, facts of {database.built:%Y-%m-%d} ({age} days), {database.digest}"
    fresh = database.kind == "starter" or age < OLD
    return check("vulnerability database", state, f"starter, or official under {OLD} days", fresh, UP)


def _policies(profile: Profile, home: Home) -> Check:
    name, requirement = "policies", "active"
    try:
        state = read_project_state(
            home.project, PeopleOwner(home.read_owner_key(), LAPTOP), profile.policies_signed_since, datetime.now(UTC)
        )
    except SupplyChainError as error:
        return check(name, format_error_message(error), requirement, False, "correct it, and run `cscm policy check`")
    problems = "; ".join(state.problems)
    finding = problems or f"{requirement}: {state.why}"
    return check(name, finding, requirement, not problems, "read them, and run `cscm policy sign --key REF`")


def _identities(directory: Path) -> Check:
    name, requirement = "signing keys", "one tier each"
    remedy = f"give each role of {directory} the key of its own tier only"
    try:
        foreign = list_foreign_keys(directory)
    except SettingInvalid as error:
        return check(name, format_error_message(error), requirement, False, remedy)
    return check(name, "; ".join(foreign) or requirement, requirement, not foreign, remedy)


def _public_keys(home: Home) -> Check:
    """Check that no key of a tier is also another tier's, the owner's or a person's."""
    name, requirement = "public keys", "one tier and use each"
    remedy = f"give each tier, the owner of {PEOPLE} and each person a key of their own"
    try:
        shared = find_shared_keys(_keys_of_tiers(home), _keys_of_people(home))
    except SupplyChainError as error:
        return check(name, format_error_message(error), requirement, False, remedy)
    state = "; ".join(f"{each} have the same key" for each in shared) or requirement
    return check(name, state, requirement, not shared, remedy)


def _keys_of_tiers(home: Home) -> Iterable[tuple[str, Key]]:
    for tier, identity in load_state(home).identities.items():
        yield from ((f"the signing key of {tier}", key) for key in parse_keys(identity.public_key, tier))
        if pem := identity.verdict_public_key:
            yield from ((f"the verdict key of {tier}", key) for key in parse_keys(pem, tier))


def _keys_of_people(home: Home) -> Iterable[tuple[str, Key]]:
    yield from ((f"the owner of {PEOPLE}", key) for key in parse_owner_keys(home.read_owner_key()))
    file = home.project / PEOPLE
    people = read_document(file, PeopleDocument).people if file.exists() else {}
    for name, person in people.items():
        yield from ((name, key) for pem in person.keys for key in parse_keys(pem, name))


def _ports(profile: Profile, home: Home) -> Iterable[Check]:
    for service in (
        emulator_service.make_emulator_service(home, profile),
        prefect_server.make_server_service(home, profile),
    ):
        port, in_use = service.port or 0, service.explain_taken_port()
        ours = "ours" if service.record() else "free"
        holder = f"taken by {find_listener(port) or 'another program'}" if in_use else ours
        yield check(
            f"port {port}",
            holder,
            "free or used by this supply chain",
            not in_use,
            f"stop that program or change {service.setting}",
        )


def _room(places: dict[str, Path]) -> Iterable[Check]:
    for name, place in places.items():
        existing = next(path for path in (place, *place.parents) if path.exists())
        free = shutil.disk_usage(existing).free / 1024**3
        yield check(
            f"room for {name}", f"{free:.0f} GiB free", f"{ROOM} GiB", free >= ROOM, f"free space in {existing}"
        )
