"""The whole chain, as users start it: the smoke recipe through `longhaul` and Metaflow, with the real engines."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.failure import find_failure
from infra.store.evaluation_stages import evaluation_stage
from steps.recipe import check_recipe, load_recipe
from tests.flows.home import LONGHAUL, ROOT, Home
from tests.processes import running_below

STAGES = [
    "import",
    "vanilla_sft",
    "curation",
    "long_cot_sft",
    "rl",
    "long2short/merge",
    "long2short/shortest",
    "long2short/dpo",
    "long2short/rl",
]
EVALUATIONS = [evaluation_stage(stage) for stage in STAGES if stage != "curation"]
"""The stages that evaluate a model, beside the one that made it."""


@pytest.fixture(scope="module")
def home(smoke: tuple[Home, subprocess.CompletedProcess[str]]) -> Home:
    return smoke[0]


@pytest.fixture(scope="module")
def first_run(smoke: tuple[Home, subprocess.CompletedProcess[str]]) -> subprocess.CompletedProcess[str]:
    return smoke[1]


@pytest.mark.timeout(1200)  # the run itself
def test_every_stage_runs_and_the_report_has_a_row_for_each(first_run: subprocess.CompletedProcess[str]) -> None:
    rows = json.loads(first_run.stdout)["stages"]
    assert [row["stage"] for row in rows] == STAGES
    keys = ["stage", "model", "accuracy", "mean_tokens", "p99_tokens", "seconds", "peak_memory_mb"]
    assert all(list(row) == keys for row in rows)
    assert len({row["model"] for row in rows if row["stage"] != "curation"}) == 8
    for row in rows:
        assert 200 < row["peak_memory_mb"] < 8000, row
        if row["stage"] == "curation":
            assert row["accuracy"] is row["mean_tokens"] is None, "it makes no model"
            continue
        # Twelve problems with two responses each, of at most 96 tokens.
        right = row["accuracy"] * 24
        assert right == pytest.approx(round(right), abs=1e-6) and 1 <= row["mean_tokens"] <= 96, row
    assert len({row["mean_tokens"] for row in rows if row["model"]}) > 4, "different models answer alike"


def test_progress_is_shown_and_engine_noise_is_not(first_run: subprocess.CompletedProcess[str]) -> None:
    for stage in (*STAGES, *EVALUATIONS):
        assert f"{stage}: done in" in first_run.stderr
    assert "INFO" not in first_run.stderr
    assert "Loading safetensors" not in first_run.stderr


def test_the_report_page_and_tracking_are_left(home: Home, first_run: subprocess.CompletedProcess[str]) -> None:
    (page,) = home.folder.glob("runs/*/report.html")
    html = page.read_text()
    assert "long2short/dpo" in html
    assert not re.search(r'(src|href)="https?:', html)
    assert len(list(home.folder.glob("wandb/wandb/offline-run-*"))) == 1 + len(STAGES) + len(EVALUATIONS)


def test_no_weights_are_metaflow_artifacts(home: Home, first_run: subprocess.CompletedProcess[str]) -> None:
    artifacts = [path for path in home.folder.glob(".metaflow/PostTrain/data/*/*") if path.is_file()]
    assert artifacts
    assert max(path.stat().st_size for path in artifacts) < 500_000
    assert list(home.store.glob("objects/*/*/content/model.safetensors"))


def test_each_step_has_a_card(home: Home, first_run: subprocess.CompletedProcess[str]) -> None:
    cards = home.folder.rglob("cards/html-*.html")
    with_card = {path.parts[-5] for path in cards}
    assert {"import_checkpoint", "curation", "rl", "dpo", "short_rl", "report"} <= with_card
    assert "reward_models" not in with_card, "it is not part of this recipe"
    run = (home.folder / ".metaflow" / "PostTrain" / "latest_run").read_text()
    command = [sys.executable, "flows/post_train.py", "--config", "config", "configs/smoke.yaml", "card", "get"]
    got = subprocess.run([*command, f"{run}/rl"], cwd=ROOT, env=home.environment, capture_output=True, text=True)
    assert "long2short" not in got.stdout and "<title>" in got.stdout, got.stderr[-2000:]


def test_a_changed_key_reruns_its_stage_and_what_follows_alone_as_planned(
    home: Home, first_run: subprocess.CompletedProcess[str]
) -> None:
    change = ["--set", "long2short.dpo.beta=0.2"]
    planned = home.longhaul("plan", "--config", "configs/smoke.yaml", *home.settings, *change, "--json")
    actions = {one["stage"]: one["action"] for one in json.loads(planned.stdout)["stages"]}
    dpo = {"long2short/dpo", evaluation_stage("long2short/dpo")}
    assert actions == {stage: "run" if stage in dpo else "reuse" for stage in ["data", *STAGES, *EVALUATIONS]}
    changed = home.run(*change)
    assert changed.returncode == 0, changed.stderr[-3000:]
    said = changed.stdout + changed.stderr
    assert "long2short/dpo: done in" in said
    assert "long2short/dpo: reused" not in said
    assert all(f"{stage}: reused from run" in said for stage in STAGES if stage != "long2short/dpo")


def test_a_fork_with_nothing_changed_makes_what_the_undisturbed_run_made(
    home: Home, first_run: subprocess.CompletedProcess[str]
) -> None:
    parent = min(path.parent.name for path in home.folder.glob("runs/*/report.html"))
    done = home.run("--only", "rl", "--fork", f"{parent}:rl@1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "continues after 1 finished iterations" in done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in home.store.glob("records/stages/*/*.json")]
    (forked,) = [record for record in records if record.get("forked_from")]
    (undisturbed,) = [record for record in records if record["stage"] == "rl" and record["run"] == parent]
    assert forked["forked_from"] == {"run": parent, "stage": "rl", "iteration": 1}
    assert forked["outputs"] == undisturbed["outputs"] and {*forked["outputs"]} == {"model", "ledger", "samples"}
    assert forked["key"] != undisturbed["key"] and len(forked["history"]) == 2
    assert forked["seconds"] > 0 and [*undisturbed["iterations"]] == ["1", "2"] and [*forked["iterations"]] == ["2"]
    displayed = home.longhaul("show", f"{forked['run']}:rl", "--store", str(home.store))
    assert f"continued from {parent}:rl@1" in " ".join(displayed.stdout.split()) and "current" in displayed.stdout
    assert f"iteration 1 of run {parent}" in (home.folder / "runs" / forked["run"] / "report.html").read_text()


def test_a_model_is_traced_to_its_data_its_prompts_and_its_gates(
    home: Home, first_run: subprocess.CompletedProcess[str]
) -> None:
    def ask(*question: str) -> dict[str, Any]:
        done = home.longhaul("lineage", *question, "--store", str(home.store), "--json")
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    run = min(path.parent.name for path in home.folder.glob("runs/*/report.html"))
    nodes = {node["id"] for node in ask("upstream", f"{run}:rl")["nodes"]}
    assert {f"execution:{run}:{stage}" for stage in ("import", "vanilla_sft", "curation", "long_cot_sft")} <= nodes
    assert any(node.startswith("source:") and node.endswith("steps/nano_world/checkpoint") for node in nodes)
    assert any(node.startswith(f"gate:{run}:rl:") for node in nodes)
    rows = ask("samples", f"{run}:rl", "--iteration", "1")["rows"]
    assert rows and all(row["iteration"] == 1 and row["outcome"] for row in rows)
    models = ask("saw", rows[0]["prompt"])
    assert rows[0]["prompt_digest"] in json.dumps(models)


def test_reward_models_are_trained_selected_as_the_reward_and_reported(
    home: Home, first_run: subprocess.CompletedProcess[str]
) -> None:
    phase = "sequence_length: 384, epochs: 3, tokens_per_step: 512, learning_rate: 2.0e-3, final_learning_rate: 2.0e-4"
    section = f"reward_models={{problems: 48, samples: 1, cot: {{phase: {{{phase}}}}}}}"
    chosen = [section, "rl.reward=classic_rm", "long2short.rl.reward=cot_rm"]
    settings = [part for setting in chosen for part in ("--set", setting)]
    done = home.run("--json", "--until", "long2short/rl", *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"{stage}: reused from run" in done.stderr for stage in STAGES[:4])
    classic, cot = json.loads(done.stdout)["reward_models"]
    assert (classic["reported"], cot["reported"]) == (0.844, 0.985)
    assert 0.2 < classic["accuracy"] <= 1 and 0.2 < cot["accuracy"] <= 1
    records = [json.loads(path.read_text()) for path in home.store.glob("records/stages/*/*.json")]
    for stage, model in (("rl", "classic_rm"), ("long2short/rl", "cot_rm")):
        (record,) = [r for r in records if r["stage"] == stage and model in r["inputs"]]
        version = f"{model}@1:{record['inputs'][model]['digest'][:12]}"
        assert any(reason.startswith(version) for reason in record["metrics"]["verdicts"])


def test_report_says_the_same_later(home: Home, first_run: subprocess.CompletedProcess[str]) -> None:
    oldest = min(path.parent.name for path in home.folder.glob("runs/*/report.html"))
    report = home.longhaul("report", "--run", oldest, "--store", str(home.store), "--json")
    assert json.loads(report.stdout) == json.loads(first_run.stdout)


def test_sample_streams_an_answer(home: Home, first_run: subprocess.CompletedProcess[str]) -> None:
    question = "Start with 4. Add 3. What is the result?"
    done = home.longhaul("sample", "long_cot_sft", question, "--store", str(home.store), "--max-tokens", "48", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert answer["question"] == question
    assert 0 < answer["tokens"] <= 48


def test_a_model_that_is_not_there_is_named_with_those_that_are(
    home: Home, first_run: subprocess.CompletedProcess[str]
) -> None:
    done = home.longhaul("sample", "nothing", "?", "--store", str(home.store))
    assert done.returncode == 1
    assert "with a model: import, vanilla_sft, long_cot_sft, rl" in done.stderr


def test_serve_answers_the_openai_client_and_streams(home: Home, first_run: subprocess.CompletedProcess[str]) -> None:
    import openai

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*LONGHAUL, "serve", "long_cot_sft", "--store", str(home.store), "--port", str(port), "--name", "nano"],
        cwd=ROOT,
        env=home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=30, max_retries=0)
        deadline = time.monotonic() + 300
        while True:
            try:
                assert [model.id for model in client.models.list()] == ["nano"]
                break
            except openai.APIConnectionError:
                assert server.poll() is None, server.stdout.read() if server.stdout else ""
                assert time.monotonic() < deadline, "the server did not come up in five minutes"
                time.sleep(0.5)
        question: list[Any] = [{"role": "user", "content": "Start with 4. Add 3. What is the result?"}]
        whole = client.chat.completions.create(model="nano", messages=question, max_tokens=24, temperature=0, seed=1)
        pieces = client.chat.completions.create(
            model="nano", messages=question, max_tokens=24, temperature=0, seed=1, stream=True
        )
        texts = [chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices]
        assert len(texts) > 2
        assert "".join(texts) == whole.choices[0].message.content
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_ctrl_c_ends_clearly_and_the_next_run_resumes_within_the_stage(
    home: Home, first_run: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    command = [*LONGHAUL, "run", "--config", "configs/smoke.yaml", "--set", f"store={home.store}"]
    command += ["--set", "rl.iterations=40"]

    def interrupted_when(seen: Callable[[str], bool]) -> str:
        log = tmp_path / "output"
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=home.environment, stdout=output, stderr=output)
        while not seen(log.read_text()):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
        return log.read_text()

    def checkpoints() -> list[Path]:
        return list(home.folder.glob("checkpoints/*/[0-9]*"))

    said = interrupted_when(lambda said: bool(checkpoints()))
    assert re.search(r"^interrupted\nlog: .*\nFinished stages are kept", said, re.MULTILINE)
    assert "Traceback" not in said
    assert checkpoints()
    said = interrupted_when(lambda said: "continues after" in said)
    assert re.search(r"continues after [1-9][0-9]* finished iterations", said)


def test_a_killed_stage_is_retried_by_metaflow_and_resumes_within_the_stage(
    home: Home, first_run: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    before = set(home.folder.glob("checkpoints/*/[0-9]*"))
    command = [*LONGHAUL, "run", "--config", "configs/smoke.yaml", "--set", f"store={home.store}", "--retries", "1"]
    command += ["--set", "long2short.rl.iterations=8"]
    log = tmp_path / "output"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=home.environment, stdout=output, stderr=output)
    while not set(home.folder.glob("checkpoints/*/[0-9]*")) - before:
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.05)
    tasks = [(task, words) for task, words in running_below(process.pid) if "step" in words[-20:]]
    killed = [task for task, words in tasks if "short_rl" in words]
    assert killed, tasks
    killed[0].kill()
    assert process.wait(300) == 0, log.read_text()[-3000:]
    assert re.search(r"continues after [1-9] finished iterations", log.read_text())


def test_a_refused_configuration_names_the_key_before_anything_runs(home: Home) -> None:
    done = home.run("--set", "rl.responses=1")
    assert done.returncode == 1
    assert "rl" in done.stderr
    assert "responses" in done.stderr
    done = home.run("--set", "rl.no_such_key=1")
    assert "rl.no_such_key: unknown key" in done.stderr


def test_a_store_that_cannot_be_written_is_named(home: Home) -> None:
    done = home.longhaul("run", "--config", "configs/smoke.yaml", "--set", "store=/proc/nothing")
    assert done.returncode == 1
    assert "/proc/nothing: No such file or directory" in done.stderr and "Traceback" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_fails_says_at_which_stage_and_why(home: Home) -> None:
    broken = home.folder / "no checkpoint"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    done = home.run("--set", f"import_checkpoint.checkpoint={broken}", "--select", "+import")
    assert done.returncode == 1
    assert "import: CheckpointRefused: neither model.safetensors nor" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_published_model_is_a_checkpoint_as_it_was_imported_with_a_card(home: Home, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folders = {stage: tmp_path / "out" / stage for stage in ("import", "rl", "long2short/merge")}
    for stage, folder in folders.items():
        done = home.longhaul("publish", stage, str(folder), "--store", str(home.store), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"address": str(folder), "unchanged": False}
    base = AutoTokenizer.from_pretrained(folders["import"])
    question = [{"role": "user", "content": "Start with 4. Add 3. What is the result?"}]
    for folder in folders.values():
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        # vLLM has loaded the same files: each model was evaluated.
        assert model.dtype == AutoModelForCausalLM.from_pretrained(folders["import"]).dtype
        assert tokenizer.apply_chat_template(question) == base.apply_chat_template(question)
        for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            assert (folder / name).read_bytes() == (folders["import"] / name).read_bytes(), name
    card = (folders["rl"] / "README.md").read_text()
    assert "longhaul run --config recipe.yaml --until rl" in card and "| **rl** |" in card
    assert str(home.folder) not in card + (folders["rl"] / "recipe.yaml").read_text()
    assert "rl" in (folders["rl"] / "longhaul.json").read_text()
    listed = home.longhaul("publish", "rl", "--store", str(home.store))
    assert str(folders["rl"]) in listed.stdout


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("steps.checkpoint.CheckpointRefused: it is empty", "CheckpointRefused: it is empty"),
        ("ValueError: no such thing", "ValueError: no such thing"),
        ("KeyError", "KeyError"),
        ("rl.tau is refused: above 0", "rl.tau is refused: above 0"),
        ("Loading: it is on its way", "the flow failed"),
    ],
)
def test_without_a_record_the_log_says_why_a_run_failed(line: str, reported: str, home: Home, tmp_path: Path) -> None:
    recipe = check_recipe(
        {**load_recipe(ROOT / "configs" / "smoke.yaml").model_dump(mode="json"), "store": str(tmp_path)}, "test"
    )
    log = tmp_path / "log"
    log.write_text(f"2026-11-26 [1/rl/2 (pid 3)] Traceback\n2026-11-26 [1/rl/2 (pid 3)] {line}\nWorkflow failed.\n")
    assert find_failure(recipe, "run", 1, tmp_path / "progress", log) == (None, reported)


def test_the_flow_runs_by_itself_and_says_what_is_wrong_with_a_configuration(home: Home, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text((ROOT / "configs" / "smoke.yaml").read_text() + "\nunknown_section: {}\n")
    done = subprocess.run(
        [sys.executable, "flows/post_train.py", "--config", "config", str(bad), "show"],
        cwd=ROOT,
        env={**home.environment, "METAFLOW_USER": "tester"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "unknown_section: unknown key" in done.stdout + done.stderr


@pytest.mark.parametrize("script", ["nano", "seen_problems"])
def test_a_benchmark_reads_what_the_run_recorded(
    script: str, home: Home, first_run: subprocess.CompletedProcess[str]
) -> None:
    runs = json.loads(home.longhaul("runs", "--store", str(home.store), "--json").stdout)["runs"]
    run = runs[-1]["run"]  # the oldest: other tests rerun a stage of it
    command = [sys.executable, "-m", f"benchmarks.{script}", "--store", str(home.store), "--run", run]
    done = subprocess.run(command, cwd=ROOT, env=home.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert run in done.stdout.splitlines()[-1]
