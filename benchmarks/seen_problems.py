"""Whether RL learned on the problems that it trained on: the same problems, in its first and in its last iterations.

    longhaul run --config RECIPE --until rl && python -m benchmarks.seen_problems [--run RUN] [--iterations 10]

The mean accuracy of a run says little of this: sampling by 1 - s (§2.3.4) comes back to the problems that are not
solved yet. For each domain, of the problems with responses in both the first and the last ITERATIONS, this prints how
much more often a response was right, with its standard error over problems. It reads the run's samples, and runs
nothing. The last line is JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from flows.models import run_records
from infra.store.open import open_store


def gains(samples: Path, iterations: int) -> dict[str, dict[str, float]]:
    """By domain (what the problems' ids begin with): problems seen at both ends, and the mean gain in accuracy."""
    rows = ds.dataset(samples, format="parquet").to_table(columns=["problem_id", "iteration", "reward"]).to_pandas()
    rows["domain"] = rows.problem_id.str.split("-").str[0]
    ends = {
        "first": rows[rows.iteration < rows.iteration.min() + iterations],
        "last": rows[rows.iteration > rows.iteration.max() - iterations],
    }
    means = {name: end.groupby(["domain", "problem_id"]).reward.mean() for name, end in ends.items()}
    gain = (means["last"] - means["first"]).dropna().groupby("domain").agg(["count", "mean", "sem"])
    return {
        domain: {"problems": int(row["count"]), "gain": float(row["mean"]), "standard_error": float(row["sem"])}
        for domain, row in gain.iterrows()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--run", help="A run's name. Default: the newest.")
    parser.add_argument("--iterations", type=int, default=10, help="How many at each end.")
    arguments = parser.parse_args()
    store = open_store(arguments.store)
    (record,) = [one for one in run_records(store, arguments.run) if one.stage == "rl"]
    domains: dict[str, Any] = gains(store.fetch(record.outputs["samples"]), arguments.iterations)
    for domain, row in domains.items():
        print(
            f"{domain}: {row['problems']} problems, {100 * row['gain']:+.1f} ± {100 * row['standard_error']:.1f} points"
        )
    print(json.dumps({"run": record.run, "iterations": arguments.iterations, "domains": domains}))


if __name__ == "__main__":
    main()
