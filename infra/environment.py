"""Environment variables that the engines read once, when they are imported: set them before torch, vLLM or DeepSpeed.

The values and the measurements behind them:
- TORCHDYNAMO_DISABLE, without a GPU: the first batch would compile for 14 s; throughput on CPU is the same without.
- VLLM_ENABLE_V1_MULTIPROCESSING=0: the engine lives in the stage's process, so weights are handed over in memory.
- OMP_NUM_THREADS and libiomp: libgomp's threads spin and collapse when another process uses the cores.
- KMP_AFFINITY=none: unset, libiomp binds every process that is forked from an engine's to the first core, and so all
  of Ray's: two rollout workers generated 5k tokens/s together, and 12k with it set.
- RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0: Ray then keeps to 127.0.0.1, as it does on those systems, whereas on Linux it
  would listen on all of the machine's addresses.
- PATH: DeepSpeed compiles an operator with the first ninja in it. Another ninja than last time's takes all that the
  last one compiled for stale: 25 s at that start, and again when the first one is back.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

HOME = Path(os.environ.get("LONGHAUL_HOME") or ".longhaul")
"""Where this machine keeps runs, logs, caches and offline tracking; the store too, unless the recipe names another."""
CACHE = HOME / "cache"


PROCESS_ENVIRONMENT = dict(os.environ)
"""The process's variables as they were when this module was imported: engines set more when they are imported, which
say nothing about how the process was started."""


def renamed_variable(name: str, former: str) -> str | None:
    """The value of an environment variable that had another name before, or None. Says so where that name is used."""
    if name not in os.environ and former in os.environ:
        print(f"the environment variable {former} is now called {name}: rename it", file=sys.stderr)
        return os.environ[former]
    return os.environ.get(name)


def _intel_openmp() -> Path | None:
    library = Path(sys.prefix) / "lib" / "libiomp5.so"
    return library if library.is_file() else None


def engine_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables a stage's process needs, apart from those that the environment sets already."""
    cache = CACHE.resolve()
    variables = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "KMP_AFFINITY": "none",
        "KMP_BLOCKTIME": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHDYNAMO_DISABLE": "1",
        "TORCH_EXTENSIONS_DIR": str(cache / "torch_extensions"),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    if os.path.exists("/dev/nvidiactl"):
        del variables["DS_ACCELERATOR"]
        del variables["OMP_NUM_THREADS"]
        del variables["TORCHDYNAMO_DISABLE"]
    elif library := _intel_openmp():
        variables["LD_PRELOAD"] = str(library)
    if "RAY_ADDRESS" in environment:
        del variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]
    missing = {name: value for name, value in variables.items() if name not in environment}
    # The virtual environment may be in use without having been activated.
    tools, path = os.path.dirname(sys.executable), environment.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != tools:
        missing["PATH"] = os.pathsep.join([tools, path])
    return missing


def shared_engine_environment(processes: int) -> dict[str, str]:
    """What to change for each of several engine processes on this machine: the same, and their share of its cores."""
    share = max(1, (os.cpu_count() or 1) // processes)
    threads = min(share, int(os.environ.get("OMP_NUM_THREADS", share)))
    return engine_environment() | {"OMP_NUM_THREADS": str(threads)}


def enter_engine_environment() -> None:
    """Give this process the engine environment, by restarting it once where a library has to be preloaded."""
    missing = engine_environment()
    os.environ.update(missing)
    if "LD_PRELOAD" in missing:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
