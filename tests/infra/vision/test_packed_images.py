"""Rows with images: what an example comes to must not depend on what else is in its row, for each architecture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from infra.training.attention import PACKED
from infra.training.images import ImagesDoNotMatch, RowImages
from infra.vision.models import attention, model_class
from steps.packing import PackedRows, pack
from steps.token_example import TokenExample
from tests.vision_models import MODELS, draw

SIZES = ((40, 24), (33, 21), (64, 32), (16, 16))
PICTURES: tuple[list[int], ...] = ([0], [], [1, 2, 0], [3, 3], [0])
"""The pictures of each example: none, several, and one that stands in several examples."""
Loaded = tuple[Any, RowImages, list[TokenExample]]


@pytest.fixture(scope="module", params=list(MODELS))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = MODELS[request.param](tmp_path_factory.mktemp(request.param))
    config = json.loads((folder / "config.json").read_bytes())
    model = model_class(config).from_pretrained(folder, attn_implementation=attention(config, PACKED)).eval()
    images = RowImages(model, folder)
    data = tmp_path_factory.mktemp("data")
    pictures = [data / draw(data, number, size) for number, size in enumerate(SIZES)]
    around = ([766], [767]) if request.param.startswith("qwen") else ([], [])
    return model, images, [_example(seed, images, pictures, places, around) for seed, places in enumerate(PICTURES)]


def _example(
    seed: int, images: RowImages, pictures: list[Path], places: list[int], around: tuple[list[int], list[int]]
) -> TokenExample:
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(5, 700, (count,), generator=generator).tolist()

    tokens = words(4)
    for place in places:
        tokens += [*around[0], *images.reader.tokens(pictures[place]), *around[1], *words(3)]
    return TokenExample([*tokens, *words(6 + seed)], len(tokens), images=tuple(pictures[place] for place in places))


def _logprobs(model: Any, images: RowImages, rows: PackedRows, blank: bool = False) -> Tensor:
    read = [images.reader.read(image) for image in rows.images]
    inputs = images.inputs(rows.tokens, rows.positions, rows.example_lengths, read, blank)
    logits = model(input_ids=rows.tokens, **inputs, example_lengths=rows.example_lengths, use_cache=False).logits
    return logits[:, :-1].log_softmax(-1).gather(-1, rows.tokens[:, 1:, None])[..., 0]


def _sums_and_gradients(loaded: Loaded, batches: Sequence[Sequence[TokenExample]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of each example's log-probabilities, in order, and the gradients of all weights."""
    model, images, _ = loaded
    model.zero_grad()
    sums = []
    for batch in batches:
        for rows in pack(batch, 200, 4):
            values = rows.per_example(_logprobs(model, images, rows), len(batch))
            values.sum().backward()
            sums.append(values.detach())
    return torch.stack(sums).sum(0) if len(batches) == 1 else torch.cat(sums), {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }


def test_an_example_with_images_has_the_same_likelihood_and_gradients_packed_as_alone(loaded: Loaded) -> None:
    examples = loaded[2]
    packed, packed_gradients = _sums_and_gradients(loaded, [examples])
    alone, alone_gradients = _sums_and_gradients(loaded, [[example] for example in examples])
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-6)
    assert packed_gradients.keys() == alone_gradients.keys()
    for name, gradient in alone_gradients.items():
        assert (packed_gradients[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name
    seen = [name for name in alone_gradients if "visual" in name or "vision_model" in name]
    assert seen and all(alone_gradients[name].any() for name in seen if "qkv.bias" not in name and "k_proj" not in name)


def test_an_example_does_not_see_the_pictures_of_its_neighbour(loaded: Loaded) -> None:
    model, images, examples = loaded
    with torch.no_grad():
        sums = []
        for neighbour in (examples[3], examples[4]):
            (rows,) = pack([examples[0], neighbour], 400, 1)
            sums.append(rows.per_example(_logprobs(model, images, rows), 2)[0])
    torch.testing.assert_close(sums[0], sums[1], atol=1e-4, rtol=1e-6)


def test_a_blank_image_reaches_every_weight_of_the_tower_and_changes_nothing(loaded: Loaded) -> None:
    model, images, examples = loaded
    (rows,) = pack([examples[1]], 200, 1)
    plain = _logprobs(model, images, rows)
    model.zero_grad()
    blank = _logprobs(model, images, rows, blank=True)
    assert torch.equal(plain, blank)
    blank.sum().backward()
    tower = {n: p for n, p in model.named_parameters() if "visual" in n or "vision_model" in n or "connector" in n}
    assert tower and all(p.grad is not None and not p.grad.any() for p in tower.values())


def test_rows_whose_images_are_missing_or_too_many_are_refused(loaded: Loaded) -> None:
    _, images, examples = loaded
    (rows,) = pack([examples[0]], 200, 1)
    read = images.reader.read(rows.images[0])
    for wrong in ([], [read, read]):
        with pytest.raises(ImagesDoNotMatch, match="image tokens"):
            images.inputs(rows.tokens, rows.positions, rows.example_lengths, wrong, False)
