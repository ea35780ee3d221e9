"""How long people wait for `longhaul plan` and `longhaul run` where nothing has changed.

    python -m benchmarks.commands [--config configs/nano.yaml] [--repetitions 5]

The recipe's stages are recorded as finished in a store of their own (tests/flows/made_up_chain.py); what they are said
to have made is small, so that no figure holds the time in which a run compares every byte that it reuses. Each command
is a process, as in a terminal, and is repeated after a warm-up that is not counted. Of each the median and the slowest
seconds of the clock are printed, and the median seconds of processor time of the process and all that it started: on a
busy machine only the latter says what the command costs. The last line is JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.nano_start import ROOT, machine

LIMITS = {"plan": 1.5, "run": 6.0}
"""Seconds that each should take at most."""


def finished(config: Path, folder: Path) -> Path:
    """A store below a folder in which a recipe's stages are finished. Returns the recipe's file."""
    import flows.chain
    from flows.cli.overrides import apply_overrides
    from flows.selection import Selection
    from steps.recipe import check_recipe, load_recipe
    from tests.flows.made_up_chain import finish

    raw = apply_overrides(
        load_recipe(config).model_dump(mode="json"), [f"store={folder / 'store'}", "tracking.mode=disabled"]
    )
    recipe = check_recipe(raw, config.stem)
    flows.chain.HOME = folder / "home"
    finish(flows.chain.Chain(recipe, "run-1", Selection()), folder / "made")
    file = folder / config.name
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return file


def timed(arguments: list[str], home: Path) -> tuple[float, float, str]:
    """Seconds of the clock and of the processor, and what the command printed. Ends this process where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "LONGHAUL_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"longhaul {' '.join(arguments)}: {done.stderr[-2000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "nano.yaml")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine(), "recipe": options.config.stem, "repetitions": options.repetitions}
    table = Table("command", "median s", "slowest s", "processor s", "at most s", title="Where nothing has changed")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        config = finished(options.config.absolute(), Path(folder))
        for command, limit in LIMITS.items():
            times = [timed([command, "--config", str(config)], home) for _ in range(options.repetitions + 1)]
            printed = times[-1][2]
            if ("0 of" if command == "plan" else "reused from run") not in printed:
                sys.exit(f"longhaul {command} did not reuse all stages:\n{printed[-3000:]}")
            clock, processor = [each[0] for each in times[1:]], [each[1] for each in times[1:]]
            median, slowest = statistics.median(clock), max(clock)
            figures[command] = {
                "median_s": round(median, 2),
                "slowest_s": round(slowest, 2),
                "processor_s": round(statistics.median(processor), 2),
                "within_limit": median <= limit,
            }
            values = (median, slowest, statistics.median(processor), limit)
            table.add_row(f"longhaul {command}", *(f"{value:.2f}" for value in values))
    Console(stderr=True).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
