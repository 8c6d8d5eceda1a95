"""Whether an API server refuses by the parameters that it has: a trial with an image that nothing admits."""

from __future__ import annotations

from collections.abc import Iterator
from secrets import token_hex

from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.admitted import Parameters
from supply_chain.execution.enforcement.installation import AdmissionCluster
from supply_chain.execution.enforcement.policies import EnforcedNamespace
from supply_chain.execution.kubernetes.cluster import POD_TEMPLATES
from supply_chain.execution.observation import Deviation
from supply_chain.model.container import Wait
from supply_chain.text import summarize_error

ATTEMPTS, PAUSE = 10, 0.5
"""How often an image is tried, and the seconds between: an API server learns of a change with a delay."""
NAME = "cscm-trial"
NOTHING = "sha256:" + "0" * 64
"""The digest of no image."""


def find_ineffective(
    place: EnforcedNamespace, parameters: Parameters, begin: str, cluster: AdmissionCluster, wait: Wait
) -> Iterator[Deviation]:
    """Yield a deviation if the API server does not refuse an image by the parameters that a namespace has now.

    The server then admits the image, or refuses it by earlier parameters, so that later blocks have no effect. Only for
    the mode `deny`; others refuse nothing. Missing parameters are another deviation. `begin` begins the repositories of
    curated images.
    """
    answer = ""
    for _ in range(ATTEMPTS):
        stored = parameters.read(place.parameters)
        if stored is None:
            return
        answer = _try_image(f"{begin}{NAME}@{NOTHING}", place.namespace, cluster)
        if f"(version {stored[1]})" in answer:
            return
        wait(PAUSE)
    why = answer or "it admits a trial image"
    yield Deviation(
        code="enforcement.ineffective",
        fact=f"the API server does not use the current list of images that {place.namespace} admits: {why}",
        remedy="Find out who removed its policies and restored them. Then run "
        f"`cscm enforce apply {place.environment}`: it gives the parameters a new name, which the API server reads.",
    )


def _try_image(image: str, namespace: str, cluster: AdmissionCluster) -> str:
    """Return why a cluster refuses an image; empty if it admits it.

    The template of a pod is judged as a pod is. It starts nothing, so that the permission to make one is enough, and
    Pod Security and quotas do not refuse it first.
    """
    template = {
        "apiVersion": POD_TEMPLATES.api_version,
        "kind": POD_TEMPLATES.name,
        "metadata": {"name": f"{NAME}-{token_hex(4)}", "namespace": namespace},
        "template": {"spec": {"containers": [{"name": "trial", "image": image}]}},
    }
    try:
        cluster.create(POD_TEMPLATES, template, dry_run=True)
    except ClusterRefused as error:
        return summarize_error(error)
    return ""
