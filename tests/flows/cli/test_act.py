"""Notes, logs, failures and stopping: what is done about a run, on recorded runs. Stopping one that runs is tested in
tests/flows/test_killed_runs.py."""

import json
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main
from flows.leftovers import running
from flows.logs import follow
from flows.runs import end_run, start_run
from infra.store import records
from infra.store.records import Failure
from infra.store.store import Store
from tests.flows.made_up_chain import chain, finish

HOSTILE = "[/red]<script>\x1b[2J\u202e"


class Commands:
    """`longhaul` in a home of its own, in which run-1 passed and run-2 failed at `import`."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        made = chain(folder / "store")
        self.passed = finish(made, folder / "made", stages=["data", "import"])
        self.store: Store = made.store
        self.address = str(folder / "store")
        start_run(self.store, "run-2", made.recipe.model_dump(mode="json"), ["run", "--set", "rl.tau=0.2"])
        end_run(self.store, "run-2", "failed", "broken")

    def fail(self, key: str, started: str, run: str = "run-2") -> None:
        failure = Failure(error=f"ValueError: {HOSTILE}", log="/etc/hostname")
        update = {"run": run, "key": key, "failure": failure, "outputs": {}, "started": started}
        records.write(self.store, f"stage-runs/{run}", self.passed["import"].model_copy(update=update))

    def log(self, name: str, text: str, run: str = "run-2") -> Path:
        file = self.home / "runs" / run / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments], env={"COLUMNS": "200"})


@pytest.fixture
def longhaul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    for module in ("flows.chain", "flows.home", "flows.staleness", "flows.stop", "flows.logs"):
        monkeypatch.setattr(f"{module}.HOME", tmp_path / "home")
    return Commands(tmp_path)


def test_notes_are_shown_with_their_run_and_cannot_drive_the_terminal(longhaul: Commands) -> None:
    store = ("--store", longhaul.address)
    assert "notes" not in longhaul("runs", *store).output
    assert longhaul("note", "run-1", HOSTILE, *store).exit_code == 0
    assert longhaul("note", "run-1", "the good one", *store).exit_code == 0
    for command in (["runs"], ["show", "run-1"]):
        printed = longhaul(*command, *store).output
        assert "the good one" in printed and "[/red]<script>" in printed
        assert "\x1b[2J" not in printed and "\u202e" not in printed
    (noted, other) = sorted(json.loads(longhaul("runs", *store, "--json").output)["runs"], key=lambda row: row["run"])
    assert (noted["notes"], other["notes"]) == ([HOSTILE, "the good one"], [])
    (_, second) = json.loads(longhaul("show", "run-1", *store, "--json").output)["notes"]
    assert second["text"] == "the good one" and second["by"] and second["time"]


@pytest.mark.parametrize(
    ("run", "text", "message"),
    [
        ("run-9", "x", "there is no run 'run-9'"),
        ("../x", "x", "there is no run '../x'"),
        ("run-1", " \n", "a note has 1 to 2,000 characters, and this one has 0"),
        ("run-1", "x" * 2001, "and this one has 2,001"),
    ],
)
def test_a_note_on_nothing_or_of_nothing_is_refused(longhaul: Commands, run: str, text: str, message: str) -> None:
    refused = longhaul("note", run, text, "--store", longhaul.address)
    assert refused.exit_code == 1 and message in refused.stderr


def test_a_failure_is_shown_with_its_error_its_log_and_the_command_that_runs_it_again(longhaul: Commands) -> None:
    longhaul.fail("a" * 64, "2026-01-02T00:00:00+00:00")
    log = longhaul.log("import.log", "".join(f"line {number}\n" for number in range(30)))
    (failure,) = json.loads(longhaul("failures", "--store", longhaul.address, "--json").output)["failures"]
    assert (failure["run"], failure["stage"], failure["passed_in"]) == ("run-2", "import", None)
    assert failure["lines"] == [f"line {number}" for number in range(20, 30)]
    assert (failure["log"], failure["command"]) == (str(log), "longhaul run --set rl.tau=0.2")
    printed = longhaul("failures", "run-2", "--store", longhaul.address).output
    assert "ValueError: [/red]<script>" in printed and "\x1b[2J" not in printed
    assert "to run it again: longhaul run --set rl.tau=0.2\n" in printed
    assert longhaul("failures", "run-1", "--store", longhaul.address).output == "nothing failed\n"


def test_a_log_is_found_by_its_place_and_never_by_what_a_record_names(longhaul: Commands) -> None:
    longhaul.fail("a" * 64, "2026-01-02T00:00:00+00:00")
    (failure,) = json.loads(longhaul("failures", "--store", longhaul.address, "--json").output)["failures"]
    assert (failure["log"], failure["lines"]) == (None, []), "the record names /etc/hostname"


@pytest.mark.parametrize(("started", "passed"), [("2025-12-31", "run-1"), ("2026-01-02", None)])
def test_a_failure_that_passed_later_with_the_same_key_says_in_which_run(
    longhaul: Commands, started: str, passed: str | None
) -> None:
    longhaul.fail(longhaul.passed["import"].key, f"{started}T00:00:00+00:00")
    (failure,) = json.loads(longhaul("failures", "--store", longhaul.address, "--json").output)["failures"]
    assert failure["passed_in"] == passed
    printed = longhaul("failures", "--store", longhaul.address).output
    assert ("passed later in run run-1" in printed, "to run it again" in printed) == (bool(passed), not passed)


def test_a_run_that_was_killed_between_stages_is_a_failure_too(longhaul: Commands) -> None:
    longhaul.log("metaflow.log", "the end")
    (failure,) = json.loads(longhaul("failures", "--store", longhaul.address, "--json").output)["failures"]
    assert (failure["stage"], failure["error"], failure["lines"]) == (None, "broken", ["the end"])


def test_logs_are_printed_whole_or_their_end(longhaul: Commands) -> None:
    longhaul.log("metaflow.log", "started\n\x1b[2Jdone\n")
    longhaul.log("evaluate-rl.log", "one\ntwo\nthree")
    assert longhaul("logs", "run-2").output == "started\n\ufffd[2Jdone\n"
    assert longhaul("logs", "run-2:evaluate/rl").output == "one\ntwo\nthree\n"
    assert longhaul("logs", "run-2:evaluate/rl", "--lines", "2").output == "two\nthree\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run-1", "run run-1 has no workflow's log in"),
        ("run-2:rl", "has no log of a stage 'rl' in"),
        ("run-2:rl", "those of stages are: import"),
        ("run-2:../../secret", "has no log of a stage '../../secret'"),
        ("../x", "'../x' is not a run's name: `longhaul runs`"),
        ("", "'' is not a run's name"),
    ],
)
def test_a_log_that_is_not_here_is_one_clear_line(longhaul: Commands, name: str, message: str) -> None:
    longhaul.log("import.log", "x")
    longhaul.log("secret.log", "x", "..")
    refused = longhaul("logs", name)
    assert refused.exit_code == 1 and message in refused.stderr


def test_a_log_is_followed_until_its_run_ends(longhaul: Commands) -> None:
    log = longhaul.log("metaflow.log", "first\n")
    begun, written = threading.Event(), threading.Event()

    def work() -> None:
        with running(log.parent):
            begun.set()
            for number in range(3):
                time.sleep(0.2)
                with log.open("a") as file:
                    file.write(f"line {number}\n")
        written.set()

    worker = threading.Thread(target=work)
    worker.start()
    assert begun.wait(5)
    assert longhaul("logs", "run-2", "--follow").output == "first\nline 0\nline 1\nline 2\n"
    assert written.wait(5)
    worker.join()


def test_what_is_logged_while_the_lines_before_are_printed_is_not_lost(longhaul: Commands) -> None:
    log = longhaul.log("metaflow.log", "first\nsecond\nhalf a ")
    with running(log.parent):
        text = follow(log, "run-2", 2)
        assert next(text) == "second\n"
        with log.open("a") as file:
            file.write("line\n")
        assert next(text) == "half a "
    assert "".join(text) == "line\n"


@pytest.mark.parametrize(
    ("run", "message"), [("run-2", "is not running on this machine"), ("../x", "is not a run's name")]
)
def test_what_does_not_run_cannot_be_stopped(longhaul: Commands, run: str, message: str) -> None:
    refused = longhaul("stop", run)
    assert refused.exit_code == 1 and message in refused.stderr


def test_a_lock_with_the_number_of_a_later_process_stops_nothing(longhaul: Commands) -> None:
    folder = longhaul.log("metaflow.log", "").parent
    with running(folder):
        lock = folder / "lock"
        temporary, process = lock.read_text().splitlines()
        number, started = process.split()
        lock.write_text(f"{temporary}\n{number} {int(started) + 1}\n")
        refused = longhaul("stop", "run-2")
    assert refused.exit_code == 1 and "another version of Longhaul, or is ending" in refused.stderr
