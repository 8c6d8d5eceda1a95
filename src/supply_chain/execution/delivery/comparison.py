"""The comparison of a repository with the signed record and with what the cluster runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from supply_chain.execution.deployment import Expected
from supply_chain.execution.observation import Deviation
from supply_chain.model.image import Digest, shorten_digest


def compare_git(
    expected: Expected, in_git: Sequence[Digest], running: str, where: str, trouble: str
) -> Iterator[Deviation]:
    """Yield how git, cluster and record differ.

    `in_git` are the digests in the file of `where`, none if it cannot be read; `running` is the digest that the pods
    run, empty if none is ready. `trouble` says why there is no digest, or why the cluster does not run it.
    """
    recorded, cluster = shorten_digest(expected.digest), shorten_digest(running) if running else "nothing that is ready"
    if tuple(in_git) != (expected.digest,):
        git = ", ".join(shorten_digest(each) if each else "no digest" for each in in_git) or f"no digest ({trouble})"
        yield Deviation(
            code="drift.git",
            fact=f"git has {git}, the record {recorded}, and the cluster runs {cluster} ({where})",
            remedy="Find out who committed it; deploy the recorded image again, or the other one through the chain.",
        )
    elif running != expected.digest:
        yield Deviation(
            code="drift.undelivered",
            fact=f"git and the record have {recorded}, and the cluster runs {cluster}: {trouble} ({where})",
            remedy="Look at the controller that applies the repository, and at who changed the cluster past it.",
        )
