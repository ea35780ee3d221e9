"""Tiny models with random weights that read images, of each architecture that the import takes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, Idefics3Config, Qwen2_5_VLConfig, Qwen3VLConfig
from transformers.models.auto.modeling_auto import AutoModelForImageTextToText

from infra.images import store_image

BASE = Path("steps/nano_world/checkpoint")
QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
IDEFICS_TOKENS = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATCHES = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    # vLLM's attention on a CPU takes heads of 32 and more.
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}


def write_tokenizer(folder: Path, tokens: list[str], image: str) -> list[int]:
    """The nano base's tokenizer with more tokens, and a template for images. Returns the tokens' ids."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.chat_template = TEMPLATE.replace("IMAGE", image)
    tokenizer.save_pretrained(folder)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return [vocabulary[token] for token in tokens]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))


def _write_model(folder: Path, config: Any, seed: int) -> Path:
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Random images must change what a random model says by far more than rounding does.
                parameter.mul_(3)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    return folder


def _qwen(folder: Path, kind: str, config: Callable[[dict[str, Any]], Any]) -> Path:
    start, end, image, video = write_tokenizer(folder, QWEN_TOKENS, QWEN_IMAGE)
    limits = {"shortest_edge": 16 * 16, "longest_edge": 128 * 128}
    mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    common = {**PATCHES, **mean, "size": limits, "processor_class": f"{kind}Processor"}
    _write_json(
        folder / "preprocessor_config.json", {**common, "image_processor_type": "Qwen2VLImageProcessor", **common}
    )
    video_kind = "Qwen3VLVideoProcessor" if kind.startswith("Qwen3") else "Qwen2VLVideoProcessor"
    _write_json(folder / "video_preprocessor_config.json", {**common, "video_processor_type": video_kind})
    ids = {
        "image_token_id": image,
        "video_token_id": video,
        "vision_start_token_id": start,
        "vision_end_token_id": end,
        "tie_word_embeddings": True,
    }
    return _write_model(folder, config({**ids, "vocab_size": video + 5}), seed=1)


QWEN_TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def qwen2_5_vl(folder: Path) -> Path:
    """Qwen2.5-VL."""

    def config(ids: dict[str, Any]) -> Any:
        vocabulary = ids.pop("vocab_size")
        text = {**TEXT, "vocab_size": vocabulary, "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}
        vision = {
            **QWEN_TOWER,
            "spatial_patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        }
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)

    return _qwen(folder, "Qwen2_5_VL", config)


def qwen3_vl(folder: Path) -> Path:
    """Qwen3-VL, whose images go into several layers."""

    def config(ids: dict[str, Any]) -> Any:
        vocabulary = ids.pop("vocab_size")
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
        text = {**TEXT, "vocab_size": vocabulary, "head_dim": 32, "rope_parameters": rope}
        vision = {
            **QWEN_TOWER,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        }
        return Qwen3VLConfig(text_config=text, vision_config=vision, **ids)

    return _qwen(folder, "Qwen3VL", config)


def idefics3(folder: Path) -> Path:
    """Idefics3: SigLIP and a Llama, images of one size cut into tiles."""
    rows = [f"<row_{i + 1}_col_{j + 1}>" for i in range(4) for j in range(4)]
    image, *others = write_tokenizer(folder, [*IDEFICS_TOKENS, *rows], "<image>")
    _write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Idefics3ImageProcessor",
            "processor_class": "Idefics3Processor",
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_resize": True,
            "do_pad": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "max_image_size": {"longest_edge": 32},
            "size": {"longest_edge": 64},
        },
    )
    _write_json(folder / "processor_config.json", {"image_seq_len": 4, "processor_class": "Idefics3Processor"})
    text = {**TEXT, "model_type": "llama", "vocab_size": max([image, *others]) + 3}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    return _write_model(folder, config, seed=2)


MODELS: dict[str, Callable[[Path], Path]] = {"qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl, "idefics3": idefics3}


def draw(folder: Path, number: int, size: tuple[int, int] = (40, 24)) -> str:
    """Store a picture that no other number has. Returns its address."""
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return store_image(Image.fromarray(pixels.numpy(), "RGB"), folder)


def with_processor_setting(model: Path, folder: Path, **settings: Any) -> Path:
    """A copy of a model whose image processor is set otherwise."""
    shutil.copytree(model, folder)
    path = folder / "preprocessor_config.json"
    _write_json(path, {**json.loads(path.read_bytes()), **settings})
    return folder
