"""`longhaul lineage samples` on a store with a run: what is shown, and that nothing shown drives the terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli.samples import samples
from infra.lineage.prompt_digest import prompt_digest
from infra.lineage.sample_files import write_samples
from infra.lineage.sample_row import KIND, PolicySpan, SampleRow
from infra.store import records
from infra.store.open import open_store
from tests.infra.lineage.records import ref, stage_record

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]so[/red] \u202e 7"


def rollout(iteration: int, number: int) -> SampleRow:
    prompt = f"How much is {number // 2} + 1?"
    return SampleRow(
        problem_id=f"p{number // 2}",
        prompt_digest=prompt_digest(prompt),
        prompt=prompt,
        response=HOSTILE if number == 0 else f"{number // 2 + 1}",
        tokens=10 + number,
        role="rollout",
        outcome="trained",
        times_trained=1,
        iteration=iteration,
        started=0,
        policies=[PolicySpan(0, 4), PolicySpan(iteration, 6 + number)],
        stop="end",
        reward=float(number % 2),
        reward_reason="right",
        verifier="math@3",
    )


class Command:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "store"
        store = open_store(self.folder)
        for iteration in range(2):
            rows = [rollout(iteration, number) for number in range(30)]
            write_samples(folder / "samples" / f"{iteration:06d}.parquet", rows)
        saved = store.put(folder / "samples", KIND)
        rl = stage_record("rl", "run-1", outputs={"model": ref("model", 1), "samples": saved})
        merged = stage_record("long2short/merge", "run-1", inputs={"model": rl.outputs["model"]}, minutes=1)
        for record in (rl, merged):
            records.write(store, f"stages/{record.key}", record)
            records.write(store, "stage-runs/run-1", record)
        self.digest, self.model = saved.digest, rl.outputs["model"].digest

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(samples, [*arguments, "--store", str(self.folder)], env={"COLUMNS": "200"})
        assert result.exit_code == code, result.output
        assert "\x1b" not in result.output and "\u202e" not in result.output
        return result

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        reported = json.loads(self(*arguments, "--json").output)
        assert reported["samples"] == self.digest
        return reported["rows"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_iterations_are_listed_by_default_whatever_the_model_is_called(command: Command) -> None:
    for name in ("rl", "run-1:rl", command.model[:10]):
        assert [(one["iteration"], one["prompts"], one["responses"]) for one in command.rows(name)] == [
            (0, 15, 30),
            (1, 15, 30),
        ]
    assert "trained 30" in command("rl").output


def test_responses_of_an_iteration_are_shown_in_pages_and_cannot_drive_the_terminal(command: Command) -> None:
    displayed = command("rl", "--iteration", "1").output
    assert "iteration 1 · problem p0 · role rollout · outcome trained · reward 0.000 · because right" in displayed
    assert "policies 0 (4 tokens), 1 (6 tokens)" in displayed
    assert "\ufffd[2J\ufffd]0;owned\ufffd [red]so[/red] \ufffd 7" in displayed
    assert "1 to 20 of 30; --offset 20 shows the next" in displayed
    assert "21 to 30 of 30\n" in command("rl", "--iteration", "1", "--offset", "20").output
    assert [row["tokens"] for row in command.rows("rl", "--iteration", "0", "--order=-tokens", "--limit", "2")] == [
        39,
        38,
    ]


def test_a_prompt_is_found_in_every_iteration(command: Command) -> None:
    actual = command.rows("rl", "--prompt", "how much is  3 + 1?")
    assert [(row["iteration"], row["problem_id"]) for row in actual] == [(0, "p3")] * 2 + [(1, "p3")] * 2
    assert "none of 0" in command("rl", "--prompt", "what else?").output


def test_prompts_are_summed_up(command: Command) -> None:
    assert {row["responses"] for row in command.rows("rl", "--prompts")} == {4}
    assert "How much is 3 + 1?" in command("rl", "--prompts").output


def test_sql_is_answered_and_reaches_nothing_else(command: Command) -> None:
    sql = "SELECT stop, count(*) AS n FROM samples GROUP BY stop"
    assert command.rows("rl", "--sql", sql) == [{"stop": "end", "n": 60}]
    assert command.rows("rl", "--sql", "SELECT response FROM samples", "--limit", "1") == [{"response": HOSTILE}]
    assert "\ufffd[2J" in command("rl", "--sql", "SELECT response FROM samples").output
    refused = command("rl", "--sql", f"SELECT * FROM read_text('{command.folder}')", code=1)
    assert (
        "disabled by configuration" in refused.output and "The columns of samples: number, problem_id" in refused.output
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "'nothing' is not a folder, stage, RUN:STAGE"),
        (["long2short/merge"], "long2short/merge of run run-1 left no samples; ask about what it read: model "),
        (["rl", "--prompts", "--sql", "SELECT 1"], "choose one: --prompts, --sql"),
        (["rl", "--order", "tokens"], "--order is for responses and prompts"),
        (["rl", "--iteration", "0", "--order", "\x1b[2J"], "the order is one of number, iteration"),
    ],
)
def test_what_cannot_be_answered_is_one_clear_message(command: Command, arguments: list[str], message: str) -> None:
    assert message in command(*arguments, code=1).output
