"""What a whole checkpoint is: which files belong to it, and the proof that they are whole and fit each other.

The checks of check_checkpoint, in order: the weights' files are all there; the configuration names an architecture of
transformers; no file is truncated, and tensors have the names and shapes of this architecture and finite values;
tokenizer and chat template load and stay within the vocabulary; a forward pass as the trainer calls it gives finite
logits, the same packed as alone (steps/checkpoint_forward.py).

Nothing of a checkpoint is ever executed: weights are read from safetensors alone, never from pickles, and code that a
checkpoint brings along (`auto_map`) is a reason to refuse it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from infra.inference.context import longest_context
from infra.inference.end_tokens import end_tokens
from infra.vision.architectures import IMAGE_MODELS, reads_images
from infra.vision.models import is_other_image_model, model_class
from steps.checkpoint_files import INDEX, SINGLE, TOKENIZERS, belongs
from steps.checkpoint_forward import check_forward, check_trainable
from steps.checkpoint_images import ImageCheck, check_images
from steps.checkpoint_links import check_links
from steps.checkpoint_refused import CheckpointRefused, refusing
from steps.checkpoint_template import own_words, render_message
from steps.checkpoint_values import check_prompt_fits, check_values

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
FLOATS = {"BF16", "F16", "F32", "F64"}
# Caches that old checkpoints saved as weights; transformers computes them itself.
IGNORED = (r"rotary_emb\.inv_freq$",)


@dataclass(frozen=True)
class CheckedCheckpoint:
    """A checkpoint that passed every check."""

    architecture: str
    """transformers' class, as Qwen2ForCausalLM."""
    parameters: int
    """Number of weights; tied ones count once."""
    context_length: int
    """In tokens."""
    vocabulary: int
    """Rows of the embedding."""
    files: tuple[str, ...]
    """What belongs to the checkpoint, sorted; other files of the folder were not looked at."""
    unusable_tokens: tuple[str, ...]
    """Tokens of the tokenizer that have no embedding: data with one of them are refused."""
    system_prompt: str
    """What the chat template writes before each question by itself; empty for most."""
    images: ImageCheck | None = None
    """How images are read; None for a model of text alone."""


@dataclass(frozen=True)
class TokenizerCheck:
    """What the check of the tokenizer found."""

    prompt: list[int]
    """The tokens of one short question."""
    unusable: tuple[str, ...]
    """Tokens without an embedding, sorted."""
    system_prompt: str
    """What the chat template writes before each question by itself; empty for most."""


def check_checkpoint(folder: Path) -> CheckedCheckpoint:
    """Prove that a Hugging Face-format checkpoint is whole. Raises CheckpointRefused naming the file.

    Memory: the whole model, once, in its own precision.
    """
    files = select_files(folder)
    config = load_config(folder)
    check_trainable(config)
    model = _on_meta(folder, config)
    parameters = _check_weights(folder, files, model)
    vocabulary = config.get_text_config().vocab_size
    tokenizer = _check_tokenizer(folder, vocabulary)
    check_prompt_fits(tokenizer.prompt, context_of(config))
    check_forward(folder, tokenizer.prompt)
    images = check_images(folder) if reads_images(config.to_dict()) else None
    return CheckedCheckpoint(
        architecture=type(model).__name__,
        parameters=parameters,
        context_length=context_of(config),
        vocabulary=vocabulary,
        files=tuple(files),
        unusable_tokens=tokenizer.unusable,
        system_prompt=tokenizer.system_prompt,
        images=images,
    )


def select_files(folder: Path, left_out: Iterable[str] = ()) -> list[str]:
    """The files of a folder that make up its checkpoint, sorted.

    `left_out` are files that were at its source and were not brought here. Raises CheckpointRefused where weights are
    missing, a JSON file cannot be read, or the checkpoint brings code.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    names = sorted(name for name, path in paths.items() if path.is_file())
    check_links(folder, sorted(name for name, path in paths.items() if path.is_symlink() and belongs(name)))
    _check_kind(names, paths)
    weights = set(_weight_files(folder, names, [*names, *left_out]))
    chosen = [name for name in names if belongs(name) and (not name.endswith(".safetensors") or name in weights)]
    if "config.json" not in chosen:
        raise CheckpointRefused("config.json is missing: give the folder of a checkpoint in the Hugging Face format")
    for name in chosen:
        if name.endswith(".json"):
            _check_json(folder / name)
    return chosen


def _check_kind(names: Sequence[str], everything: Iterable[str]) -> None:
    """Refuse what is not a whole model, or not as weights that can be trained, and say what it is."""
    if "snapshots" in everything and "config.json" not in names:
        raise CheckpointRefused(
            "snapshots: this is a repository's folder in the hub's cache; give the folder of one commit inside of "
            "snapshots/, or the repository's name as owner/name"
        )
    if "adapter_config.json" in names:
        raise CheckpointRefused(
            "adapter_config.json: this is an adapter (LoRA), not a model; merge it into its base (peft's "
            "merge_and_unload), save that with save_pretrained, and import the result; "
            "if the folder holds a whole model as well that is meant without it, take the file out"
        )
    for name, method in {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ"}.items():
        if name in names:
            raise CheckpointRefused(
                f"{name}: the weights are quantised ({method}), and training needs them whole; use the checkpoint in "
                "bfloat16, float16 or float32"
            )
    gguf = [name for name in names if name.endswith(".gguf")]
    if gguf and not any(name.endswith((".safetensors", *PICKLES)) for name in names):
        raise CheckpointRefused(
            f"{gguf[0]}: GGUF is llama.cpp's format, quantised for most models; use the checkpoint in the Hugging Face "
            "format that it was made from"
        )


def load_config(folder: Path) -> PreTrainedConfig:
    """The checkpoint's configuration. Raises CheckpointRefused where transformers has no such causal language model."""
    with refusing("config.json", "its values cannot be read"):
        check_values(folder)
    with refusing("config.json", "transformers cannot read it; use a checkpoint of an architecture that it has"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    names: list[str] = config.architectures or []
    known = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(), *IMAGE_MODELS}
    if len(names) == 1 and is_other_image_model(names[0]):
        raise CheckpointRefused(
            f"config.json: {names[0]} reads images in a way that is not trained here; use a checkpoint of "
            f"{', '.join(IMAGE_MODELS)}, or a language model's"
        )
    if len(names) != 1 or names[0] not in known:
        raise CheckpointRefused(
            f"config.json: architectures is {list(names)}, expected one causal language model of transformers "
            "(a name like Qwen2ForCausalLM); use a language model's checkpoint"
        )
    text = config.get_text_config()
    for key in ("max_position_embeddings", "vocab_size"):
        if not isinstance(getattr(text, key, None), int):
            raise CheckpointRefused(f"config.json: {key} is missing; add it, or use another checkpoint")
    return config


def context_of(config: PreTrainedConfig) -> int:
    """The longest context of a configuration that load_config has accepted, in tokens."""
    longest = longest_context(config.to_dict())
    assert longest is not None
    return longest


def _check_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, which must neither ask for code nor for a quantised model."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{path.name}: not JSON ({error}); download the file again") from error
    if not isinstance(content, dict):
        raise CheckpointRefused(f"{path.name}: expected an object, found {type(content).__name__}")
    if content.get("auto_map"):
        raise CheckpointRefused(
            f"{path.name}: auto_map asks to run code that comes with the checkpoint, which is never done; use a "
            "checkpoint of an architecture that transformers has, or take auto_map out if it has this one by now"
        )
    if content.get("quantization_config"):
        raise CheckpointRefused(
            f"{path.name}: quantization_config says that the weights are quantised, and training needs them whole; use "
            "the checkpoint in bfloat16, float16 or float32"
        )
    return content


def _weight_files(folder: Path, names: Sequence[str], everywhere: Sequence[str]) -> list[str]:
    if INDEX not in names:
        if SINGLE in names:
            return [SINGLE]
        pickles = sorted(name for name in everywhere if name.endswith(PICKLES))
        if pickles:
            raise CheckpointRefused(
                f"{pickles[0]}: weights in a pickle can run code when they are loaded, and there are no safetensors "
                "beside it; convert it on a machine that you can lose, with save_pretrained, and import the result"
            )
        raise CheckpointRefused(f"neither {SINGLE} nor {INDEX} is there: give a folder with weights in safetensors")
    weight_map = _check_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointRefused(f"{INDEX}: weight_map is missing or empty; download the file again")
    shards = sorted({str(shard) for shard in weight_map.values()})
    if SINGLE in names and SINGLE not in shards:
        raise CheckpointRefused(
            f"{SINGLE} and {INDEX} are both there and may hold different weights: remove the one that is not meant"
        )
    for shard in shards:
        if "/" in shard or not shard.endswith(".safetensors"):
            raise CheckpointRefused(f"{INDEX}: {shard!r} is not the name of a safetensors file beside it")
        if shard not in names:
            raise CheckpointRefused(f"{shard} is missing, and {INDEX} lists it: download it again")
    return shards


def _on_meta(folder: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The architecture without weights."""
    with refusing("config.json", "transformers cannot build this architecture"), torch.device("meta"):
        model: PreTrainedModel = model_class(config.to_dict()).from_config(config, trust_remote_code=False)
    if [type(model).__name__] != config.architectures:
        raise CheckpointRefused(
            f"config.json: architectures is {config.architectures}, and its model_type {config.model_type!r} is "
            f"{type(model).__name__}: correct the wrong one"
        )
    return model


def _check_weights(folder: Path, files: Sequence[str], model: PreTrainedModel) -> int:
    """Compare every tensor with the architecture's; returns the number of weights."""
    # transformers renames and fuses some weights (experts, for one) when it loads them: undo that, as saving does.
    state, tied = model.state_dict(), set(model.all_tied_weights_keys)
    possible = revert_weight_conversion(model, state)
    needed = revert_weight_conversion(model, {name: tensor for name, tensor in state.items() if name not in tied})
    ignored = [re.compile(p) for p in (*IGNORED, *(model._keys_to_ignore_on_load_unexpected or ()))]
    index: dict[str, str] = json.loads((folder / INDEX).read_bytes())["weight_map"] if INDEX in files else {}
    file_of: dict[str, str] = {}
    for file in files:
        if not file.endswith(".safetensors"):
            continue
        try:
            with safe_open(folder / file, "pt") as shard:
                for name in shard.keys():  # noqa: SIM118 - not a mapping
                    if file_of.setdefault(name, file) != file:
                        raise CheckpointRefused(
                            f"{file}: tensor {name} is in {file_of[name]} as well; remove one shard"
                        )
                    if index and index.get(name) != file:
                        raise CheckpointRefused(
                            f"{file}: tensor {name} is here, and {INDEX} has it in {index.get(name)}"
                        )
                    if name in possible:
                        _check_tensor(file, name, shard, possible[name])
                    elif not any(pattern.search(name) for pattern in ignored):
                        raise CheckpointRefused(
                            f"{file}: tensor {name} is not part of {type(model).__name__} as config.json describes it; "
                            "give the config.json that belongs to these weights"
                        )
        except SafetensorError as error:
            size = (folder / file).stat().st_size
            raise CheckpointRefused(
                f"{file}: its header does not describe its {size} bytes, so it is truncated or damaged ({error}); "
                "download it again"
            ) from error
    for name in needed:
        if name not in file_of:
            where = index.get(name, INDEX if index else SINGLE)
            head = ", or set tie_word_embeddings to true in config.json if the embedding is the head as well"
            raise CheckpointRefused(
                f"{where}: tensor {name} of {type(model).__name__} is missing; download it again"
                f"{head if name == 'lm_head.weight' else ''}"
            )
    _check_tied(folder, model, file_of)
    return sum(tensor.numel() for tensor in needed.values())


def _check_tied(folder: Path, model: PreTrainedModel, file_of: Mapping[str, str]) -> None:
    """Refuse a tensor that is saved beside the one that it is tied to, and differs: training would drop the tie."""
    for name, source in model.all_tied_weights_keys.items():
        if name not in file_of or source not in file_of:
            continue
        if not torch.equal(_tensor(folder, file_of, name), _tensor(folder, file_of, source)):
            raise CheckpointRefused(
                f"{file_of[name]}: tensor {name} differs from {source}, and config.json ties them "
                "(tie_word_embeddings); set it to false if the tensor is meant, or take the tensor out"
            )


def _tensor(folder: Path, file_of: Mapping[str, str], name: str) -> torch.Tensor:
    with safe_open(folder / file_of[name], "pt") as shard:
        return cast(torch.Tensor, shard.get_tensor(name))


def _check_tensor(file: str, name: str, shard: safe_open, expected: torch.Tensor) -> None:
    view = shard.get_slice(name)
    if view.get_shape() != list(expected.shape):
        raise CheckpointRefused(
            f"{file}: tensor {name} has shape {view.get_shape()}, and config.json asks for {list(expected.shape)}; "
            "give the config.json that belongs to these weights"
        )
    if not expected.is_floating_point():
        return
    if view.get_dtype() not in FLOATS:
        raise CheckpointRefused(
            f"{file}: tensor {name} is {view.get_dtype()}, expected one of {', '.join(sorted(FLOATS))}; use the "
            "checkpoint that is not quantised"
        )
    # Minimum and maximum carry NaN and infinity, and unlike isfinite they need no second tensor.
    tensor = shard.get_tensor(name)
    if tensor.numel() and not all(bound.isfinite() for bound in tensor.aminmax()):
        raise CheckpointRefused(f"{file}: tensor {name} has values that are NaN or infinite; use an earlier checkpoint")


def _check_tokenizer(folder: Path, vocabulary: int) -> TokenizerCheck:
    # transformers makes up an empty tokenizer where there is none.
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        raise CheckpointRefused(
            "tokenizer.json is missing, and so is every older form of it: take the tokenizer's files from the "
            "checkpoint that this one was made from"
        )
    with refusing("tokenizer.json", "transformers cannot load the tokenizer; download its files again"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise CheckpointRefused(
            "chat_template.jinja is missing: add the chat template of a model of the same family, whose special tokens "
            "the tokenizer has"
        )
    with refusing("chat_template.jinja", "no template has the name 'default'"):
        template = tokenizer.get_chat_template()
    if tokenizer.eos_token_id is None:
        raise CheckpointRefused("tokenizer_config.json: eos_token is missing, so responses would never end; add it")
    with refusing("config.json", "its end tokens cannot be used"):
        last = max(end_tokens(folder, tokenizer.eos_token_id))
    if last >= vocabulary:
        raise CheckpointRefused(
            f"config.json: end token {last} (eos_token_id, also of generation_config.json) is not in the vocabulary "
            f"of {vocabulary}; correct it"
        )
    # Tokens that were added later and have no embedding must not occur in data; Gemma 3's text models have one such.
    outside = {name: number for name, number in tokenizer.get_vocab().items() if number >= vocabulary}
    for name, number in outside.items():
        if number not in tokenizer.added_tokens_decoder:
            raise CheckpointRefused(
                f"tokenizer.json: token {name!r} has id {number}, and config.json has a vocabulary of {vocabulary}; "
                "give the tokenizer that belongs to these weights"
            )
    text = render_message(template, tokenizer.special_tokens_map)
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if max(tokens) >= vocabulary:
        raise CheckpointRefused(
            f"chat_template.jinja: it writes the token {tokenizer.convert_ids_to_tokens(max(tokens))!r}, whose id "
            f"{max(tokens)} is outside of the vocabulary of {vocabulary} in config.json; give the tokenizer and the "
            "template that belong to these weights"
        )
    special = {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())}
    return TokenizerCheck(tokens, tuple(sorted(outside)), own_words(text, special))
