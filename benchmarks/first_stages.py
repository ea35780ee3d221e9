"""What a checkpoint of one's own takes before anything trains: seconds and peak memory of import and its evaluation.

    make smollm2 && python -m scripts.smollm2 problems SVAMP.json .longhaul/smollm2
    python -m benchmarks.first_stages --config configs/smollm2-135m.yaml

Runs the recipe until `evaluate/import` in a home of its own, so that nothing is reused. The last line is JSON: of each
stage the seconds and the peak memory of its process in MB, as its record has them, with what was evaluated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.nano_start import ROOT, machine
from flows.models import run_records
from infra.store.open import open_store
from infra.store.records import StageRecord

STAGES = ("import", "evaluate/import")


def figures(record: StageRecord) -> dict[str, float]:
    """Of a stage."""
    return {"seconds": record.seconds, "peak_memory_mb": record.peak_memory_mb}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/smollm2-135m.yaml", help="The recipe's file.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        command = [sys.executable, "-m", "flows.cli", "run", "--config", arguments.config]
        command += ["--set", f"store={store}", "--until", STAGES[-1]]
        # The cache stays this machine's: a user's second start compiles nothing either.
        subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=sys.stderr, check=True)
        records = {record.stage: record for record in run_records(open_store(str(store)), None)}
    evaluation = records[STAGES[-1]].evaluation
    assert evaluation is not None
    evaluated = {"problems": evaluation.problems, "samples": evaluation.samples, "tokens": evaluation.mean_tokens}
    stages = {stage: figures(records[stage]) for stage in STAGES}
    print(json.dumps({"stages": stages, "evaluated": evaluated, "config": arguments.config, "machine": machine()}))


if __name__ == "__main__":
    main()
