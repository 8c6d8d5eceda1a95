"""Makes readable names for runs, such as `chain hello 3f2a1c0`; they never make a run fail."""

from __future__ import annotations

import re
from pathlib import Path

from prefect.runtime import flow_run

from supply_chain.model.image import parse_application_name
from supply_chain.text import sanitize_text

REVISION = re.compile("[0-9a-f]{40}")
DIGEST = re.compile("@sha256:[0-9a-f]{64}$")


def name_run_by_path() -> str:
    """Return `chain hello 3f2a1c0`: the flow, the directory, and the revision if one is given.

    Nothing is read from the source for the name: only the snapshot of the source counts, and it is taken later.
    """
    parameters = flow_run.parameters
    revision = str(parameters.get("revision") or "")
    short = revision[:7] if REVISION.fullmatch(revision) else revision[:100]
    words = (flow_run.flow_name, Path(str(parameters.get("path", "."))).name[:100], short)
    return sanitize_text(" ".join(word for word in words if word))


def name_run_by_image() -> str:
    """Return `curate hello 0123456789ab`, with the environment that it goes to or comes from, if there is one."""
    parameters = flow_run.parameters
    words = [flow_run.flow_name, *_name_image(str(parameters.get("image", "")))]
    if "environment" in parameters:
        words += ["to", str(parameters["environment"])]
    if parameters.get("after"):
        words += ["after", str(parameters["after"])]
    return sanitize_text(" ".join(word for word in words if word))


def name_run_by_parameters() -> str:
    """Return `rescan openssl` or `inventory hello`: the flow, and its subject if that is not everything."""
    values = [each for each in flow_run.parameters.values() if each and each is not True]
    words = [str(word) for each in values for word in (each if isinstance(each, list) else [each])]
    named = [" ".join(_name_image(word)) if DIGEST.search(word) else word for word in words]
    return sanitize_text(" ".join([flow_run.flow_name, *named]))[:200]


def _name_image(image: str) -> tuple[str, str]:
    """Return the application of an image, and the first twelve digits of its digest."""
    repository, _, digest = image.rpartition("@")
    return parse_application_name(repository), digest.removeprefix("sha256:")[:12]
