"""Images in training rows: features of each image once in a pass, positions, and ranks without an image.

A row's image tokens take the features of the row's images in the order of appearance. The same image may stand in many
rows of a micro-batch, as it does in the responses to one prompt: the vision tower then sees it once.

Ranks compute together: one whose rows have no image runs the tower on a blank image whose features stand nowhere.
Otherwise its tower would have no gradients, and collectives of the ranks would not match.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from infra.configs import TrainerConfig
from infra.errors import LonghaulError
from infra.training.attention import Lengths
from infra.vision.architectures import folder_reads_images
from infra.vision.models import freeze
from infra.vision.processor import ImageReader, ReadImage, join_pixels


class ImagesDoNotMatch(ValueError):
    """A row's image tokens are not those of its images."""


class RowImages:
    """The images of one model's rows.

    NOTE: the model's `get_image_features` is replaced; it gives the features of the images that `inputs` was called
    for last.
    """

    def __init__(self, module: Any, model: Path) -> None:
        self.reader = ImageReader(model)
        self._model = module.model
        self._order: list[int] = []
        self._tiles: list[int] = []
        self._rope = getattr(self._model, "get_rope_index", None)
        original = self._model.get_image_features

        def in_order(*arguments: Any, example_lengths: Any = None, exchanged: Any = None, **named: Any) -> Any:
            return self._in_order(original(*arguments, **named))

        self._model.get_image_features = in_order

    def inputs(
        self,
        tokens: Int[Tensor, "rows length"],
        positions: Int[Tensor, "rows length"],
        lengths: Lengths,
        images: Sequence[ReadImage],
        blank: bool,
    ) -> dict[str, Any]:
        """What the model takes besides tokens: positions, and pixels where there are images.

        Args:
            images: of all rows, in the order of appearance.
            blank: run the tower also where there are none.

        Raises ImagesDoNotMatch.
        """
        by_name = {image.name: image for image in images}
        expected = sum(image.tokens.count(self.reader.token_id) for image in images)
        there = int((tokens == self.reader.token_id).sum())
        if expected != there:
            raise ImagesDoNotMatch(f"rows have {there} image tokens, and their {len(images)} images have {expected}")
        if not images and not blank:
            return {"position_ids": positions}
        different = list(by_name.values()) or [self.reader.blank]
        places = {name: place for place, name in enumerate(by_name)}
        self._order = [places[image.name] for image in images]
        self._tiles = [one.pixels["pixel_values"].shape[1] for one in different]
        pixels = {name: tensor.to(tokens.device) for name, tensor in join_pixels(different).items()}
        if self._rope is not None and images:
            positions = self._planes(tokens, positions, lengths, iter(images))
        return {"position_ids": positions, **pixels}

    def _planes(
        self, tokens: Tensor, positions: Tensor, lengths: Lengths, images: Iterator[ReadImage]
    ) -> Int[Tensor, "4 rows length"]:
        """The plain positions, and those of time, height and width, which each example begins at 0."""
        planes = positions[None].repeat(4, 1, 1)
        shows = tokens == self.reader.token_id
        for row, examples in enumerate(lengths):
            first = 0
            for length in examples:
                place = slice(first, first + length)
                first += length
                if not shows[row, place].any():
                    continue
                grids, left = [], int(shows[row, place].sum())
                while left > 0:
                    image = next(images)
                    grids.append(image.pixels["image_grid_thw"])
                    left -= image.tokens.count(self.reader.token_id)
                kinds = shows[row : row + 1, place].int()
                grid = torch.cat(grids).to(tokens.device)
                assert self._rope is not None
                planes[1:, row : row + 1, place] = self._rope(tokens[row : row + 1, place], kinds, grid)[0]
        return planes

    def _in_order(self, features: Any) -> Any:
        """Features of different images as the rows have them."""
        pooled = features.pooler_output
        if isinstance(pooled, Tensor):  # of tiles, of which an image has several
            starts = [sum(self._tiles[:place]) for place in range(len(self._tiles))]
            rows = [starts[place] + tile for place in self._order for tile in range(self._tiles[place])]
            features.pooler_output = pooled[torch.tensor(rows, dtype=torch.long, device=pooled.device)]
            return features
        features.pooler_output = self._choose(pooled)
        if getattr(features, "deepstack_features", None) is not None:
            features.deepstack_features = [self._choose(layer) for layer in features.deepstack_features]
        return features

    def _choose(self, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # Nothing of the blank image's features, which still lead back to the tower's weights.
        return tuple(parts[place] for place in self._order) or (parts[0][:0],)


def images_of(module: Any, model: Path, config: TrainerConfig, *, values: bool) -> RowImages | None:
    """The images of a model's rows, and what `config` freezes taken out of training; None where it reads text alone.

    Args:
        module: the model that was loaded from the folder `model`.
        values: whether it ends in one number for a row.

    Raises LonghaulError, with the key's name, for what is not done with images, or with text alone.
    """
    if not folder_reads_images(model):
        if config.freeze != "none":
            raise LonghaulError(f"freeze is {config.freeze}, and the model of {model} reads text alone: set it to none")
        return None
    if values:
        raise LonghaulError(
            "reward_models: a classic reward model is not made of a model that reads images: take the section out, and "
            "set rl.reward to rules"
        )
    if config.sequence_parallel > 1:
        raise LonghaulError(
            f"trainer.sequence_parallel is {config.sequence_parallel}, and rows of a model that reads images are not "
            "shared by ranks: set it to 1"
        )
    freeze(module.named_parameters(), config.freeze)
    return RowImages(module, model)
