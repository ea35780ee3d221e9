"""Ranks of which some have images in their micro-batches and others none: they must neither wait for ever nor drift."""

import os
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
import torch

from infra.configs import TrainerConfig
from infra.errors import LonghaulError
from infra.training.ranks import TrainerRanks
from infra.training.trainer import Trainer
from infra.vision.models import is_vision
from steps.packing import PackedRows, pack
from steps.supervised import response_loss
from steps.token_example import TokenExample
from tests.vision_models import draw, qwen2_5_vl

RUNS = range(int(os.environ.get("LONGHAUL_MIXED_RANKS_RUNS", "1")))
"""LONGHAUL_MIXED_RANKS_RUNS=20 trains ranks on as many random mixtures, five times with each stage of ZeRO."""
STAGES: tuple[Literal[0, 1, 2, 3], ...] = (3, 0, 1, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen2_5_vl(tmp_path_factory.mktemp("model"))


def batches(model: Path, data: Path) -> list[PackedRows]:
    """Three micro-batches, of which the second alone has images."""
    from infra.vision.processor import ImageReader

    picture = data / draw(data, 1)
    tokens = [5, 6, 766, *ImageReader(model).tokens(picture), 767, 8]
    seen = TokenExample([*tokens, 9, 10, 11], len(tokens), images=(picture,))
    plain = [TokenExample(list(range(5 + n, 30 + n)), 4) for n in range(2)]
    return [rows for one in (plain[0], seen, plain[1]) for rows in pack([one], 64, 1)]


@pytest.mark.parametrize("freeze", ["vision", "language"])
def test_what_is_frozen_stays_and_the_rest_is_trained_also_on_rows_without_images(
    freeze: Any, model: Path, tmp_path: Path
) -> None:
    rows = batches(model, tmp_path)
    trainer = Trainer(model, TrainerConfig(freeze=freeze), seed=0)
    before = {name: tensor.clone() for name, tensor in trainer.weights()}
    trainer.step(rows, response_loss(rows), 1e-3)
    changed = {is_vision(name) for name, tensor in trainer.weights() if not torch.equal(tensor, before[name])}
    assert changed == {freeze == "language"}
    trainer.step(rows[:1], response_loss(rows[:1]), 1e-3)


def test_a_model_of_text_alone_has_nothing_to_freeze(base: Path) -> None:
    with pytest.raises(LonghaulError, match=r"freeze is language, .* reads text alone"):
        Trainer(base, TrainerConfig(freeze="language"), seed=0)


def random_batches(model: Path, data: Path, rng: Random) -> list[PackedRows]:
    """One to five micro-batches of one or two rows, of which each example has 0 to 2 images."""
    from infra.vision.processor import ImageReader

    reader = ImageReader(model)

    def example() -> TokenExample:
        pictures = [data / draw(data, rng.randrange(4)) for _ in range(rng.choice((0, 0, 1, 2)))]
        tokens = [5, 6]
        for picture in pictures:
            tokens += [766, *reader.tokens(picture), 767]
        start = len(tokens)
        return TokenExample([*tokens, *(rng.randrange(5, 200) for _ in range(8))], start, images=tuple(pictures))

    return [
        rows for _ in range(rng.randint(1, 5)) for rows in pack([example() for _ in range(rng.choice((1, 2)))], 96, 2)
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", RUNS)
def test_ranks_with_and_without_images_train_as_one_does_and_none_hangs(
    number: int, model: Path, tmp_path: Path
) -> None:
    rng = Random(number)
    steps = [batches(model, tmp_path), *(random_batches(model, tmp_path, rng) for _ in range(3))]
    alone = Trainer(model, TrainerConfig(), seed=0)
    ranks = TrainerRanks(model, TrainerConfig(ranks=2, zero_stage=STAGES[number % len(STAGES)]), seed=0)
    try:
        for rows in steps:
            expected, actual = (one.step(rows, response_loss(rows), 1e-4) for one in (alone, ranks))
            assert actual.loss == pytest.approx(expected.loss, abs=1e-4)
            assert actual.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-3)
        for rows in steps:
            before, after = (one.reference_logprobs(rows) for one in (alone, ranks))
            for own, other, batch in zip(before, after, rows, strict=True):
                assert (own - other)[batch.owners >= 0].abs().max() < 1e-3
    finally:
        ranks.close()
