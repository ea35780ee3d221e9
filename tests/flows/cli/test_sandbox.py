"""`longhaul sandbox` as users start it, with real boxes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[3]


def sandbox(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli.sandbox", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "program.py"


def test_a_program_s_output_and_its_end_are_printed(program: Path, tmp_path: Path) -> None:
    program.write_text("import sys\nprint('é', input())\nprint('oops', file=sys.stderr)")
    (tmp_path / "in").write_text("first\nsecond\n")
    done = sandbox("run", program, "--stdin", tmp_path / "in")
    assert (done.stdout, done.returncode) == ("é first\n", 0)
    said, summary = done.stderr.splitlines()
    assert said == "oops" and summary.startswith("[finished, exit code 0; 0.") and "MiB" in summary


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("exit(3)", (), "finished, exit code 3"),
        ("import time\ntime.sleep(60)", ("--wall", "0.5"), "time, exit code -9"),
        ("x = 'x' * 10**9", ("--memory", "100"), "memory, exit code 1"),
    ],
)
def test_a_program_that_does_not_end_well_is_1(program: Path, text: str, options: tuple[str, ...], said: str) -> None:
    program.write_text(text)
    done = sandbox("run", program, *options)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(f"[{said}; ")


@pytest.mark.parametrize("backend", ["bubblewrap", "crun"])
def test_a_home_below_tmp_is_as_good_as_any(backend: str, program: Path) -> None:
    if shutil.which({"bubblewrap": "bwrap"}.get(backend, backend)) is None:
        pytest.skip(f"no {backend} here")
    program.write_text("print('ran')")
    with TemporaryDirectory(dir="/tmp") as home:
        done = sandbox("run", program, "--backend", backend, LONGHAUL_HOME=home)
    assert (done.stdout, done.returncode) == ("ran\n", 0), done.stderr


def test_what_a_program_writes_cannot_drive_the_terminal(program: Path) -> None:
    program.write_text(r"import sys; print('\x1b]0;title\x07\x9b31m\r\u202e'); sys.stderr.write('\x1b[2J')")
    done = sandbox("run", program)
    assert not set("\x1b\x07\x9b\r\u202e") & set(done.stdout + done.stderr) and "]0;title" in done.stdout


def test_json_is_the_whole_result(program: Path) -> None:
    program.write_text("print('\\x1b')\nexit(2)")
    done = sandbox("run", program, "--json")
    result = json.loads(done.stdout)
    assert (result["stdout"], result["exit_code"], result["ended"], done.returncode) == ("\x1b\n", 2, "finished", 1)
    assert done.stderr == "" and result["wall_seconds"] > 0 and isinstance(result["not_held"], list)


@pytest.mark.parametrize(
    ("name", "text", "needs"),
    [
        ("program.cpp", "#include <iostream>\nint main() { std::cout << 42; }", "g++"),
        ("program.js", "console.log(42)", "node"),
    ],
)
def test_the_file_s_ending_names_the_language(tmp_path: Path, name: str, text: str, needs: str) -> None:
    if shutil.which(needs) is None:
        pytest.skip(f"no {needs} here")
    (tmp_path / name).write_text(text)
    done = sandbox("run", tmp_path / name)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("program.rb", b"", (), "name it with --language"),
        ("program.py", b"\xff", (), "is not UTF-8 text"),
        ("program.py", b"", ("--stdin", "/no/such/file"), "/no/such/file cannot be read: No such file"),
        ("program.py", b"", ("--wall", "0"), "wall_seconds is 0.0; expected a number above 0"),
        ("program.py", b"", ("--service", "localhost"), "expected http://HOST:PORT"),
    ],
)
def test_what_cannot_be_run_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = sandbox("run", tmp_path / name, *options)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_without_a_backend_it_says_what_to_install(program: Path, tmp_path: Path) -> None:
    program.write_text("print(1)")
    for command in (("run", program), ("serve",)):
        done = sandbox(*command, PATH=str(tmp_path))
        assert done.returncode == 1 and done.stdout == ""
        assert "apt-get install bubblewrap" in done.stderr and "apt-get install crun" in done.stderr


def test_it_serves_others_only_with_a_token() -> None:
    done = sandbox("serve", "--host", "0.0.0.0")
    assert done.returncode == 1 and "--token-file" in done.stderr and "LONGHAUL_SANDBOX_TOKEN" in done.stderr


def test_a_program_can_be_run_by_a_service(program: Path, tmp_path: Path) -> None:
    program.write_text("print('there')")
    (tmp_path / "token").write_text("a-token-of-some-length")
    token_file = str(tmp_path / "token")
    serve = [sys.executable, "-m", "flows.cli", "sandbox", "serve", "--port", "0", "--token-file", token_file]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout
        url = server.stdout.readline().split(" listens on ")[1].split()[0]
        done = sandbox("run", program, "--service", url, LONGHAUL_SANDBOX_TOKEN="a-token-of-some-length")
        assert (done.stdout, done.returncode) == ("there\n", 0), done.stderr
        done = sandbox("run", program, "--service", url)
        assert done.returncode == 1 and "refuses the token, or there is none" in done.stderr
        server.terminate()
        assert server.wait(20) == 0
