"""Codecs of tiny ladders."""

import pytest
from tiny_ladder import TUNED, make_codec, picture, random_ladder

from vqcodec.autoencoders.ladder.codec import Coded, LadderCodec
from vqcodec.autoencoders.ladder.rate import RatePoint
from vqcodec.training.ladder import rounded


@pytest.fixture(scope="module")
def codec() -> LadderCodec:
    return make_codec(rounded(random_ladder()))


@pytest.fixture(scope="module")
def tuned() -> LadderCodec:
    return make_codec(rounded(random_ladder(config=TUNED)))


@pytest.fixture(scope="module")
def coded(codec: LadderCodec) -> Coded:
    """A picture of 100 x 75 at 2000."""
    return codec.encode(picture(100, 75), RatePoint(2000))
