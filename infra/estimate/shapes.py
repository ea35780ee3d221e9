"""The shape of a dense decoder: what its weights, its KV cache and its passes are computed from.

Read from the checkpoint's own config.json where it lies in a folder or in the hub's cache; the few that the shipped
recipes name are known besides, so that they can be estimated before anything is downloaded.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from infra.configs import Frozen
from infra.errors import LonghaulError
from infra.estimate.vision import VisionShape, vision_from_config

_FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "qwen2_5_vl", "qwen2_5_vl_text")
"""Model types whose layers are attention with grouped keys and a gated MLP, as the formulas assume."""

_SEES = "qwen2_5_vl"
"""The model type whose vision tower the formulas are of."""

_SEE_OTHERWISE = ("qwen3_vl", "idefics3")
"""Model types that are imported with towers of another form."""


class ShapeUnknown(LonghaulError, ValueError):
    """A model's shape cannot be had; the message says why, and the way out."""


@dataclass(frozen=True)
class ModelShape:
    """A decoder's sizes."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool
    """Whether input and output embedding are one matrix."""
    bias: bool
    """Whether queries, keys and values have a bias, as Qwen2's have."""
    head_norms: bool = False
    """Whether queries and keys are normalised per head, as Qwen3's are."""
    vision: VisionShape | None = None
    """The vision tower of a model that reads images."""

    @property
    def query(self) -> int:
        """Width of all heads' queries."""
        return self.heads * self.head_size

    @property
    def key_value(self) -> int:
        """Width of all heads' keys, or values."""
        return self.kv_heads * self.head_size

    @property
    def layer_matrices(self) -> int:
        """Weights of a layer's matrices."""
        return 2 * self.hidden * (self.query + self.key_value) + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """All weights; tied ones count once."""
        return self.language + (self.vision.parameters if self.vision else 0)

    @property
    def language(self) -> int:
        """Weights of the language model."""
        small = 2 * self.hidden
        small += self.query + 2 * self.key_value if self.bias else 0
        small += 2 * self.head_size if self.head_norms else 0
        embeddings = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return embeddings + self.layers * (self.layer_matrices + small) + self.hidden

    @property
    def multiplied(self) -> int:
        """Weights that each token is multiplied with: all matrices and the output embedding, not the input's rows."""
        return self.layers * self.layer_matrices + self.vocabulary * self.hidden

    def trained(self, freeze: Frozen) -> int:
        """Weights that are trained where a part is frozen."""
        frozen = {"none": 0, "language": self.language, "vision": self.parameters - self.language}
        return self.parameters - frozen[freeze]

    def kv_bytes(self, width: int, tensor_parallel: int = 1) -> float:
        """Bytes of KV cache per token on each of an engine's GPUs. A GPU holds at least one whole head."""
        return 2 * self.layers * self.head_size * max(1.0, self.kv_heads / tensor_parallel) * width

    def forward_flops(self, context: float) -> float:
        """Operations of a forward pass per token that attends to `context` tokens: 2 per weight, 4 per key."""
        return 2 * self.multiplied + 4 * self.layers * self.query * context


_SEVEN_B = ModelShape(3584, 28, 28, 4, 128, 18944, 152064, tied=False, bias=True)

KNOWN = {
    "Qwen/Qwen2.5-0.5B": ModelShape(896, 24, 14, 2, 64, 4864, 151936, tied=True, bias=True),
    "Qwen/Qwen2.5-1.5B": ModelShape(1536, 28, 12, 2, 128, 8960, 151936, tied=True, bias=True),
    "Qwen/Qwen2.5-7B": _SEVEN_B,
    "Qwen/Qwen2.5-VL-7B-Instruct": replace(
        _SEVEN_B, vision=VisionShape(1280, 32, 16, 3420, patch=14, merge=2, window=112, whole=4, out=3584)
    ),
}
"""From the config.json of each repository on the hub (Qwen2.5 technical report, arXiv 2412.15115, table 1; Qwen2.5-VL
technical report, arXiv 2502.13923, table 1, whose width of the tower's MLP, 3456, is 3420 in the weights)."""


def shape_of(checkpoint: str, revision: str | None = None) -> ModelShape:
    """The shape of a checkpoint: a folder, or owner/name on the hub. Raises ShapeUnknown; downloads nothing."""
    folder = Path(checkpoint).expanduser()
    if (folder / "config.json").is_file():
        return _from_file(folder / "config.json")
    try:
        cached = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return _from_file(Path(cached))
    if checkpoint in KNOWN:
        return KNOWN[checkpoint]
    raise ShapeUnknown(
        f"import_checkpoint.checkpoint is {checkpoint}, whose config.json is neither in that folder nor in the hub's "
        f"cache, and it is none of the known ones ({', '.join(KNOWN)}): download its config.json, or run the import "
        "first (longhaul run --until import)"
    )


def _from_file(path: Path) -> ModelShape:
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ShapeUnknown(f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise ShapeUnknown(f"{path} holds no object")
    if raw.get("model_type") in _SEE_OTHERWISE:
        raise ShapeUnknown(
            f"{path}: model_type is {raw['model_type']!r}, and of vision towers the formulas hold for {_SEES}'s alone"
        )
    text = raw.get("text_config") or raw
    shape = from_config({"tie_word_embeddings": raw.get("tie_word_embeddings", False), **text}, str(path))
    if raw.get("model_type") != _SEES:
        return shape
    try:
        return replace(shape, vision=vision_from_config(raw["vision_config"], shape.hidden))
    except (KeyError, TypeError, ValueError) as error:
        raise ShapeUnknown(
            f"{path}: {type(error).__name__}: {error}; expected vision_config as Qwen2.5-VL has it"
        ) from error


def from_config(config: dict[str, Any], where: str) -> ModelShape:
    """The shape from a config.json's fields. Raises ShapeUnknown for another family, or a field that is missing."""
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ShapeUnknown(f"{where}: model_type is {family!r}, and the formulas hold for {', '.join(_FAMILIES)}")
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return ModelShape(
            hidden=hidden,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            bias=family in ("qwen2", "qwen2_5_vl", "qwen2_5_vl_text") or bool(config.get("attention_bias", False)),
            head_norms=family == "qwen3",
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ShapeUnknown(f"{where}: {type(error).__name__}: {error}; expected a model's config.json") from error
