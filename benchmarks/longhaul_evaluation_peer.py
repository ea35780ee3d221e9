"""Longhaul's side of benchmarks/against_lm_eval.py. The last line printed is the side's figures, with its prompts."""

from infra.environment import enter_engine_environment

enter_engine_environment()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from infra.configs import EngineConfig  # noqa: E402
from infra.progress.logs import output, quiet_to  # noqa: E402
from infra.store.source import Source  # noqa: E402
from steps.benchmark_rows import chosen, load_benchmark  # noqa: E402
from steps.benchmark_run import run_benchmark  # noqa: E402
from steps.configs.benchmarks import BenchmarkConfig  # noqa: E402
from steps.configs.data_source import SourceConfig  # noqa: E402
from steps.sampling_bench import open_sampling_bench  # noqa: E402


def main() -> None:
    """Command line: the case as JSON, and a file for what the engine prints."""
    case = json.loads(sys.argv[1])
    config = BenchmarkConfig(
        name="gsm8k-rows",
        source=SourceConfig(path=case["data"], format="gsm8k"),
        instruction=case["instruction"],
        answer_reading="last_number",
        temperature=0.0,
        max_response_tokens=case["max_tokens"],
        limit=case["limit"],
    )
    source = Source(Path(case["data"]), case["data"])
    engine = EngineConfig(dtype="float32", context=case["context"], max_sequences=64, kv_cache_mb=1024)
    with (
        quiet_to(Path(sys.argv[2])),
        open_sampling_bench(Path(case["model"]), engine=engine, seed=0) as bench,
    ):
        start = time.perf_counter()
        result = run_benchmark(bench, source, config)
        seconds = time.perf_counter() - start
        prompts = [
            bench.chat.tokenizer.decode(prompt.tokens)
            for prompt in bench.prompts(chosen(load_benchmark(source, config), config))
        ]
    figures = {
        "accuracy": result.accuracy,
        "standard_error": result.standard_error,
        "mean_tokens": result.mean_tokens,
        "seconds": seconds,
    }
    print(json.dumps(figures | {"prompts": prompts}), file=output, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
