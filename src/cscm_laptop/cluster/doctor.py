"""Checks of this machine's cluster, for `cscm doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cscm_laptop.checks import Check, check, format_error_message, make_note
from cscm_laptop.cluster.cluster import find_kubeconfig, read_cluster_status
from cscm_laptop.cluster.namespaces import list_namespaces
from cscm_laptop.cluster.place import Place
from cscm_laptop.cluster.programs import FILE, ClusterPins, find_missing
from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.errors import SupplyChainError
from supply_chain.execution.environment_documents import read_environments
from supply_chain.execution.kubernetes.cluster import NAMESPACES
from supply_chain.model.documents import read_document
from supply_chain.policy.loading import ENVIRONMENTS

UP = "run `cscm cluster up`"


def examine_cluster(profile: Profile, home: Home) -> Iterator[Check]:
    """Check the cluster if an environment is in it, or if it was started and not stopped; yield nothing otherwise."""
    name, requirement = "cluster", "documents that can be read"
    started = home.is_ours() and Place.of(home).host_record.exists()
    try:
        needed = list_namespaces(read_environments(home.project / ENVIRONMENTS))
        pins = read_document(home.project / FILE, ClusterPins)
    except SupplyChainError as error:
        yield check(name, format_error_message(error), requirement, False, "correct the document")
        return
    if not (needed or started):
        return
    missing = ", ".join(find_missing(home, pins))
    yield check("cluster programs", f"missing: {missing}" if missing else "all", "all", not missing, UP)
    if os.geteuid() != 0:
        yield make_note("cluster components", "unknown: only root may look", "running", "run this as root")
        return
    yield from _running(profile, home)
    yield from _kubeconfig(home, needed)


def _running(profile: Profile, home: Home) -> Iterator[Check]:
    report = read_cluster_status(profile, home)
    stopped = ", ".join(each.name for each in report.components if not each.running)
    yield check("cluster components", f"stopped: {stopped}" if stopped else "running", "running", not stopped, UP)
    node, log = report.node, Place.of(home).log
    state = f"ready, {node.version}" if node.ready else f"not ready: {node.why}"
    yield check("cluster node", state, "ready", node.ready, f"{UP}; if it runs, see kubelet.log in {log}")


def _kubeconfig(home: Home, needed: tuple[str, ...]) -> Iterator[Check]:
    """Check the file, and read the environments' namespaces with the credentials in it."""
    name, requirement = "cluster kubeconfig", "accepted, with every environment's namespace"
    file = find_kubeconfig(home)
    if file is None:
        yield check(name, "none", requirement, False, UP)
        return
    try:
        client = ClusterClient.of_context(file, None)
        missing = [each for each in ("default", *needed) if client.read(NAMESPACES, each) is None]
    except SupplyChainError as error:
        yield check(name, format_error_message(error), requirement, False, f"{UP}, which renews it")
        return
    yield check(name, f"no namespace {', '.join(missing)}" if missing else requirement, requirement, not missing, UP)
