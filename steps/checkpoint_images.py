"""Whether a checkpoint that reads images does so as trainer and engine need it: its processor, and passes with images.

A model's images must change what it says, an example must not depend on the images of another in its row, and a row
of several examples must give each what it has alone: positions and pixels that are put together wrongly raise nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from infra.training.attention import PACKED
from infra.training.chunked_head import without
from infra.training.images import RowImages
from infra.vision.architectures import image_tokens
from infra.vision.models import attention
from infra.vision.processor import ImageReader, ReadImage
from steps.checkpoint_forward import LEAK, LEAK_16_BIT, ROUNDING, ROUNDING_16_BIT, load_model
from steps.checkpoint_refused import CheckpointRefused, refusing

SIDES = ((64, 48), (96, 64))
"""Width and height of the images that are tried, in pixels."""


@dataclass(frozen=True)
class ImageCheck:
    """How a checkpoint reads images."""

    processor: str
    """transformers' class."""
    tokens: tuple[int, ...]
    """Tokens that stand for images of the sizes SIDES."""
    settings: dict[str, Any]
    """Of the image processor: patches, merging, and bounds of sizes."""


SETTINGS = ("patch_size", "merge_size", "temporal_patch_size", "size", "max_image_size", "do_image_splitting")


def check_images(folder: Path) -> ImageCheck:
    """Read two images and run the model on them, alone and packed. Raises CheckpointRefused naming the file."""
    with refusing("preprocessor_config.json", "the processor of its images cannot be used; download its files again"):
        reader = ImageReader(folder)
        first, second = (_read(reader, number, sides) for number, sides in enumerate(SIDES))
    _check_tokens(reader, first)
    with refusing("config.json", "the model does not run on images"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = load_model(folder, config, "auto", attn_implementation=attention(config.to_dict(), PACKED))
        images = RowImages(model, folder)
        alone, other = (_logprobs(model, images, [(one.tokens, one)])[-1] for one in (first, second))
        packed = _logprobs(model, images, [(second.tokens, second), ((), None), (first.tokens, first)])
        beside = _logprobs(model, images, [(first.tokens, first), ((), None), (first.tokens, first)])
        seen = _logprobs(model, images, [(first.tokens, _read(reader, len(SIDES), SIDES[0]))])[-1]
    name = type(model).__name__
    if not (alone.isfinite().all() and other.isfinite().all()):
        raise CheckpointRefused("config.json: the logits of a prompt with an image are NaN or infinite")
    leak, difference = _difference(packed[-1], beside[-1]), _difference(packed[-1], alone)
    # Written so that NaN is refused.
    if not (leak <= LEAK.get(model.dtype, LEAK_16_BIT) and difference <= ROUNDING.get(model.dtype, ROUNDING_16_BIT)):
        raise CheckpointRefused(
            f"config.json: {name} does not keep images apart in a packed row: an example's log-probabilities change by "
            f"{max(leak, difference):.2g} on average"
        )
    if torch.equal(alone, seen):
        raise CheckpointRefused(f"config.json: {name} says the same whatever it sees: its images reach nothing")
    settings = reader.settings(SETTINGS)
    return ImageCheck(reader.kind, (len(first.tokens), len(second.tokens)), settings)


def _check_tokens(reader: ImageReader, image: ReadImage) -> None:
    if reader.token_id not in image.tokens:
        raise CheckpointRefused(
            f"processor_config.json: {reader.kind} writes no {reader.token!r} for an image; give the tokenizer and the "
            "processor that belong to these weights"
        )


def picture(number: int, width: int, height: int) -> Any:
    """A picture of noise that no other number has."""
    from PIL import Image

    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def _read(reader: ImageReader, number: int, sides: tuple[int, int]) -> ReadImage:
    return reader.process(picture(number, *sides), f"picture {number} of the check")


@torch.inference_mode()
def logprobs_with_images(
    folder: Path, dtype: str, examples: Sequence[tuple[Sequence[int], Sequence[ReadImage]]]
) -> list[Tensor]:
    """[length, vocabulary] of each example with its images, as steps.checkpoint_forward.trainer_logprobs gives them."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model = load_model(folder, config, dtype, attn_implementation=attention(config.to_dict(), PACKED))
    images = RowImages(model, folder)
    results = []
    for example, read in examples:
        tokens, lengths = torch.tensor([list(example)]), [[len(example)]]
        positions = torch.arange(len(example))[None]
        inputs = images.inputs(tokens, positions, lengths, read, blank=False)
        logits = model(input_ids=tokens, **inputs, example_lengths=lengths, use_cache=False).logits[0]
        results.append(without(logits.double(), image_tokens(folder)).log_softmax(-1))
    return results


@torch.inference_mode()
def _logprobs(model: Any, images: RowImages, examples: list[tuple[tuple[int, ...], ReadImage | None]]) -> list[Tensor]:
    """[4, vocabulary] of each example: after its image, if it has one, come four tokens."""
    rows = [[1, 2, *tokens, 3, 4, 5, 6] for tokens, _ in examples]
    lengths = [[len(row) for row in rows]]
    tokens = torch.tensor([[token for row in rows for token in row]])
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    inputs = images.inputs(tokens, positions, lengths, [one for _, one in examples if one is not None], blank=False)
    logits = model(input_ids=tokens, **inputs, example_lengths=lengths, use_cache=False).logits[0]
    return [part[-4:].double().log_softmax(-1) for part in logits.split(lengths[0])]


def _difference(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().mean().item()
