"""Progress reaches whoever watches, at a bearable rate, and cannot be used to write markup or control codes."""

import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from infra.progress import tasks
from infra.progress.events import Event
from infra.progress.sinks import (
    FILE_INTERVAL,
    FINISHED_BARS,
    PLAIN_INTERVAL,
    VARIABLE,
    FileSink,
    PlainSink,
    ProgressMisconfigured,
    TerminalSink,
    choose_sink,
)
from infra.progress.tasks import say, stage_progress, task
from infra.progress.view import ProgressView, Tail

HOSTILE = "[red]<script>\x1b[31m\r\n\u202e\ud800"
PROGRAM = """
from infra.progress.tasks import say, stage_progress, task
with stage_progress("rl") as stage:
    with task("rollout", total=4, unit="responses") as work:
        for _ in range(4):
            work.advance()
        work.note("accuracy [bold]0.41")
    say("said [red]this\\x1b[31m")
    stage.note("headline")
"""


@pytest.fixture(autouse=True)
def fresh_sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tasks, "_sink", None)
    monkeypatch.delenv(VARIABLE, raising=False)
    yield


def event(kind: str, at: float = 0, task: str = "rollout", **fields: object) -> Event:
    return Event.model_validate({"time": at, "kind": kind, "task": task, **fields})


def environment(**extra: str) -> dict[str, str]:
    base = {key: value for key, value in os.environ.items() if key not in (VARIABLE, "NO_COLOR", "CI")}
    return {**base, "PYTHONPATH": str(Path(__file__).parents[3]), "TERM": "xterm", "COLUMNS": "120", **extra}


def in_terminal(program: str, **extra: str) -> str:
    """What a program shows in a real pseudo-terminal."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=secondary, stdout=secondary, stderr=secondary, env=environment(**extra)
    )
    os.close(secondary)
    displayed = b""
    try:
        while chunk := os.read(primary, 65536):
            displayed += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(primary)
    assert process.wait(timeout=60) == 0, displayed.decode()
    return displayed.decode()


def test_without_a_terminal_there_are_plain_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with stage_progress("rl") as stage:
        with task("rollout", total=512, unit="responses") as work:
            work.advance(512)
            work.note("accuracy 0.41")
        say("one\ntwo")
        stage.note("better")
    seen = capsys.readouterr()
    lines = seen.err.splitlines()
    assert seen.out == ""
    assert lines[0] == "rl"
    assert lines[1].startswith("rollout: 512/512 responses") and lines[1].endswith("done in 0.0 s, accuracy 0.41")
    assert lines[2:] == ["one", "two", "rl: done in 0.0 s, better"]


def test_a_failure_is_shown_and_the_stage_left(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), stage_progress("rl"), task("rollout", total=3) as work:
        work.advance()
        raise KeyError
    say("after")
    assert tasks._stage == ""
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("rollout: 1/3, ") and "failed after" in lines[1]
    assert lines[2:] == ["rl: failed after 0.0 s", "after"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from("ab")), max_size=60))
def test_plain_lines_come_at_most_every_five_seconds_for_each_task(steps: list[tuple[float, str]]) -> None:
    out, now = io.StringIO(), 0.0
    sink = PlainSink(out)
    for name in "ab":
        sink.handle(event("task", 0, name, total=99))
    for done, (wait, name) in enumerate(steps, 1):
        now += wait
        sink.handle(event("update", now, name, done=done, total=99))
    for name in "ab":
        sink.handle(event("task_done", now, name, done=99, total=99))
    lines = out.getvalue().splitlines()
    for name in "ab":
        mine = [line for line in lines if line.startswith(f"{name}:")]
        assert 1 <= len(mine) <= 1 + now // PLAIN_INTERVAL
        assert "done in" in mine[-1]


def test_a_plain_line_tells_rate_and_time_left() -> None:
    out = io.StringIO()
    sink = PlainSink(out)
    sink.handle(event("task", 0, total=300, unit="responses"))
    sink.handle(event("update", 10, done=100, total=300, unit="responses", note="accuracy 0.41"))
    sink.handle(event("update", 200, done=110, total=300, unit="responses"))
    sink.handle(event("update", 100, done=120, total=300, unit="responses"))  # the clock was set back
    assert out.getvalue().splitlines() == [
        "rollout: 100/300 responses, 10/s, 20.0 s left, accuracy 0.41",
        "rollout: 110/300 responses, 0.55/s, 5 min 45 s left",
        "rollout: 120/300 responses, 1.2/s, 2 min 30 s left",
    ]


def test_a_narrow_encoding_does_not_stop_the_work() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    PlainSink(out).handle(event("say", note="τ = 0.1"))
    assert raw.getvalue() == b"\\u03c4 = 0.1\n"


def test_the_file_gets_the_first_and_last_state_and_few_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "progress.jsonl"
    monkeypatch.setenv(VARIABLE, str(path))
    with stage_progress("rl"), task("rollout", total=10_000, unit="responses") as work:
        for _ in range(10_000):
            work.advance()
        work.note(HOSTILE)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["kind"] for row in rows[:2]] == ["stage", "task"]
    assert set(rows[0]) >= {"time", "stage", "task", "done", "total", "unit", "note"}
    assert rows[-2]["kind"] == "task_done" and rows[-2]["done"] == rows[-2]["total"] == 10_000
    assert rows[-2]["note"] == "[red]<script> [31m "
    assert rows[-1]["kind"] == "stage_done"
    assert len(rows) <= 4 + (rows[-1]["time"] - rows[0]["time"]) / FILE_INTERVAL + 1


def test_a_progress_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgressMisconfigured, match=r"LONGHAUL_PROGRESS=.*absent.*No such file"):
        choose_sink({VARIABLE: str(tmp_path / "absent" / "progress.jsonl")})


@given(st.text(max_size=80))
def test_no_control_character_survives_in_an_event(text: str) -> None:
    note = event("say", note=text).note
    assert len(note.splitlines()) <= 1
    assert all(letter.isprintable() or not letter.isascii() for letter in note)
    assert Event.model_validate_json(event("say", note=text).model_dump_json()).note == note
    note.encode()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=8), st.data())
def test_a_reader_sees_every_event_once_wherever_the_writes_are_cut(
    tmp_path_factory: pytest.TempPathFactory, notes: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tail") / "progress.jsonl"
    events = [event("say", i, note=note) for i, note in enumerate(notes)]
    whole = b"".join(each.model_dump_json().encode() + b"\n" for each in events)
    tail, seen, at = Tail(path), [], 0
    assert tail.events() == []
    while at < len(whole):
        step = data.draw(st.integers(1, len(whole) - at))
        with path.open("ab") as file:
            file.write(whole[at : at + step])
        at += step
        seen += tail.events()
    assert seen == events
    assert tail.events() == []


def test_a_reader_outlives_truncation_replacement_and_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    sink, tail = FileSink(path), Tail(path)
    sink.handle(event("say", note="a" * 50))
    with path.open("ab") as file:
        file.write(b'{"time": 1, "kind": "say"\n[]\n\xff\xfe\n{"time": "soon", "kind": "say"}\n{"time": 1, "ki')
    assert [each.note for each in tail.events()] == ["a" * 50]
    path.write_bytes(b"")
    sink.handle(event("say", note="b"))
    assert [each.note for each in tail.events()] == ["b"]
    path.rename(tmp_path / "old.jsonl")
    sink.handle(event("say", note="c" * 200))
    assert [each.note for each in tail.events()] == ["c" * 200]


def test_a_terminal_gets_bars_and_text_as_it_is() -> None:
    displayed = in_terminal(PROGRAM)
    assert "━" in displayed and "4/4" in displayed and "responses" in displayed
    assert "accuracy [bold]0.41" in displayed
    assert "said [red]this [31m" in displayed
    assert "rl: done in 0." in displayed and ", headline" in displayed
    assert displayed.count("\x1b[?25l") == displayed.count("\x1b[?25h") == 1  # the cursor is given back


def test_a_dumb_terminal_gets_plain_lines() -> None:
    displayed = in_terminal(PROGRAM, TERM="dumb")
    assert "\x1b" not in displayed and "rollout: 4/4 responses" in displayed


def test_bars_stay_on_the_terminal_while_engines_are_quiet(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    quiet = "\n".join("    " + line for line in PROGRAM.splitlines())
    displayed = in_terminal(
        f"from pathlib import Path\nfrom infra.progress.logs import quiet_to\n"
        f"with quiet_to(Path({str(log)!r})):\n    print('engine noise')\n{quiet}\n"
    )
    assert "4/4" in displayed and "━" in displayed
    assert "engine noise" not in displayed
    assert log.read_text() == "engine noise\n"


def test_finished_bars_do_not_pile_up() -> None:
    sink = TerminalSink(Console(file=io.StringIO(), force_terminal=True))
    sink.handle(event("stage", 0, task="", stage="rl"))
    for i in range(20):
        sink.handle(event("task", i, task=f"iteration {i}", stage="rl", total=1))
        sink.handle(event("task_done", i, task=f"iteration {i}", stage="rl", total=1, done=1))
    assert len(sink._bars.tasks) == FINISHED_BARS
    sink.handle(event("stage_done", 20, task="", stage="rl"))
    assert sink._live is None


def test_the_view_shows_what_another_process_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "progress.jsonl"
    with ProgressView(path):
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment(**{VARIABLE: str(path)}), check=True, timeout=60
        )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rl"
    assert lines[1].startswith("rollout: 4/4 responses") and lines[1].endswith("accuracy [bold]0.41")
    assert lines[2] == "said [red]this [31m"
    assert lines[3].startswith("rl: done in 0.") and lines[3].endswith(", headline")


def test_the_view_can_leave_standard_output_to_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "progress.jsonl"
    with ProgressView(path, stderr=True):
        FileSink(path).handle(event("say", note="hello"))
    assert capsys.readouterr() == ("", "hello\n")


def test_the_view_draws_bars_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    sink = FileSink(path)
    for each in (
        event("stage", 0, task="", stage="rl"),
        event("task", 1, stage="rl", total=8, unit="responses", note=""),
        event("task_done", 2, stage="rl", total=8, done=8, unit="responses", note=HOSTILE),
        event("stage_done", 63, task="", stage="rl", note="[blue]headline"),
    ):
        sink.handle(each)
    displayed = in_terminal(
        f"from pathlib import Path\nfrom infra.progress.view import ProgressView\n"
        f"with ProgressView(Path({str(path)!r})):\n    pass\n"
    )
    assert "8/8" in displayed and "[red]<script> [31m" in displayed
    assert "rl: done in 1 min 3 s, [blue]headline" in displayed


def test_threads_may_advance_one_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.jsonl"))
    with task("rollout", total=4000) as work:

        def advance() -> None:
            for _ in range(1000):
                work.advance()

        threads = [threading.Thread(target=advance) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert rows[-1]["done"] == 4000
    assert [row["done"] for row in rows] == sorted(row["done"] for row in rows)


def test_going_back_and_nameless_work_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot advance by -1"), task("rollout") as work:
        work.advance(-1)
    with pytest.raises(ValueError, match="needs a name"), task(""):
        pass
    with pytest.raises(ValueError, match="needs a name"), stage_progress(""):
        pass


def test_counting_costs_next_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.jsonl"))
    with task("tokens", total=20_000) as work:
        started = time.perf_counter()
        for _ in range(20_000):
            work.advance()
        assert time.perf_counter() - started < 2
