"""Import from a folder, on a tiny real checkpoint."""

import os
import pickle
import shutil
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2MoeConfig

from infra.store.store import Manifest, StoreError
from steps.checkpoint import check_checkpoint
from steps.checkpoint_refused import CheckpointRefused
from steps.configs.import_checkpoint import ImportConfig
from tests.steps.import_checkpoint.small_checkpoint import (
    CONTEXT,
    OTHER_FILES,
    SMALL,
    Bomb,
    edit,
    edit_weights,
    import_at,
    names,
    only_a_pickle,
    save_model,
    save_tokenizer,
)


def test_a_whole_checkpoint_is_imported_unchanged_and_described(base: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result = import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model", lines.append)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert names(tmp_path / "model") == OTHER_FILES | {"model.safetensors"}
    assert Manifest.of(tmp_path / "model") == Manifest.of(base)
    assert result.architecture == "Qwen2ForCausalLM"
    assert result.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (result.context_length, result.original_context_length) == (CONTEXT, CONTEXT)
    assert result.source == str(base)
    assert result.left_out == ()
    assert "is whole" in lines[-1]


def test_shards_of_an_index_are_imported_and_untied_weights_count_twice(sharded: Path, tmp_path: Path) -> None:
    result = import_at(ImportConfig(checkpoint=str(sharded)), tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert Manifest.of(tmp_path / "model") == Manifest.of(sharded)
    assert result.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_experts_that_transformers_fuses_when_it_loads_are_recognised(tmp_path: Path) -> None:
    experts: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    model = save_model(tmp_path, Qwen2MoeConfig(**SMALL, **experts, shared_expert_intermediate_size=16))
    assert check_checkpoint(tmp_path).parameters == sum(parameter.numel() for parameter in model.parameters())


def test_tied_embeddings_may_be_saved_twice(base: Path) -> None:
    edit_weights(
        base / "model.safetensors", lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()})
    )
    check_checkpoint(base)


def test_a_cache_that_old_checkpoints_saved_as_a_weight_is_not_a_reason_to_refuse(base: Path) -> None:
    edit_weights(
        base / "model.safetensors", lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    )
    check_checkpoint(base)


def test_pickles_beside_safetensors_are_left_out_and_never_loaded(base: Path, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "onnx/model.pkl"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_bytes(bomb)
    (base / "modeling_evil.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')")
    save_file({"x": torch.ones(1)}, base / "consolidated.safetensors")
    result = import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model")
    left_out = ("consolidated.safetensors", "modeling_evil.py", "onnx/", "optimizer.pt", "pytorch_model.bin")
    assert result.left_out == (*left_out, "training_args.bin")
    assert names(tmp_path / "model") == OTHER_FILES | {"model.safetensors"}
    assert not (tmp_path / "exploded").exists()


def test_a_snapshot_of_links_in_the_hubs_cache_is_imported_as_files(base: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--owner--name"
    shutil.copytree(base, cache / "blobs")
    (cache / "snapshots" / "c0ffee").mkdir(parents=True)
    for path in base.iterdir():
        (cache / "snapshots" / "c0ffee" / path.name).symlink_to(f"../../blobs/{path.name}")
    import_at(ImportConfig(checkpoint=str(cache / "snapshots" / "c0ffee")), tmp_path / "model")
    assert not any(path.is_symlink() for path in (tmp_path / "model").iterdir())
    assert Manifest.of(tmp_path / "model") == Manifest.of(base)


def test_a_link_out_of_the_folder_is_not_copied(base: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (base / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointRefused, match=r"LICENSE: a link to .*secret, outside"):
        import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model")
    (base / "LICENSE").unlink()
    (base / "LICENSE").symlink_to("README")
    with pytest.raises(CheckpointRefused, match="LICENSE: a link to README, which is not there"):
        import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model")
    (base / "README").write_text("inside")
    import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model")
    assert (tmp_path / "model" / "LICENSE").read_text() == "inside"


def test_a_repositorys_folder_in_the_hubs_cache_is_called_what_it_is(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "models--owner--name" / "snapshots" / "c0ffee")
    with pytest.raises(CheckpointRefused, match=r"snapshots: .*one commit"):
        check_checkpoint(tmp_path / "models--owner--name")


def test_a_head_that_is_saved_nowhere_names_the_key_that_ties_it(sharded: Path) -> None:
    for shard in sharded.glob("*.safetensors"):
        if "lm_head.weight" in load_file(shard):
            edit_weights(shard, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(CheckpointRefused, match=r"lm_head\.weight .*missing.*tie_word_embeddings to true"):
        check_checkpoint(sharded)


def test_an_added_token_without_an_embedding_is_accepted_and_reported(base: Path, tmp_path: Path) -> None:
    save_tokenizer(base, additional_special_tokens=["<user>", *(f"<{n}>" for n in range(22))])
    lines: list[str] = []
    import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model", lines.append)
    assert any(line.startswith("tokens without an embedding, refused in data: <21>") for line in lines)


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    return lambda base: edit(base / file, lambda content: content.update(changes))


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda base: edit_weights(base / "model.safetensors", change)


def spoil(tensors: dict[str, torch.Tensor], name: str, value: float) -> None:
    tensors[name].flatten()[7] = value


NORM = "model.norm.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (
        lambda b: os.truncate(b / "model.safetensors", 20_000),
        r"model\.safetensors.*20000 bytes.*truncated",
    ),
    "empty weights": (lambda b: os.truncate(b / "model.safetensors", 0), r"model\.safetensors.*truncated"),
    "longer": (lambda b: (b / "model.safetensors").open("ab").write(b"x"), r"model\.safetensors.*damaged"),
    "no weights": (lambda b: (b / "model.safetensors").unlink(), r"neither model\.safetensors nor"),
    "only a pickle": (only_a_pickle, r"pytorch_model\.bin.*pickle"),
    "nan": (weights(lambda t: spoil(t, QUERY, float("nan"))), rf"model\.safetensors: tensor {QUERY}.*NaN"),
    "infinite": (weights(lambda t: spoil(t, NORM, float("-inf"))), rf"{NORM}.*infinite"),
    "wrong shape": (weights(lambda t: t.update({NORM: torch.ones(33)})), rf"{NORM} has shape \[33\].*\[32\]"),
    "missing tensor": (weights(lambda t: t.pop(NORM)), rf"{NORM}.*missing"),
    "unknown tensor": (
        weights(lambda t: t.update(extra=torch.ones(1))),
        "tensor extra is not part of Qwen2ForCausalLM",
    ),
    "integers": (weights(lambda t: t.update({NORM: torch.ones(32, dtype=torch.int8)})), f"{NORM} is I8"),
    "overflow": (weights(lambda t: t[NORM].fill_(3e38)), "logits"),
    "no config": (lambda b: (b / "config.json").unlink(), r"config\.json is missing"),
    "config cut off": (lambda b: os.truncate(b / "config.json", 30), r"config\.json: not JSON"),
    "config a list": (lambda b: (b / "config.json").write_text("[]"), r"config\.json: expected an object"),
    "unknown architecture": (
        edited("config.json", model_type="nonsense"),
        r"config\.json: transformers cannot read it",
    ),
    "no language model": (edited("config.json", architectures=["Qwen2ForTokenClassification"]), "architectures"),
    "another architecture": (edited("config.json", architectures=["LlamaForCausalLM"]), "model_type 'qwen2'"),
    "impossible config": (edited("config.json", num_hidden_layers="two"), r"config\.json: transformers cannot"),
    "code in config": (edited("config.json", auto_map={"AutoModel": "m.M"}), r"config\.json: auto_map.*run code"),
    "code in tokenizer": (
        edited("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}),
        "tokenizer_config",
    ),
    "quantised": (edited("config.json", quantization_config={"quant_method": "gptq"}), "quantised"),
    "no tokenizer": (lambda b: (b / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
    "tokenizer cut off": (lambda b: os.truncate(b / "tokenizer.json", 99), r"tokenizer\.json: not JSON"),
    "broken tokenizer": (
        lambda b: (b / "tokenizer.json").write_text("{}"),
        r"tokenizer\.json: transformers cannot load",
    ),
    "no chat template": (lambda b: (b / "chat_template.jinja").unlink(), r"chat_template\.jinja is missing"),
    "many layers": (
        edited("config.json", num_hidden_layers=10_000_000),
        "num_hidden_layers is 10000000, expected 0 to 2,000",
    ),
    "many layers by an older name": (edited("config.json", n_layer=10_000_000), "n_layer is 10000000, expected 0 to"),
    "many experts": (edited("config.json", num_experts=10**9), "num_experts is 1000000000"),
    "negative context": (edited("config.json", max_position_embeddings=-5), "max_position_embeddings is -5"),
    "context of one token": (edited("config.json", max_position_embeddings=1), "max_position_embeddings is 1,"),
    "short context": (edited("config.json", max_position_embeddings=4), "max_position_embeddings is 4, and a prompt"),
    "rope base of 0": (
        edited("config.json", rope_parameters={"rope_type": "default", "rope_theta": 0}),
        "rope_theta is 0",
    ),
    "rope base not a number": (
        edited("config.json", rope_parameters={"rope_type": "default", "rope_theta": float("nan")}),
        "rope_theta is nan",
    ),
    "old rope base": (edited("config.json", rope_theta=-1.0), r"rope_theta is -1\.0"),
    "head not tied": (
        weights(lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1})),
        r"lm_head\.weight differs from model\.embed_tokens\.weight.*tie_word_embeddings",
    ),
    "adapter": (lambda b: (b / "adapter_config.json").write_text("{}"), "adapter_config.*LoRA.*merge"),
    "old GPTQ": (lambda b: (b / "quantize_config.json").write_text("{}"), "quantize_config.*GPTQ"),
    "AWQ": (lambda b: (b / "quant_config.json").write_text("{}"), "quant_config.*AWQ"),
    "GGUF": (lambda b: (b / "model.safetensors").rename(b / "model-Q4.gguf"), r"model-Q4\.gguf: GGUF"),
    "template leaves the message out": (
        lambda b: (b / "chat_template.jinja").write_text("hi"),
        "leaves out what the user",
    ),
    "broken template": (lambda b: (b / "chat_template.jinja").write_text("{% for"), r"chat_template\.jinja: .*fails"),
    "empty template": (lambda b: (b / "chat_template.jinja").write_text("{# #}"), r"chat_template\.jinja: .*nothing"),
    "no end token": (lambda b: save_tokenizer(b, eos_token=None), "eos_token is missing"),
    "end token outside": (edited("config.json", eos_token_id=[1, 64]), "end token 64 .*vocabulary of 64"),
    "end token not a number": (edited("generation_config.json", eos_token_id=["<end>"]), "eos_token_id is"),
    "tokenizer too large": (
        lambda b: edit(b / "tokenizer.json", lambda t: t["model"]["vocab"].update({"z" * n: 62 + n for n in (1, 2)})),
        "token 'zz' has id 64.*vocabulary of 64",
    ),
    "template writes a token without an embedding": (
        lambda b: save_tokenizer(
            b,
            additional_special_tokens=[f"<{n}>" for n in range(30)],
            chat_template="{{ messages[0].content }}<29>",
        ),
        r"chat_template\.jinja: it writes the token '<29>'.*vocabulary of 64",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_checkpoint_that_is_not_whole_is_refused_and_the_file_named(base: Path, tmp_path: Path, case: str) -> None:
    damage, message = REFUSED[case]
    damage(base)
    with pytest.raises(CheckpointRefused, match=message):
        import_at(ImportConfig(checkpoint=str(base)), tmp_path / "model")
    assert names(tmp_path) == {"base", *(f"base/{name}" for name in names(base))}, "nothing may be left behind"


def test_a_shard_that_the_index_lists_and_is_not_there_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointRefused, match=f"{shard.name} is missing"):
        check_checkpoint(sharded)


def test_a_truncated_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(CheckpointRefused, match=f"{shard.name}.*truncated"):
        check_checkpoint(sharded)


def test_shards_that_disagree_with_their_index_are_refused(sharded: Path) -> None:
    shards = sorted(sharded.glob("*.safetensors"))
    index = sharded / "model.safetensors.index.json"
    good = index.read_text()
    name = next(iter(load_file(shards[0])))
    edit(index, lambda content: content["weight_map"].update({name: shards[1].name}))
    with pytest.raises(CheckpointRefused, match=f"{shards[0].name}: tensor {name} is here"):
        check_checkpoint(sharded)
    for weight_map, message in (
        ({}, "weight_map"),
        ({name: "../x.safetensors"}, "not the name"),
        ({name: "x.bin"}, "x.bin"),
    ):
        edit(index, methodcaller("update", weight_map=weight_map))
        with pytest.raises(CheckpointRefused, match=message):
            check_checkpoint(sharded)
    index.write_text(good)
    save_file({"x": torch.ones(1)}, sharded / "model.safetensors")
    with pytest.raises(CheckpointRefused, match="both there"):
        check_checkpoint(sharded)


def test_a_raised_context_runs_beyond_the_old_length_with_the_new_rope_base(base: Path, tmp_path: Path) -> None:
    config = ImportConfig(checkpoint=str(base), context_length=4 * CONTEXT, rope_theta=1e6)
    result = import_at(config, tmp_path / "model")
    assert (result.context_length, result.original_context_length) == (4 * CONTEXT, CONTEXT)
    tokens = torch.arange(3 * CONTEXT)[None] % 64
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.config.max_position_embeddings == 4 * CONTEXT
    assert model(tokens).logits.isfinite().all()
    # The slowest of the four frequencies of a head of 8: base^(-6/8).
    assert model.model.rotary_emb.inv_freq[-1].item() == pytest.approx(1e6 ** (-6 / 8))
    assert AutoTokenizer.from_pretrained(tmp_path / "model").model_max_length == 4 * CONTEXT
    again = ImportConfig(checkpoint=str(tmp_path / "model"), context_length=4 * CONTEXT, rope_theta=1e6)
    import_at(again, tmp_path / "again")
    assert Manifest.of(tmp_path / "again") == Manifest.of(tmp_path / "model")


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": CONTEXT, "rope_theta": 1e4}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": CONTEXT // 16,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "rope_theta": 1e4,
}


def test_the_context_of_yarn_is_raised_up_to_what_it_scales_to(base: Path, tmp_path: Path) -> None:
    edited("config.json", rope_parameters=YARN)(base)
    result = import_at(ImportConfig(checkpoint=str(base), context_length=4 * CONTEXT), tmp_path / "model")
    assert (result.context_length, result.original_context_length) == (4 * CONTEXT, CONTEXT)
    raised = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    before = AutoModelForCausalLM.from_pretrained(base)
    assert raised.config.rope_parameters == YARN
    assert torch.equal(raised.model.rotary_emb.inv_freq, before.model.rotary_emb.inv_freq)


def test_the_context_of_linear_scaling_counts_after_it(base: Path) -> None:
    edited("config.json", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})(base)
    assert check_checkpoint(base).context_length == 2 * CONTEXT


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"context_length": CONTEXT - 1}, {}, "below the checkpoint's 64"),
        ({"context_length": CONTEXT, "rope_theta": 2e4}, {}, "without a longer context"),
        (
            {"context_length": 4 * CONTEXT},
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "above the checkpoint's 128, and its linear RoPE does not reach further",
        ),
        (
            {"context_length": 2 * CONTEXT},
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "above the checkpoint's 64, and its dynamic RoPE does not reach further",
        ),
        ({"context_length": 5 * CONTEXT}, {"rope_parameters": YARN}, "above the 256 tokens that its yarn RoPE scales"),
        ({"context_length": 2 * CONTEXT, "rope_theta": 1e6}, {"rope_parameters": YARN}, "beside its yarn scaling"),
        (
            {"context_length": 2 * CONTEXT},
            {"rope_parameters": LLAMA3},
            "above the 64 tokens that its llama3",
        ),
    ],
)
def test_a_context_that_would_damage_the_model_is_refused(
    base: Path, tmp_path: Path, settings: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    edited("config.json", **change)(base)
    with pytest.raises(CheckpointRefused, match=message):
        import_at(ImportConfig(checkpoint=str(base), **settings), tmp_path / "model")


def test_settings_that_do_not_fit_together_are_refused_when_they_are_read(base: Path, tmp_path: Path) -> None:
    for settings in (
        {"checkpoint": "owner/name", "rope_theta": 1e6},
        {"checkpoint": "s3://bucket/base", "revision": "main"},
        {"checkpoint": ""},
        {"checkpoint": "owner/name", "context_length": 0},
        {"checkpoint": "owner/name", "trust_remote_code": True},
    ):
        with pytest.raises(ValidationError):
            ImportConfig.model_validate(settings)
    with pytest.raises(StoreError, match="revision 'main' is for a checkpoint on the hub"):
        import_at(ImportConfig(checkpoint=str(base), revision="main"), tmp_path / "model")
    with pytest.raises(StoreError, match="not a folder"):
        import_at(ImportConfig(checkpoint=str(tmp_path / "absent")), tmp_path / "model")
    with pytest.raises(FileExistsError, match="base exists already"):
        import_at(ImportConfig(checkpoint=str(base)), base)
