"""The images of one application in memory, on which promotion moves are planned."""

import pytest

from tests.support.pieces import Pieces
from tests.unit.promotion.chain import Chain


@pytest.fixture
def chain(world, make):
    return Chain(Pieces(world, make), make)
