"""`longhaul schedule` and `longhaul notify`: what they show, change and tell, and the service that starts one."""

import http.server
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli.main import main
from flows.cli.notify import notify, read_failures
from flows.cli.schedule import Jobs, schedule
from flows.notify import report_failure
from flows.topology import STAGES
from infra.scheduling.config import ScheduleConfig
from infra.scheduling.state import ScheduleFolder, ScheduleState
from infra.store import records
from infra.store.records import Failure, StageRecord
from steps.recipe import ConfigRefused, check_recipe, load_recipe
from tests.flows.made_up_chain import chain, finish

ROOT = Path(__file__).parents[3]
SMOKE = (ROOT / "configs" / "smoke.yaml").read_text()
NEVER = "0 0 29 2 *"


def recipe_file(folder: Path, **sections: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(SMOKE + "".join(f"\n{name}: {text}" for name, text in sections.items()))
    return path


class Commands:
    """`longhaul schedule` in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.folder = ScheduleFolder(home / "schedule")

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(schedule, arguments, env={"COLUMNS": "200"})
        assert done.exit_code == code, done.output
        return done

    def keep(self, name: str = "nano", cron: str = "0 3 * * 1", **state: object) -> None:
        config = ScheduleConfig(cron=cron, timezone="Europe/Berlin")
        with self.folder.change() as schedules:
            schedules[name] = ScheduleState.model_validate(
                {"config": f"{name}.yaml", "schedule": config, "handled_until": datetime.now(UTC), **state}
            )


@pytest.fixture
def longhaul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("flows.cli.schedule.HOME", tmp_path / "home")
    return Commands(tmp_path / "home")


def wait(seen: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_schedules_are_listed_with_what_is_next_and_whether_anyone_is_at_work(longhaul: Commands) -> None:
    assert "no schedule on this machine yet" in longhaul("ls").output
    longhaul.keep()
    longhaul.folder.add_entry("nano", "failed", error="exit status 1: \x1b[31mbroke")
    table = longhaul("ls").output
    assert "no scheduler is running" in table and "0 3 * * 1 Europe/Berlin" in table and "failed" in table
    assert re.search(r"Mon \d{4}-\d\d-\d\d 03:00 \+0[12]00", table)
    (listed,) = json.loads(longhaul("ls", "--json").output)["schedules"]
    assert (listed["name"], listed["paused"], listed["last"]["event"]) == ("nano", False, "failed")
    assert datetime.fromisoformat(listed["next"]) > datetime.now(UTC)
    with longhaul.folder.lock("scheduler.lock"):
        assert "the scheduler is running" in longhaul("ls").output


def test_the_next_times_are_by_the_schedules_clock(longhaul: Commands, tmp_path: Path) -> None:
    config = recipe_file(tmp_path, schedule="{cron: '30 2 * * *', timezone: Europe/Berlin}")
    lines = longhaul("next", "--config", str(config), "-n", "400").output.splitlines()
    assert len(lines) == 400
    listed = json.loads(longhaul("next", "--config", str(config), "-n", "400", "--json").output)["times"]
    times = [datetime.fromisoformat(time) for time in listed]
    steps = {later - earlier for earlier, later in itertools.pairwise(times)}
    assert steps == {timedelta(hours=24), timedelta(hours=1), timedelta(hours=47)}
    assert not [line for line in lines if "2027-03-28" in line], "a time that spring skips does not come"


def test_the_next_times_of_an_interval_are_counted_from_the_last(longhaul: Commands) -> None:
    ago = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=10)
    longhaul.keep(cron="@every 12h", handled_until=ago)
    first, second = json.loads(longhaul("next", "-n", "2", "--json").output)["times"]
    assert datetime.fromisoformat(first) == ago + timedelta(hours=12) == longhaul.folder.read()["nano"].next
    assert datetime.fromisoformat(second) == ago + timedelta(hours=24)


def test_a_schedule_is_paused_resumed_and_requested(longhaul: Commands) -> None:
    longhaul.keep()
    assert "paused" in longhaul("pause").output
    assert longhaul.folder.read()["nano"].paused
    assert "is paused already" in longhaul("pause", "nano").output
    assert "is paused: longhaul schedule resume nano" in longhaul("next").output
    assert "next at Mon" in longhaul("resume", "nano").output
    assert "waits for `longhaul schedule run`" in longhaul("trigger").output
    assert longhaul.folder.read()["nano"].requested
    entries = json.loads(longhaul("history", "--json").output)["history"]
    assert [one["event"] for one in entries] == ["paused", "resumed", "requested"]
    assert "requested" in longhaul("history", "nano").output


def test_a_schedule_that_is_not_there_is_answered_with_those_that_are(longhaul: Commands) -> None:
    assert "there is no schedule on this machine yet" in longhaul("pause", "nano", code=1).output
    longhaul.keep("one")
    longhaul.keep("two")
    assert "which one? There are one, two" in longhaul("trigger", code=1).output
    assert "there is no schedule 'three' here; there are one, two, and" in longhaul("pause", "three", code=1).output


def test_what_others_wrote_does_not_drive_the_terminal(longhaul: Commands) -> None:
    longhaul.folder.add_entry("nano", "failed", error="\x1b]0;owned\x07 broke\x9b2J")
    output = longhaul("history").output
    assert "owned" in output and not re.search("[\x1b\x07\x9b]", output)


def test_a_recipe_without_a_schedule_or_with_a_bad_one_is_refused_by_its_key(
    longhaul: Commands, tmp_path: Path
) -> None:
    assert "has no section `schedule`" in longhaul("run", "--config", str(recipe_file(tmp_path)), code=1).output
    bad = recipe_file(tmp_path, schedule="{cron: '0 3 * * 8'}")
    assert "schedule.cron: day of week '8'" in longhaul("run", "--config", str(bad), code=1).output
    generated = recipe_file(tmp_path, schedule="{when: data-changed}")
    assert "generates data, which never change" in longhaul("next", "--config", str(generated), code=1).output


def test_a_schedule_runs_what_it_says(tmp_path: Path) -> None:
    commands = {}
    for what in ("full", "rl", "evaluate"):
        path = recipe_file(tmp_path, schedule=f"{{cron: '{NEVER}', what: {what}}}")
        jobs = Jobs([path])
        actual = jobs()
        assert actual is not None and jobs() is None, "a file is read again only when it changes"
        commands[what] = list(actual[0].command[3:])
    assert commands == {
        "full": ["run", "--config", str(path)],
        "rl": ["run", "--config", str(path), "--until", "rl"],
        "evaluate": ["evaluate", "--config", str(path)],
    }
    path.write_text(SMOKE)
    with pytest.raises(ConfigRefused):
        jobs()
    assert jobs() is None


def test_schedule_and_webhook_are_in_no_stages_key(tmp_path: Path) -> None:
    plain = chain(tmp_path / "store")
    more = chain(tmp_path / "store", "schedule={cron: '0 3 * * 1'}", "notify={webhook: HOOK}")
    keys = dict.fromkeys(STAGES)
    for stage in ("data", "rl", "long2short/dpo"):
        assert plain.parts(stage, keys).key == more.parts(stage, keys).key


def test_sigterm_ends_the_scheduler_and_its_run(tmp_path: Path) -> None:
    config = recipe_file(tmp_path, store=str(tmp_path / "store"), schedule=f"{{cron: '{NEVER}'}}")
    folder = ScheduleFolder(tmp_path / "home" / "schedule")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.schedule", "run", "--config", str(config)],
        cwd=ROOT,
        env={**os.environ, "LONGHAUL_HOME": str(tmp_path / "home")},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait(lambda: "smoke" in folder.read())
    with folder.change_one("smoke") as state:
        state.requested = True
    wait(folder.history)
    wait(lambda: folder.states()["smoke"] == "running")
    process.send_signal(signal.SIGTERM)
    assert process.wait(45) == 0
    assert [one.event for one in folder.history()] == ["started", "interrupted"]
    assert folder.read()["smoke"].running is not None


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A webhook's address, and what was posted to it."""
    posted: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", posted
    server.shutdown()
    server.server_close()


def test_a_failure_is_reported_with_its_recorded_stage_and_the_command_that_reruns_it(
    hook: tuple[str, list[dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, posted = hook
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOOK", address)
    monkeypatch.setenv("LONGHAUL_REPORTED_FILE", str(tmp_path / "reported"))
    store = tmp_path / "store"
    raw = load_recipe(ROOT / "configs" / "smoke.yaml").model_dump(mode="json")
    silent = check_recipe(raw | {"store": str(store)}, "smoke")
    report_failure(silent, "run-1", "rl", "broke", ["run"])
    assert not posted and not (tmp_path / "reported").exists()
    made = chain(store)
    failed = StageRecord.model_construct(
        **vars(made.parts("data", {})),
        key="key",
        run="run-1",
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        peak_memory_mb=1.0,
        inputs={},
        outputs={},
        code="",
        commit=None,
        gates=[],
        metrics={},
        history=[],
        evaluation=None,
        failure=Failure(error="GateFailed: 3 rows"),
    )
    records.write(made.store, "stage-runs/run-1", failed)
    recipe = check_recipe(raw | {"store": str(store), "notify": {"webhook": "HOOK"}}, "smoke")
    command = ["run", "--config", "my configs/a.yaml"]
    report_failure(recipe, "run-1", None, "GateFailed: 3 rows\nmore", command, tmp_path / "log")
    (message,) = posted
    assert message["text"] == "Longhaul: smoke failed at data (run run-1): GateFailed: 3 rows"
    assert (message["event"], message["run"], message["stage"]) == ("failed", "run-1", "data")
    assert message["command"] == "longhaul run --config 'my configs/a.yaml'"
    assert message["log"] == str(tmp_path / "log") and message["error"].endswith("more")
    assert (tmp_path / "reported").exists()
    unreadable = check_recipe(raw | {"store": "/proc/nothing", "notify": {"webhook": "HOOK"}}, "x")
    report_failure(unreadable, "r", None, "e", [])
    assert posted[1]["stage"] is None, "a store that cannot be read must not keep anyone from being notified"


def test_the_exit_hook_of_a_workflow_tells_of_the_first_node_that_failed(
    hook: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, posted = hook
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOOK", address)
    nodes = [
        {"displayName": "posttrain-abc", "message": "", "phase": "Failed", "finishedAt": "2026-01-01T00:00:09Z"},
        {
            "displayName": "rl",
            "message": "OOMKilled (exit code 137)",
            "podName": "p",
            "finishedAt": "2026-01-01T00:00:08Z",
        },
    ]
    workflow = ["--webhook", "HOOK", "--run", "posttrain-abc", "--log", "https://argo/workflows/posttrain-abc"]
    for failures in (json.dumps(nodes), json.dumps(json.dumps(nodes))):
        done = CliRunner().invoke(notify, [*workflow, "--status", "Failed", "--failures", failures])
        assert done.exit_code == 0, done.output
        assert (posted[-1]["stage"], posted[-1]["error"]) == ("rl", "OOMKilled (exit code 137)")
    assert CliRunner().invoke(notify, [*workflow, "--status", "Succeeded"]).exit_code == 0
    assert len(posted) == 2
    assert CliRunner().invoke(notify, [*workflow, "--status", "Error"]).exit_code == 0
    assert posted[-1]["error"] == "the workflow ended as Error"
    assert read_failures("null") == (None, "null") and read_failures("not json") == (None, "not json")


def test_the_exit_code_says_that_nobody_was_notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    assert CliRunner().invoke(notify, ["--webhook", "HOOK", "--error", "x"]).exit_code == 1
    nobody = CliRunner().invoke(notify, ["--error", "x"])
    assert nobody.exit_code == 1 and "no webhook to report to" in nobody.output
    bad = CliRunner().invoke(notify, ["--webhook", "ftp://host"])
    assert bad.exit_code == 1 and "--webhook: expected https://HOST" in bad.output
    config = recipe_file(tmp_path)
    assert "no webhook to report to" in CliRunner().invoke(notify, ["--config", str(config)]).output


def test_the_service_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (ROOT / "flows" / "systemd" / "longhaul-schedule.service").read_text()
    start = re.search(r"^ExecStart=@FOLDER@/\.venv/bin/longhaul (.*)$", text, re.MULTILINE)
    assert start and start[1].split()[:2] == ["schedule", "run"]
    assert 'sed "s|@FOLDER@|$PWD|g" flows/systemd/longhaul-schedule.service' in text
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd-analyze is not installed")
    fake = tmp_path / ".venv" / "bin" / "longhaul"
    fake.parent.mkdir(parents=True)
    fake.touch(0o755)
    unit = tmp_path / "longhaul-schedule.service"
    unit.write_text(text.replace("@FOLDER@", str(tmp_path)))
    done = subprocess.run([checker, "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "longhaul-schedule" not in done.stderr, done.stderr


def test_a_store_in_which_no_new_model_is_made_is_reported(
    hook: tuple[str, list[dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, posted = hook
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOOK", address)
    for module in ("flows.home", "flows.chain"):
        monkeypatch.setattr(f"{module}.HOME", tmp_path / "home")
    made = chain(tmp_path / "store", "notify={webhook: HOOK}")
    finish(made, tmp_path / "made", stages=["data", "import"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(made.recipe.model_dump(mode="json")))

    def check(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["check", "freshness", "--store", str(tmp_path / "store"), *arguments])

    done = check("--config", str(recipe), "--days", "3")
    assert done.exit_code == 1 and not done.stdout
    assert "there is no model, and a new one is expected every 3 days" in done.stderr, "an import makes nothing new"
    (report,) = posted
    assert report["recipe"] == "smoke" and report["error"].startswith("there is no model")
    assert report["command"] == f"longhaul run --config {recipe}"
    assert check("--stage", "import", "--days", "36500").exit_code == 0
    old = json.loads(check("--stage", "import", "--days", "1", "--json").stdout)
    assert (old["passed"], old["limit_days"]) == (False, 1.0) and old["age_days"] > 1 and len(posted) == 1
    assert "--days nan: expected a number of days" in check("--days", "nan").stderr
    refused = check("--config", "configs/smoke.yaml")
    assert refused.exit_code == 1 and "configs/smoke.yaml has no section `notify`" in refused.stderr
