"""The nano base that sees: Qwen2.5-VL's architecture, the text base's weights, and a tower of 0.5M parameters.

The text base's vocabulary has 768 rows, of which its tokenizer uses 766: the tokens for images follow, in the two that
are left and in new rows. Everything else of the language model is the text base's, so that without an image the logits
of all its tokens are the same to the bit. A patch is 8 × 8 pixels and four of them are a token: 16 × 16 pixels.

    python -m steps.nano_world.vision_base FOLDER         # the base with an untrained tower

`vision_checkpoint/` is the one that the project ships, whose tower steps/nano_world/pretrain_vision.py has trained.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2ForCausalLM

TEXT_BASE = Path(__file__).parent / "checkpoint"
VOCABULARY = 776
PATCH, MERGE, FRAMES = 8, 2, 2
MOST_PIXELS = 256 * 256
"""Larger images are made smaller: 256 tokens of a context of 512."""
SEED = 0

START, END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    f"{{% if part.type == 'image' %}}{START}{IMAGE}{END}{{% else %}}{{{{ part.text }}}}{{% endif %}}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vision_tokenizer(base: Path = TEXT_BASE) -> Any:
    """The text base's tokenizer with the tokens for images, and a chat template that writes them."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    tokenizer.add_special_tokens({"additional_special_tokens": [START, END, IMAGE, VIDEO]})
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def vision_model(tokenizer: Any, base: Path = TEXT_BASE) -> Qwen2_5_VLForConditionalGeneration:
    """The text base in float32 with a freshly initialised tower."""
    text = Qwen2ForCausalLM.from_pretrained(base, dtype=torch.float32)
    start, end, image, video = tokenizer.convert_tokens_to_ids([START, END, IMAGE, VIDEO])
    own = text.config
    torch.manual_seed(SEED)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": own.hidden_size,
            "intermediate_size": own.intermediate_size,
            "num_hidden_layers": own.num_hidden_layers,
            "num_attention_heads": own.num_attention_heads,
            "num_key_value_heads": own.num_key_value_heads,
            "max_position_embeddings": own.max_position_embeddings,
            "rms_norm_eps": own.rms_norm_eps,
            # The rotary frequencies go to time, height and width in turn; of text all three positions are the same.
            "rope_parameters": {**(own.rope_parameters or {}), "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": own.eos_token_id,
            "pad_token_id": own.pad_token_id,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_heads": 3,
            "out_hidden_size": own.hidden_size,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "window_size": 4 * MERGE * PATCH,
            "fullatt_block_indexes": [2],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    weights = text.model.state_dict()
    rows = weights.pop("embed_tokens.weight")
    with torch.no_grad():
        table: Tensor = model.get_parameter("model.language_model.embed_tokens.weight")
        table[: len(rows)] = rows
        # The last row of the text base was never a target, so that no copy of it is sampled.
        table[len(rows) :] = rows[-1]
    model.model.language_model.load_state_dict(weights | {"embed_tokens.weight": table})
    model.generation_config.eos_token_id = own.eos_token_id
    model.generation_config.pad_token_id = own.pad_token_id
    model.generation_config.bos_token_id = None
    return model


def write_base(folder: Path, model: Qwen2_5_VLForConditionalGeneration, tokenizer: Any) -> None:
    """Write a whole checkpoint: weights in bfloat16, tokenizer, template and the processor's settings."""
    model.bfloat16().save_pretrained(folder)
    model.float()
    tokenizer.save_pretrained(folder)
    common = {
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": FRAMES,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": (MERGE * PATCH) ** 2, "longest_edge": MOST_PIXELS},
        "processor_class": "Qwen2_5_VLProcessor",
    }
    kinds = {
        "preprocessor_config.json": {"image_processor_type": "Qwen2VLImageProcessor"},
        "video_preprocessor_config.json": {"video_processor_type": "Qwen2VLVideoProcessor"},
    }
    for name, kind in kinds.items():
        (folder / name).write_text(json.dumps({**kind, **common}, indent=2) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    tokenizer = vision_tokenizer()
    write_base(folder, vision_model(tokenizer), tokenizer)


if __name__ == "__main__":
    main()
