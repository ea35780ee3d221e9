"""What RL leaves of its responses: every response of every group that left the buffer, once, with what came of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.sandbox.interface import SandboxUnavailable
from steps.problem import Problem
from steps.rewards.score import Score
from steps.rl.checkpoint import Checkpoints, RlState
from steps.rl.ledger import LedgerEntry
from tests.steps.rl.test_iteration import (
    PROBLEMS,
    BenchWith,
    Judging,
    bench_with,  # noqa: F401  (a fixture)
    changed,
    restored,  # noqa: F401  (a fixture)
    run,
)

CONFIG = changed(
    iterations=4,
    groups=4,
    responses=3,
    oversampling=2.0,
    max_staleness=1,
    when_stale="drop",
    length_reward={"weight": 0.5},
)


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of all iterations; each file holds its own iteration's."""
    rows = []
    for number, path in enumerate(sorted(Checkpoints(folder).samples.iterdir())):
        assert path.name == f"{number:06d}.parquet"
        table = pq.read_table(path).to_pylist()
        assert {row["iteration"] for row in table} <= {number}
        rows += table
    return rows


def judging(judged: dict[str, list[str]]) -> Judging:
    """Some problems cannot be judged, some are always right, of the others every second response is. What was judged
    is added to `judged`, by problem."""
    places = {problem.id: place for place, problem in enumerate(PROBLEMS)}

    def score(problem: Problem, response: str) -> Score:
        if places[problem.id] % 4 == 0:
            raise ArithmeticError("out of order")
        judged.setdefault(problem.id, []).append(response)
        right = places[problem.id] % 4 == 1 or len(judged[problem.id]) % 2 == 0
        return Score(float(right), "right" if right else "wrong", 0.0, "test@7")

    return Judging(score)


@pytest.fixture
def done(
    bench_with: BenchWith,  # noqa: F811
    restored: None,  # noqa: F811
    tmp_path: Path,
) -> tuple[RlState, list[dict[str, Any]], dict[str, list[str]]]:
    judged: dict[str, list[str]] = {}
    state = run(bench_with(judging(judged)), tmp_path / "rl", CONFIG)
    return state, read(tmp_path / "rl"), judged


def test_every_response_is_there_once_and_the_ledger_can_be_had_from_them(done: Any) -> None:
    state, rows, _ = done
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["problem_id"], row["started"]), []).append(row)
    assert all(len(group) == CONFIG.responses for group in groups.values())
    assert len({(row["problem_id"], row["seed"]) for row in rows}) == len(rows)
    ledger = [
        LedgerEntry(problem_id=problem, started=started, ended=group[0]["iteration"], outcome=_left(group))
        for (problem, started), group in groups.items()
    ]
    assert ledger == state.ledger
    assert {"trained", "failed"} <= {entry.outcome for entry in ledger}


def _left(group: list[dict[str, Any]]) -> Any:
    """What the ledger says of a group."""
    outcomes = {row["outcome"] for row in group}
    return next((each for each in ("stale", "failed") if outcomes == {each}), "trained")


def test_a_row_says_who_wrote_the_response_who_judged_it_and_what_it_was_worth(done: Any) -> None:
    _, rows, judged = done
    by_id = {problem.id: problem for problem in PROBLEMS}
    for row in rows:
        problem = by_id[row["problem_id"]]
        assert (row["prompt"], row["prompt_digest"], row["source"]) == (problem.text, problem.digest, problem.source)
        assert sum(span["tokens"] for span in row["policies"]) == row["tokens"]
        iterations = [span["iteration"] for span in row["policies"]]
        assert iterations == sorted(set(iterations)) and row["started"] <= iterations[0]
        assert iterations[-1] <= row["iteration"]
        if row["reward"] is not None:
            assert row["response"] in judged[row["problem_id"]]
            assert (row["verifier"], row["reward_reason"]) == ("test@7", "right" if row["reward"] else "wrong")
    assert any(len(row["policies"]) == 2 for row in rows), "no partial rollout was seen"


def test_what_was_not_learned_from_is_marked(done: Any) -> None:
    state, rows, _ = done
    outcomes = Counter(row["outcome"] for row in rows)
    assert outcomes["trained"] and outcomes["no_signal"] and outcomes["failed"]
    for row in rows:
        known = (row["reward"] is not None, row["total_reward"] is not None, row["advantage"] is not None)
        if row["outcome"] in ("trained", "no_signal"):
            assert known == (True, True, True)
        elif row["outcome"] == "failed":
            assert known == (False, False, False) and row["reward_reason"] == "ArithmeticError: out of order"
        assert row["times_trained"] == (row["outcome"] == "trained")
    assert all(row["advantage"] == 0 for row in rows if row["outcome"] == "no_signal")
    for number, metrics in enumerate(state.history):
        done_ones = [row for row in rows if row["iteration"] == number and row["outcome"] in ("trained", "no_signal")]
        assert len(done_ones) == metrics.groups_done * CONFIG.responses
        if done_ones:
            assert sum(row["reward"] for row in done_ones) / len(done_ones) == pytest.approx(metrics.accuracy)
            assert sum(row["total_reward"] for row in done_ones) / len(done_ones) == pytest.approx(metrics.reward)


def test_the_same_seed_leaves_the_same_bytes(
    bench_with: BenchWith,  # noqa: F811
    restored: None,  # noqa: F811
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        bench = bench_with(judging({}))
        bench.trainer.load_weights(bench.model)
        run(bench, tmp_path / name, CONFIG)
    first, second = (
        {path.name: path.read_bytes() for path in Checkpoints(tmp_path / name).samples.iterdir()} for name in ("a", "b")
    )
    assert first == second and len(first) == CONFIG.iterations


def test_an_iteration_that_broke_off_leaves_no_samples(bench_with: BenchWith, tmp_path: Path) -> None:  # noqa: F811
    # In the first iteration no response is done, and so none is judged.
    def score(problem: Problem, response: str) -> Score:
        raise SandboxUnavailable("no bwrap")

    with pytest.raises(SandboxUnavailable):
        run(bench_with(Judging(score)), tmp_path / "rl", CONFIG)
    assert read(tmp_path / "rl") == []
    assert [path.name for path in Checkpoints(tmp_path / "rl").samples.iterdir()] == ["000000.parquet"]
