"""The settings of a delivery by git."""

import pytest
from pydantic import ValidationError

from supply_chain.execution.delivery.settings import ArgoApplication, GitDelivery


def test_environment_names_one_controller_of_its_repository():
    """Two would undo what the other does."""
    flux, argo = {"namespace": "flux-system", "name": "shop"}, {"namespace": "argocd", "name": "shop"}
    git = {"repository": "e", "path": "a", "kind": "helm"}

    assert GitDelivery.model_validate({**git, "argo": argo}).argo == ArgoApplication(namespace="argocd", name="shop")
    with pytest.raises(ValidationError, match="write `flux` or `argo`"):
        GitDelivery.model_validate({**git, "flux": flux, "argo": argo})
