"""The images of one application in memory, on which promotions are planned."""

import pytest

from tests.support.pieces import Pieces
from tests.unit.promotion.chain import Chain


@pytest.fixture
def chain(world, make):
    return Chain(Pieces(world, make), make)
