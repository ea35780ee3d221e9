"""What of the machine and of the process's environment shapes numbers.

The rule: two runs of a stage with the same key make the same bytes where the processor (its model and the vector
instructions that it has), the GPUs, the number of threads, OpenMP's library and the variables by which numeric
libraries choose how they compute are the same. All of these are recorded, and they are in the key of each stage whose
code computes with tensors. A recipe may allow reuse across other environments (`reuse_across_environments`); the
record of what was reused then says in what they differ.

Nothing is imported to tell it: a plan must not wait for torch.
"""

import platform
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from infra.environment import PROCESS_ENVIRONMENT, engine_environment

PREFIXES = (
    "ATEN_",
    "BLIS_",
    "CUBLAS_",
    "CUDNN_",
    "DNNL_",
    "FLASHINFER_",
    "FLASH_ATTENTION_",
    "KMP_",
    "MKL_",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "NPY_",
    "NVIDIA_TF32",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "TORCHDYNAMO_",
    "TORCHINDUCTOR_",
    "TORCH_ALLOW_TF32",
    "TORCH_BLAS",
    "TORCH_CUDNN",
    "TORCH_LINALG",
    "TRITON_",
    "VLLM_ATTENTION",
    "VLLM_CPU_",
    "VLLM_FLASH",
    "VLLM_FLOAT32",
    "VLLM_USE_",
)
"""How the names of the variables begin by which numeric libraries choose what they compute with."""

NOT_NUMERIC = frozenset(
    {
        *("KMP_AFFINITY", "KMP_BLOCKTIME", "VLLM_CPU_OMP_THREADS_BIND"),
        *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TRITON_HOME", "VLLM_USE_MODELSCOPE"),
        # torch and vLLM set these themselves, and processes that they start inherit them.
        *("PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_COMPILE_THREADS", "TRITON_CACHE_AUTOTUNING"),
    }
)
"""Variables of such names that say where threads run, what they do while they wait, or where files lie."""

INSTRUCTIONS = ("avx", "fma", "amx", "sve", "asimd", "bf16", "i8mm", "neon")
"""How the names of the processor's flags begin by which numeric libraries choose a kernel."""


def numeric_environment(names: Iterable[str] = ()) -> dict[str, str]:
    """What shapes numbers in a stage's process on this machine, by name.

    Args:
        names: variables that count besides, whatever their names: those that the recipe sets (`cluster.environment`).
    """
    effective = {**PROCESS_ENVIRONMENT, **engine_environment(PROCESS_ENVIRONMENT)}
    variables = {
        name: effective[name]
        for name in sorted({*names, *effective})
        if name in effective and (name in set(names) or _is_numeric(name))
    }
    openmp = [Path(path).name for path in effective.get("LD_PRELOAD", "").replace(":", " ").split() if "omp" in path]
    return {
        **_machine(),
        "threads": variables.pop("OMP_NUM_THREADS", "one for each core"),
        "openmp": ", ".join(openmp) or "as built",
        **variables,
    }


def _is_numeric(name: str) -> bool:
    return name.startswith(PREFIXES) and name not in NOT_NUMERIC


@cache
def _machine() -> Mapping[str, str]:
    processor, flags = _processor()
    machine = {
        "processor": processor,
        "instructions": " ".join(sorted(flag for flag in flags if flag.startswith(INSTRUCTIONS))),
    }
    if gpus := _gpus():
        machine["gpus"] = ", ".join(sorted(set(gpus)))
    return machine


def _processor() -> tuple[str, set[str]]:
    """Model and flags of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip(), set()
    fields: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    parts = [fields.get(name, "") for name in ("vendor_id", "cpu family", "model", "model name", "CPU part")]
    name = " ".join([platform.machine(), *(part for part in parts if part)])
    return name, set((fields.get("flags") or fields.get("Features") or "").split())


def _gpus() -> list[str]:
    """Models of the NVIDIA GPUs that the driver lists."""
    models = []
    for file in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        models += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return models


def environment_differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """In what two environments differ, a line each."""
    return [
        f"{name}: {before.get(name, 'not set')} → {after.get(name, 'not set')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
