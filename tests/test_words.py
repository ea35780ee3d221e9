"""The project's words: names and texts use the field's terms and plain English, as CONTRIBUTING.md asks of them.

A word that is avoided fails here with its place and with the word to write. What is right in one place and not in
others is allowed there, with the reason.
"""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("flows", "steps", "infra", "tests", "benchmarks")

PARTS = {
    "told": "message, summary, report or reported",
    "telling": "message, summary or report",
    "anew": "again, or from scratch",
    "whys": "failure_reasons",
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
}
"""Words that no name has, not even as a part of it, and what to write."""

NAMES = {
    "found": "matches, or what it is",
    "kept": "retained, or what it is",
    "given": "value, or what it is",
    "asked": "requested, or what it is",
    "shown": "displayed, or what it is",
    "wanted": "enabled or expected, or what it is",
    "ours": "expectations or custom, or whose it is",
    "used_again": "reused",
    "use_again": "reuse",
    "find_earlier": "find_reusable",
    "reinforcement": "RlRun",
    "go_on": "load_state, or resume",
    "goes_on": "resumes",
    "saw": "observe",
    "that_fit": "drop_long_prompts",
    "take_back": "resume_training",
    "engine_apart": "IsolatedEngine",
    "led": "current_group",
    "put_up_with": "tolerations",
    "attempts_again": "retries",
    "spread": "multi_node_steps",
    "gathered": "join",
    "finding": "resolve",
    "questions": "queries",
    "walks": "traversal",
    "nearby": "neighbourhood",
    "derived": "row_values",
    "samples_shown": "samples_view",
    "untested": "case_problems",
    "stored": "load, or what is stored",
    "flat": "flatten",
    "happened": "HistoryEntry",
    "since": "handled_until, or what began then",
    "trouble": "last_error",
    "still_at_it": "on_overlap",
    "broke": "on_error",
    "without_its_sign": "absolute value",
}
"""Names to avoid, whether of a class (`UsedAgain`), a function, a constant or with an underscore before them."""

EXACT = {"Line": "Channel", "Earlier": "CachedStage", "_alone": "_exclusive"}
"""Names to avoid as they are written here only."""

TEXTS = {
    r"\b[Tt]old\b": "reported, printed, or named",
    r"\banew\b": "again, or from scratch",
    r"\bof late\b": "recently",
    r"\bas asked\b": "as requested",
    r"\bgoes on\b": "resumes, or continues",
    r"\bwent on\b": "resumed, or continued",
    r"\b(?:is|are) another\b": "changed, or is different",
    r"(?<![Tt]here )(?<![Hh]ere )\bis no\b(?! longer| more| less)": "is not a",
    r"\ball without it\b": "default: all",
    r"\bwhys\b": "reasons",
    r"\bours\b": "the project's",
    r"\b[Mm]end(?:s|ed|ing)?\b": "fix",
    r"\bwithout its sign\b": "absolute value",
}
"""Turns to avoid in comments, messages and documents, and what to write."""

ALLOWED = {
    ("CONTRIBUTING.md", "told"): "names what to avoid",
    ("CONTRIBUTING.md", "anew"): "names what to avoid",
    ("CONTRIBUTING.md", "goes on"): "names what to avoid",
    ("infra/scheduling/state.py", "goes on"): "a reason as older versions wrote it",
    ("tests/infra/scheduling/test_scheduler.py", "goes on"): "a reason as older versions wrote it",
    ("tests/steps/rewards/test_case_generation.py", "ours"): "the text of a problem",
}
"""Path and word → why it is right there."""

VENDORED = re.compile(r"/vendor/|/openlineage/[A-Z]|/schemas/\w.*json|LICENSE|THIRD_PARTY")
THIS = "tests/test_words.py"


@cache
def tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [path for path in listed if (ROOT / path).is_file() and not VENDORED.search(path)]


def modules() -> list[str]:
    return [path for path in tracked() if path.endswith(".py") and path.split("/")[0] in CODE]


def names_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names that a module gives to something, with their lines. Names that it only uses are those of others."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((node.lineno, each.asname) for each in names if each.asname)


def better_name(name: str) -> str | None:
    """What to write for a name, where it is to be avoided."""
    if name in EXACT:
        return EXACT[name]
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
    if snake in NAMES:
        return NAMES[snake]
    return next((PARTS[part] for part in snake.split("_") if part in PARTS), None)


def names_to_avoid(path: str, source: str) -> Iterator[str]:
    """Each avoided name in a module, as `path:line: name → what to write`."""
    own = Path(path).stem
    for line, name in [(1, own), *sorted(names_of(ast.parse(source)))]:
        better = better_name(name)
        if better and (path, name) not in ALLOWED:
            yield f"{path}:{line}: {name} → {better}"
    if own.startswith("test_") and not path.startswith("tests/"):
        yield f"{path}:1: {own} → a name that tools do not take for a test, such as case_generation"


def prose_of(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Lines of text: of a module its comments, its strings and the words of its tests' names, of others all."""
    if not path.endswith(".py"):
        yield from enumerate(source.splitlines(), start=1)
        return
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.COMMENT)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield from enumerate(token.string.splitlines(), start=token.start[0])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")


def texts_to_avoid(path: str, source: str) -> Iterator[str]:
    """Each avoided turn in a file's text, as `path:line: turn → what to write`."""
    for line, text in prose_of(path, source):
        for pattern, better in TEXTS.items():
            for match in re.finditer(pattern, text):
                if (path, match[0].lower()) not in ALLOWED:
                    yield f"{path}:{line}: {match[0]!r} → {better}"


@pytest.mark.parametrize("area", CODE)
def test_names_are_plain(area: str) -> None:
    own = [path for path in modules() if path.startswith(f"{area}/") and path != THIS]
    wrong = [each for path in own for each in names_to_avoid(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not wrong, "\n".join(["names to avoid:", *wrong])


def texts() -> list[str]:
    kinds = (
        ".py",
        ".md",
        ".yaml",
        ".yml",
        ".toml",
        ".tf",
        ".hcl",
        ".j2",
        ".html",
        ".js",
        ".service",
        "Makefile",
        "file",
    )
    return [path for path in tracked() if path.endswith(kinds) and path != THIS]


def test_texts_are_plain() -> None:
    wrong = [each for path in texts() for each in texts_to_avoid(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not wrong, "\n".join(["turns to avoid:", *wrong])


def test_what_is_allowed_is_still_there() -> None:
    for path, word in ALLOWED:
        assert (ROOT / path).is_file() and word in (ROOT / path).read_text(encoding="utf-8"), f"{path}: {word}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def _told(): ...", "a.py:1: _told → message, summary, report or reported"),
        ("told_seconds = 1", "a.py:1: told_seconds → message, summary, report or reported"),
        ("class Kept: ...", "a.py:1: Kept → retained, or what it is"),
        ("def f(\n    found): ...", "a.py:2: found → matches, or what it is"),
        ("x.shown = 1", "a.py:1: shown → displayed, or what it is"),
        ("import x as spread", "a.py:1: spread → multi_node_steps"),
        ("class Line: ...", "a.py:1: Line → Channel"),
    ],
)
def test_a_name_to_avoid_is_named_with_its_place_and_what_to_write(source: str, message: str) -> None:
    assert list(names_to_avoid("a.py", source)) == [message]


@pytest.mark.parametrize("source", ["line = 1", "x = y.found", "f(found=1)", "not_found = 1", "kept_rows = 1"])
def test_names_of_others_and_names_that_say_more_pass(source: str) -> None:
    assert not list(names_to_avoid("a.py", source))


def test_turns_are_seen_in_comments_strings_and_names_of_tests_and_not_in_code() -> None:
    source = (
        'told = 1  # trains anew\nraise ValueError(f"{x} is no list, and there is no way")\ndef test_it_goes_on(): ...'
    )
    assert [line.split(" → ")[0] for line in texts_to_avoid("a.py", source)] == [
        "a.py:1: 'anew'",
        "a.py:2: 'is no'",
        "a.py:3: 'goes on'",
    ]
