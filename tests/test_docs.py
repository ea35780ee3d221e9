"""What documents, comments and messages name exists: links, files, commands with their options, keys of a recipe."""

import importlib
import importlib.util
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import click
import pytest
from pydantic import BaseModel

from flows.cli.main import main
from steps.recipe import Recipe

ROOT = Path(__file__).parent.parent
TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
).stdout.split("\n")
TEXTS = [
    path
    for path in TRACKED
    if path.endswith(
        (".md", ".py", ".yaml", ".yml", ".toml", ".tf", ".tfvars", ".service", ".sh", "Makefile", "Dockerfile")
    )
    and not path.startswith(("tests/flows/cluster/golden", "tests/infra/lineage/openlineage"))
    and (ROOT / path).is_file()
]
DOCUMENTS = [path for path in TEXTS if path.endswith(".md")]
FOLDERS = sorted({path.partition("/")[0] for path in TRACKED if "/" in path} - {".ci"})
FILE = re.compile(rf"(?<![\w./@<$:-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
BARE_NAME = re.compile(r"`(\w+\.(?:py|md|j2|sh|tf))`")
COMMAND = re.compile(r"(?<![\w./-])longhaul ((?:[a-z][a-z-]*)\b[^`;|&#\n]*)")
BENCHMARK = re.compile(r"python -m (benchmarks\.\w+)([^`#\n]*)")
OPTION = re.compile(r"(?<![\w=-])(--?[a-z][a-z0-9-]*)")
KEY = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+)(?:[:=][^`]*)?`")


def read(path: str) -> str:
    """A tracked file's text, with continued lines of commands joined."""
    return re.sub(r"\\\n\s*", "", (ROOT / path).read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(document)):
        address = urlsplit(target)
        if address.scheme:
            continue
        path = (ROOT / document).parent / address.path if address.path else ROOT / document
        assert path.exists(), f"{document} links to {target}, which does not exist"
        if address.fragment:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert address.fragment in map(slug, headings), f"{document} links to {target}: no such heading"


def test_files_that_are_named_exist() -> None:
    files = {path for path in TRACKED if path}
    known = files | {str(parent) for path in files for parent in Path(path).parents}
    missing = [
        f"{path}: {name}"
        for path in TEXTS
        if not path.startswith("tests/")
        for name in FILE.findall(read(path))
        if name not in known
    ]
    names = {Path(path).name for path in files}
    missing += [f"{path}: {name}" for path in DOCUMENTS for name in BARE_NAME.findall(read(path)) if name not in names]
    assert not missing, "\n".join(missing)


def commands(text: str) -> Iterator[str]:
    """What follows `longhaul` wherever it is a command: in code of Markdown, and in other files' comments and texts."""
    for match in COMMAND.finditer(text):
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        in_code = before.count("`") % 2 == 1
        if in_code or not before.strip() or before.rstrip().endswith(("bin/", "$", "#", ";")):
            yield re.split(r"\s{2,}", match.group(1))[0]


def wrong_with(words: list[str]) -> str | None:
    """What is wrong with a command line of the project, its first words being commands."""
    command: click.Command = main
    while isinstance(command, click.Group):
        if not words or not re.fullmatch(r"[a-z][a-z-]*", words[0]):
            return None  # a group alone, as in `longhaul lineage`
        subcommand = command.get_command(click.Context(command), words[0])
        if subcommand is None:
            return f"no command {words[0]!r}"
        command, words = subcommand, words[1:]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"-h", "--help"}
    unknown = [name for word in words for name in OPTION.findall(word) if name not in known]
    return f"no option {', '.join(unknown)}" if unknown else None


def test_commands_have_these_names_and_options() -> None:
    wrong = [
        f"{path}: longhaul {line}: {problem}"
        for path in TEXTS
        for line in commands(read(path))
        if (problem := wrong_with(line.split()))
    ]
    assert not wrong, "\n".join(wrong)


def test_benchmarks_take_these_options() -> None:
    shared = "".join((ROOT / "benchmarks" / name).read_text() for name in ("nano_start.py", "peer_common.py"))
    wrong = []
    for path in TEXTS:
        for script, arguments in BENCHMARK.findall(read(path)):
            source = (ROOT / f"{script.replace('.', '/')}.py").read_text() + shared
            wrong += [f"{path}: {script} {name}" for name in OPTION.findall(arguments) if f'"{name}"' not in source]
    assert not wrong, "\n".join(wrong)


def test_modules_to_run_exist() -> None:
    wrong = [
        f"{path}: python -m {module}"
        for path in TEXTS
        for module in re.findall(r"python3? -m ((?:flows|steps|infra|benchmarks)[\w.]*)", read(path))
        if importlib.util.find_spec(module) is None
    ]
    assert not wrong, "\n".join(wrong)


def models(annotation: Any) -> list[type[BaseModel]]:
    """The configuration types that an annotation allows, those inside lists and optional ones too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for each in get_args(annotation) for one in models(each)]


def has_key(model: type[BaseModel], key: str) -> bool:
    """Whether a configuration of this type can have a dotted key."""
    name, _, rest = key.partition(".")
    if name not in model.model_fields:
        return False
    annotation = model.model_fields[name].annotation
    return not rest or "dict" in str(annotation) or any(has_key(one, rest) for one in models(annotation))


def test_keys_of_a_recipe_exist() -> None:
    sections = Recipe.model_fields.keys() - {"name", "seed", "store"}
    wrong = []
    for path in DOCUMENTS:
        named = KEY.findall(read(path)) + re.findall(r"--set ([a-z0-9_.]+)=", read(path))
        for key in named:
            if key.partition(".")[0] in sections and not key.endswith((".py", ".md", ".yaml", ".json", ".jsonl")):
                wrong += [] if has_key(Recipe, key) else [f"{path}: {key}"]
    assert not wrong, "\n".join(wrong)


def test_every_document_is_in_the_index() -> None:
    index = read("docs/index.md")
    for path in sorted((ROOT / "docs").glob("*.md")):
        assert path.name == "index.md" or f"({path.name}" in index, f"docs/index.md does not lead to {path.name}"


def test_every_command_is_listed() -> None:
    listed = {line.split()[0] for line in commands(read("docs/commands.md"))}
    assert listed == set(main.list_commands(click.Context(main)))


def test_variables_are_listed() -> None:
    sources = [read(path) for path in TEXTS if path.startswith(("flows/", "steps/", "infra/")) and path.endswith(".py")]
    used = {name for source in sources for name in re.findall(r'"(LONGHAUL_[A-Z0-9_]+)"', source)}
    listed = set(re.findall(r"LONGHAUL_[A-Z0-9_]+", read("docs/environment.md"))) - {"LONGHAUL_WEBHOOK"}
    assert listed == used, f"docs/environment.md lacks {used - listed}; nothing reads {listed - used}"


def test_examples_import_what_exists() -> None:
    for path in DOCUMENTS:
        for module, names in re.findall(
            r"^ +from ((?:flows|steps|infra)[\w.]*) import ([\w, ]+)$", read(path), re.MULTILINE
        ):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name), f"{path}: {module} has no {name}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", read("Makefile"), re.MULTILINE))
    for path in DOCUMENTS:
        named = re.findall(r"(?:^ {4}|`)make ([a-z0-9]+)", read(path), re.MULTILINE)
        assert set(named) <= targets, f"{path} names {set(named) - targets}"
