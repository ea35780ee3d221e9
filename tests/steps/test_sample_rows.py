"""What the stages write of their training data, read back from the files."""

from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq

from infra.lineage.prompt_digest import prompt_digest
from steps.chat import Chat
from steps.configs.dpo import DpoConfig
from steps.long2short.dpo import preference_pairs, preference_rows
from steps.long2short.responses import JudgedResponse, Responses
from steps.long2short.samples import response_row
from steps.long2short.shortest import shortest
from steps.problem import Example, Problem
from steps.rewards.score import Score
from steps.samples import example_rows, keep_samples

PROBLEM = Problem(id="p", prompt="1 + 1 = ?", answer="2", verifier="math", source="made up", licence="MIT")


def written(folder: Path, rows: Any) -> list[dict[str, Any]]:
    kind, place = keep_samples(folder, rows)
    assert kind == "samples"
    (file,) = place.iterdir()
    return pq.read_table(file).to_pylist()


def known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value not in (None, [])}


def test_an_example_is_kept_with_its_prompt_its_passes_and_what_the_verifier_said(base: Path, tmp_path: Path) -> None:
    chat = Chat(base)
    examples = [Example(problem_id="p", prompt="1 + 1 = ?", response=text, source="s") for text in ("two", "2")]
    scores = [Score(1.0, "right", 0.1, "math@3")] * 2
    plain = written(tmp_path / "plain", example_rows(chat, examples, 3))[1]
    judged = written(tmp_path / "judged", example_rows(chat, examples, 3, scores))[1]
    tokens = len(chat.example("1 + 1 = ?", "2").response)
    expected = {
        "number": 1,
        "problem_id": "p",
        "prompt_digest": prompt_digest("1 + 1 = ?"),
        "prompt": "1 + 1 = ?",
        "response": "2",
        "tokens": tokens,
        "role": "imitated",
        "outcome": "trained",
        "times_trained": 3,
        "source": "s",
        "licence": "unknown",
    }
    assert known(plain) == expected
    assert known(judged) == expected | {"reward": 1.0, "reward_reason": "right", "verifier": "math@3"}


def test_what_dpo_and_shortest_rejection_chose_is_written_in_the_order_of_training(base: Path, tmp_path: Path) -> None:
    chat = Chat(base)
    texts = [("2", True), ("two, or 3", False), ("let me add 1 and 1 and get 2", True)]
    judged = [JudgedResponse([*chat.encode(text), chat.end_token], right, "why", "math@3") for text, right in texts]
    sampled = Responses(PROBLEM, chat.read(PROBLEM), judged)
    pairs = preference_pairs([sampled], DpoConfig(learning_rate=1e-4, pairs_per_problem=2), Random(0))
    rows = written(tmp_path / "dpo", preference_rows(chat, pairs, 2))
    assert [(row["pair"], row["role"], row["reward"]) for row in rows] == [
        (0, "chosen", 1.0),
        (0, "rejected", float(pairs[0].worse.right)),
        (1, "chosen", 1.0),
        (1, "rejected", float(pairs[1].worse.right)),
    ]
    assert {row["response"] for row in rows} == {text for text, _ in texts}
    assert {(row["prompt_digest"], row["times_trained"], row["verifier"]) for row in rows} == {
        (PROBLEM.digest, 2, "math@3")
    }
    (one,) = written(tmp_path / "shortest", [response_row(chat, *one, "imitated", 4) for one in shortest([sampled])])
    assert (one["response"], one["tokens"], one["times_trained"], one["role"]) == ("2", 2, 4, "imitated")
