"""The shape of a vision tower, and what it takes: weights, passes, and what it keeps for the backward pass.

The formulas are those of Qwen2.5-VL's tower (arXiv 2502.13923): layers of attention within windows, some over the whole
image, a gated MLP with biases, and a projection that joins neighbouring patches to one token of the language model.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VisionShape:
    """A vision tower's sizes."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    patch: int
    """Pixels of a patch's side."""
    merge: int
    """Patches of a side that are joined to one token."""
    window: int
    """Pixels of the side of a window of attention."""
    whole: int
    """Layers that attend to the whole image instead."""
    out: int
    """Width of the language model."""
    frames: int = 2
    """Frames in a patch; an image is repeated."""

    @property
    def patches(self) -> int:
        """Patches of a token."""
        return self.merge**2

    @property
    def unit(self) -> int:
        """Pixels of the side of the square that a token stands for."""
        return self.patch * self.merge

    @property
    def _pixels(self) -> int:
        return 3 * self.frames * self.patch**2

    @property
    def _layer_matrices(self) -> int:
        return 4 * self.hidden**2 + 3 * self.hidden * self.intermediate

    @property
    def _joined(self) -> int:
        return self.patches * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, with those of the projection."""
        biases = 4 * self.hidden + 2 * self.intermediate + self.hidden
        layers = self.layers * (self._layer_matrices + biases + 2 * self.hidden)
        projection = self._joined * (self._joined + self.out) + self._joined + self.out + self.hidden
        return self._pixels * self.hidden + layers + projection

    def forward_flops(self, image: float) -> float:
        """Operations of a forward pass per token of an image of `image` tokens: 2 per weight, 4 per key."""
        patches = image * self.patches
        keys = (self.layers - self.whole) * min(patches, (self.window / self.patch) ** 2) + self.whole * patches
        each = 2 * (self._pixels * self.hidden + self.layers * self._layer_matrices) + 4 * self.hidden * keys
        return self.patches * each + 2 * self._joined * (self._joined + self.out)

    def activation_bytes(self, numbers: int) -> float:
        """Bytes that one layer keeps for the backward pass, per patch, with `numbers` bytes each: two norms, attention,
        and the MLP. `tests/steps/estimate/test_vision.py` counts them in a real layer."""
        norms = 2 * ((4 + 2 * numbers) * self.hidden + 4)
        return norms + 7 * numbers * self.hidden + 4 * self.heads + 4 * numbers * self.intermediate

    def training_bytes(self, numbers: int, tokens: float, checkpointing: bool, trained: bool) -> float:
        """What the tower holds of images of `tokens` tokens while a micro-batch is trained on.

        With checkpointing each layer's input and one layer at work; of a frozen tower one layer's output and the widest
        part of it.
        """
        patches = tokens * self.patches
        at_work = numbers * (self.hidden + 2 * self.intermediate)
        if not trained:
            return patches * at_work
        layer = self.activation_bytes(numbers)
        if not checkpointing:
            return patches * self.layers * layer
        return patches * (self.layers * numbers * self.hidden + layer + at_work)


def vision_from_config(config: dict[str, Any], out: int) -> VisionShape:
    """The tower's shape from the `vision_config` of Qwen2.5-VL's config.json. Raises KeyError, TypeError, ValueError.

    Args:
        out: width of the language model, where the section does not say it.
    """
    return VisionShape(
        hidden=int(config["hidden_size"]),
        layers=int(config["depth"]),
        heads=int(config["num_heads"]),
        intermediate=int(config["intermediate_size"]),
        patch=int(config["patch_size"]),
        merge=int(config["spatial_merge_size"]),
        window=int(config["window_size"]),
        whole=len(config["fullatt_block_indexes"]),
        out=int(config.get("out_hidden_size") or out),
        frames=int(config.get("temporal_patch_size", 2)),
    )
