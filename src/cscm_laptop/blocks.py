"""Fill the Prefect blocks from the state of a laptop; elsewhere, an operator fills them."""

from __future__ import annotations

from typing import Literal, cast

from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from prefect_docker.host import DockerHost
from pydantic import SecretStr

from blocks import Bridge, ContainerHost, Inventory, KubernetesCluster, Tier, Workbench
from blocks.register import register_types
from cscm_laptop.cluster.namespaces import BLOCK
from cscm_laptop.laptop import LaptopState
from supply_chain.adapters.aws.accounts import Identity
from supply_chain.model.tier import BASES, TierName


def make_tier_block(state: LaptopState, name: TierName) -> Tier:
    """Return the block of a tier, with its own identity and signing key and the public keys of all tiers."""
    identity = state.identities[name]
    return Tier(
        tier=name.value,
        aws=_credentials(state, identity),
        role_arn=identity.role_arn,
        registry=state.registry,
        insecure_registry=state.endpoint_url.startswith("http://"),
        signing_key=identity.signing_alias,
        trusted_keys={each.value: key_owner.public_key for each, key_owner in state.identities.items()},
        verdict_key=identity.verdict_alias,
        verdict_keys={
            each.value: key_owner.verdict_public_key
            for each, key_owner in state.identities.items()
            if key_owner.verdict_public_key
        },
        storage_key=state.storage_key if name is TierName.CURATION else None,
        content_key=state.content_key if name in (TierName.CURATION, TierName.EXECUTION) else None,
        forensics_key=state.forensics_key if name is TierName.EXECUTION else None,
    )


def make_bridge_block(state: LaptopState) -> Bridge:
    """Return the block of the bridge, with its own identity and its queues."""
    bridge = state.bridge
    return Bridge(
        aws=_credentials(state, bridge),
        role_arn=bridge.role_arn,
        push_queue=bridge.queue,
        dead_letter_queue=bridge.dead,
    )


def make_workbench_block(state: LaptopState) -> Workbench:
    """Return the block of the workbench."""
    return Workbench(
        project=str(state.project),
        tools=str(state.tools),
        database=str(state.database_directory),
        build_network=cast(Literal["default", "none"], state.build_network),
        ca_bundle=str(state.ca_bundle) if state.ca_bundle else None,
        notify=state.notify,
        lifecycle=cast(Literal["plan", "apply"], state.lifecycle),
        bases={f"{BASES}/{name}": image for name, image in state.bases.items() if image},
        registries=state.registries,
        python_indexes=state.python_indexes,
        debian_archives=state.debian_archives,
        npm_registries=state.npm_registries,
        people_owner=state.people_owner,
        installation=state.installation,
        policies_signed_since=state.policies_signed_since,
    )


def _credentials(state: LaptopState, identity: Identity) -> AwsCredentials:
    """Return an identity's credentials, to be nested in the block that uses them.

    A nested secret is kept when the block is edited in the UI.
    """
    return AwsCredentials(
        aws_access_key_id=identity.access_key_id,
        aws_secret_access_key=SecretStr(identity.secret_access_key),
        region_name=state.region,
        aws_client_parameters=AwsClientParameters(endpoint_url=state.endpoint_url),
    )


def register_laptop(state: LaptopState) -> None:
    """Register the block types and save the documents that the flows load."""
    register_types()
    for name in state.identities:
        make_tier_block(state, name).save(name.value, overwrite=True)
    make_bridge_block(state).save("bridge", overwrite=True)
    engine = DockerHost(base_url=state.engine.url)
    engine.save("laptop", overwrite=True)
    ContainerHost(docker=engine, owner=state.owner).save("laptop", overwrite=True)
    if state.kubeconfig:
        KubernetesCluster(kubeconfig=str(state.kubeconfig)).save(BLOCK, overwrite=True)
    make_workbench_block(state).save("workbench", overwrite=True)
    Inventory(address=SecretStr(state.inventory)).save("inventory", overwrite=True)
