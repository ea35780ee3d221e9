"""Values of config.json that no model can have: with them building the model hangs, or training fails later."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steps.checkpoint_refused import CheckpointRefused

RANGES = {
    re.compile(r"layers?$"): (0, 2_000),
    re.compile(r"experts$"): (0, 10_000),
    re.compile(r"^(max_position_embeddings|n_positions|n_ctx|max_seq_len)$"): (2, 100_000_000),
    re.compile(r"^(vocab_size|hidden_size|n_embd|d_model)$"): (1, 1_000_000_000),
}
"""By what a key's name matches, the smallest and largest value of a number, far above every model there is. Each layer
is a module to be built, each expert of some architectures as well, and some build a table of all positions."""
ROPE_POSITIVE = ("rope_theta", "rope_local_base_freq", "factor")
"""Numbers of RoPE that have to be above 0, wherever in config.json they stand."""


def check_values(folder: Path) -> None:
    """Refuse a config.json with impossible values. Raises CheckpointRefused naming the key, the value and the range.

    The file is read as it is, before transformers builds anything from it.
    """
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for key, value in part.items():
            for pattern, (least, most) in RANGES.items():
                if pattern.search(key) and type(value) in (int, float) and not least <= value <= most:
                    raise CheckpointRefused(
                        f"config.json: {key} is {value}, expected {least:,} to {most:,}; give the config.json that "
                        "belongs to these weights"
                    )
    _check_rope(config)


def _check_rope(part: Any) -> None:
    if isinstance(part, list):
        for each in part:
            _check_rope(each)
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key in ROPE_POSITIVE and type(value) in (int, float) and not (value > 0 and math.isfinite(value)):
            raise CheckpointRefused(
                f"config.json: {key} is {value}, expected a number above 0; give the config.json that belongs to these "
                "weights"
            )
        _check_rope(value)


def check_prompt_fits(prompt: Sequence[int], context_length: int) -> None:
    """Refuse a context that one short question does not fit into."""
    if len(prompt) >= context_length:
        raise CheckpointRefused(
            f"config.json: max_position_embeddings is {context_length}, and a prompt of one short question has "
            f"{len(prompt)} tokens; give the config.json that belongs to these weights"
        )
