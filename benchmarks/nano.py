"""What the newest run reached, and the nano recipe's goals: a Markdown table, then one line of JSON.

    longhaul run --config configs/nano.yaml && python -m benchmarks.nano

It reads the run's records; it runs nothing.
"""

import argparse
import itertools
import json
from datetime import datetime
from math import nan
from typing import Any

from benchmarks.nano_start import machine
from flows.models import run_records
from infra.store.open import open_store
from infra.store.records import StageRecord
from steps.report.table import report_rows

RISING = ("import", "vanilla_sft", "long_cot_sft", "rl")


def goals(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures that the recipe has goals for."""
    accuracy = {stage: row["accuracy"] for stage, row in rows.items()}
    short = {stage: row for stage, row in rows.items() if stage.startswith("long2short/")}
    retained = {
        stage: {
            "accuracy_share": row["accuracy"] / (accuracy["rl"] or nan),
            "token_share": row["mean_tokens"] / rows["rl"]["mean_tokens"],
        }
        for stage, row in short.items()
    }
    within = [stage for stage, shares in retained.items() if shares["accuracy_share"] >= 0.95]
    best = min(within, key=lambda stage: retained[stage]["token_share"], default=None)
    return {
        "rises_at_each_stage": all(accuracy[a] < accuracy[b] for a, b in itertools.pairwise(RISING)),
        "rl_gain_points": 100 * (accuracy["rl"] - accuracy["long_cot_sft"]),
        "best_long2short": best,
        "best_long2short_shares": retained.get(best or ""),
        "stage_seconds": sum(row["seconds"] for row in rows.values()),
        "peak_memory_mb": max(row["peak_memory_mb"] for row in rows.values()),
    }


def wall_seconds(records: list[StageRecord]) -> float | None:
    """From the first stage's start to the last one's end; None if a stage was reused from another run."""
    if any(record.reused_from for record in records):
        return None
    starts = [datetime.fromisoformat(record.started).timestamp() for record in records]
    return max(start + record.seconds for start, record in zip(starts, records, strict=True)) - min(starts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--run", help="A run's name. Default: the newest.")
    arguments = parser.parse_args()
    records = run_records(open_store(arguments.store), arguments.run)
    rows = {row["stage"]: row for row in report_rows(records)}
    print("| stage | accuracy | mean tokens | p99 tokens | seconds | peak MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for stage, row in rows.items():
        figures = [row["accuracy"], row["mean_tokens"], row["p99_tokens"], row["seconds"], row["peak_memory_mb"]]
        forms = [".1%", ".1f", ".0f", ".0f", ".0f"]
        cells = ["–" if value is None else format(value, form) for value, form in zip(figures, forms, strict=True)]
        print(f"| {stage} | {' | '.join(cells)} |")
    evaluation = records[-1].config["own"]
    inputs = {"run": records[-1].run, "seed": records[-1].seed, "evaluation": evaluation}
    reached = goals(rows) | {"wall_seconds": wall_seconds(records)}
    print(json.dumps({"goals": reached, "stages": list(rows.values()), "inputs": inputs, "machine": machine()}))


if __name__ == "__main__":
    main()
