"""Commands `cscm cluster up`, `down`, `kubectl` and `status`: a real Kubernetes cluster on this machine.

Each imports the laptop when it runs, because the laptop is a package that the extra `laptop` installs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cscm.options import as_json, make_progress_printer
from supply_chain.text import sanitize_text

if TYPE_CHECKING:
    from cscm_laptop.cluster.cluster import ClusterStatus


@click.group()
def cluster() -> None:
    """Start, inspect and stop a Kubernetes cluster of one node on this machine.

    \b
    Example:
      cscm cluster up
    """


@cluster.command()
def up() -> None:
    """Start the cluster, or those of its components that do not run.

    Only root can do this. The first start builds Kubernetes if its release cannot be downloaded.

    \b
    Example:
      cscm cluster up
    """
    from cscm_laptop.cluster import cluster as node  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415
    from cscm_laptop.profile import load_profile  # noqa: PLC0415

    home, say = Home.find(), make_progress_printer()
    say(f"ready; KUBECONFIG={node.start_cluster(load_profile(home.project), home, say)}")
    say("note: the next `cscm up` registers it as the cluster block `laptop`")


@cluster.command()
def down() -> None:
    """Stop the cluster and its pods, and restore what it changed on this machine.

    Its state stays: the next `cscm cluster up` starts the pods again. `cscm reset` removes it.

    \b
    Example:
      cscm cluster down
    """
    from cscm_laptop.cluster import cluster as node  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415

    node.stop_cluster(Home.find(), make_progress_printer())


@cluster.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(arguments: tuple[str, ...]) -> None:
    """Run kubectl in the cluster, as its administrator.

    \b
    Example:
      cscm cluster kubectl get pods --all-namespaces
    """
    from cscm_laptop.cluster import cluster as node  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415

    node.run_kubectl(Home.find(), arguments)


@cluster.command()
@as_json
def status(as_json: bool) -> None:
    """Show the node's state, and which components run, since when and in how much memory.

    The exit status is 1 if the node is not ready.

    \b
    Example:
      cscm cluster status --json
    """
    from cscm_laptop.cluster import cluster as node  # noqa: PLC0415
    from cscm_laptop.home import Home  # noqa: PLC0415
    from cscm_laptop.profile import load_profile  # noqa: PLC0415

    home = Home.find()
    state = node.read_cluster_status(load_profile(home.project), home)
    if as_json:
        click.echo(state.model_dump_json(indent=2))
    else:
        for line in _lines(state):
            click.echo(sanitize_text(line))
    if not state.node.ready:
        raise SystemExit(1)


def _lines(report: ClusterStatus) -> list[str]:
    lines = []
    for each in report.components:
        pid = f"pid {each.pid}" if each.pid else ""
        since = f"since {each.since.astimezone():%Y-%m-%d %H:%M:%S}" if each.since else ""
        memory = f"{each.memory} MiB" if each.running else ""
        lines.append(f"{each.name:<12} {'running' if each.running else 'stopped':<8} {pid:<12} {memory:>8} {since}")
    node = report.node
    state = f"ready, {node.version}, {node.pods} pods running" if node.ready else "not ready"
    lines.append(f"node         {state}{f': {node.why}' if node.why else ''}")
    return [*(line.rstrip() for line in lines), f"memory       {report.memory} MiB", f"KUBECONFIG={report.kubeconfig}"]


COMMANDS = (cluster,)
