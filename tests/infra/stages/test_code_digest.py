"""The digest of a stage's code: changes that change nothing keep it, others do not."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from infra.stages import code_digest

STAGE = '''"""What the stage does."""

from steps.rule import apply


def run(x: int) -> int:
    """Run."""
    # why
    return apply(x) + 1
'''
FILES = {
    "steps/__init__.py": "",
    "steps/stage.py": STAGE,
    "steps/rule.py": "from infra import numbers\n\n\ndef apply(x):\n    return x * numbers.FACTOR\n",
    "steps/unused.py": "X = 1\n",
    "steps/inner/__init__.py": "from . import part\n",
    "steps/inner/part.py": "from ..late import Y\n",
    "steps/late.py": "Y = 3\n",
    "infra/__init__.py": "PACKAGE = 1\n",
    "infra/stages/__init__.py": "",
    "infra/numbers.py": "FACTOR = 2\n",
    "infra/worker.py": "print(1)\n",
    "infra/program.py": "print(2)  # read as text\n",
    "infra/page.html": "<p>\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> ModuleType:
    """The module under test in a small project of its own."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    place = shutil.copy(code_digest.__file__, tmp_path / "infra" / "stages" / "code_digest.py")
    spec = importlib.util.spec_from_file_location("code_digest_of_a_small_project", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(tree: ModuleType, module: str) -> str:
    digest: str = tree.digest_of(tree.reached_code(module).digests)
    return digest


def change(tmp_path: Path, name: str, old: str, new: str) -> None:
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    # why\n", "    # another reason\n\n"),
        ('    """Run."""\n', ""),
        ('    """Run."""\n', '    """Run it,\n\n    twice.\n    """\n'),
        ('"""What the stage does."""\n', ""),
        ("return apply(x) + 1", "return (\n        apply( x )\n        + 1\n    )"),
    ],
)
def test_formatting_comments_and_docstrings_do_not_change_it(
    tree: ModuleType, tmp_path: Path, old: str, new: str
) -> None:
    before = digest(tree, "steps.stage")
    change(tmp_path, "steps/stage.py", old, new)
    assert digest(tree, "steps.stage") == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("steps/stage.py", "+ 1", "+ 2"),
        ("steps/rule.py", "x * numbers", "x + numbers"),
        ("infra/numbers.py", "FACTOR = 2", "FACTOR = 3"),
        ("infra/__init__.py", "PACKAGE = 1", "PACKAGE = 2"),
    ],
)
def test_a_change_in_any_module_that_is_reached_changes_it(
    tree: ModuleType, tmp_path: Path, name: str, old: str, new: str
) -> None:
    before = digest(tree, "steps.stage")
    change(tmp_path, name, old, new)
    assert digest(tree, "steps.stage") != before


def test_a_file_that_a_module_reads_from_its_folder_counts(tree: ModuleType, tmp_path: Path) -> None:
    alone = digest(tree, "infra.numbers")
    change(tmp_path, "infra/numbers.py", "FACTOR = 2", 'FACTOR = 2\nREAD = ["program.py", "page.html"]')
    named = digest(tree, "infra.numbers")
    change(tmp_path, "infra/program.py", "read as text", "another comment")
    assert digest(tree, "infra.numbers") == named != alone
    change(tmp_path, "infra/program.py", "print(2)", "print(3)")
    program = digest(tree, "infra.numbers")
    change(tmp_path, "infra/page.html", "<p>", "<b>")
    assert len({alone, named, program, digest(tree, "infra.numbers")}) == 4


def test_a_folder_of_data_that_a_module_names_counts_and_a_package_does_not(tree: ModuleType, tmp_path: Path) -> None:
    change(tmp_path, "infra/numbers.py", "FACTOR = 2", 'FACTOR = 2\nPLACES = ["images", "stages"]')
    (tmp_path / "infra" / "images" / "cpp").mkdir(parents=True)
    (tmp_path / "infra" / "images" / "cpp" / "image.yaml").write_text("a: 1\n")
    (tmp_path / "infra" / "stages" / "__init__.py").write_text("")
    digests = tree.reached_code("infra.numbers").digests
    assert set(digests) == {"infra", "infra.numbers", "infra/images/cpp/image.yaml"}


def test_the_description_of_a_setting_does_not_change_it_and_its_default_does(tree: ModuleType, tmp_path: Path) -> None:
    change(tmp_path, "infra/numbers.py", "FACTOR = 2", 'FACTOR = Field(2, ge=0, description="How much.")')
    before = digest(tree, "infra.numbers")
    change(tmp_path, "infra/numbers.py", "How much.", "How many times.")
    assert digest(tree, "infra.numbers") == before
    change(tmp_path, "infra/numbers.py", "Field(2", "Field(3")
    assert digest(tree, "infra.numbers") != before


def test_a_module_that_is_not_reached_does_not_change_it(tree: ModuleType, tmp_path: Path) -> None:
    before = digest(tree, "steps.stage")
    change(tmp_path, "steps/unused.py", "X = 1", "X = 2")
    assert digest(tree, "steps.stage") == before
    assert tree.reached_modules("steps.stage") == ["infra", "infra.numbers", "steps", "steps.rule", "steps.stage"]


@pytest.mark.parametrize(
    ("line", "reached"),
    [
        ("import steps.late", "steps.late"),
        ("from steps.late import Y as Z", "steps.late"),
        ("def late():\n    from steps import late as module\n    return module", "steps.late"),
        ("from .late import Y", "steps.late"),
        ("import steps.inner", "steps.late"),
        ("import steps.inner.part", "steps.inner"),
        ('command = ["python", "-m", "infra.worker"]', "infra.worker"),
    ],
)
def test_a_module_is_found_however_it_is_named(tree: ModuleType, tmp_path: Path, line: str, reached: str) -> None:
    assert reached not in tree.reached_modules("steps.stage")
    change(tmp_path, "steps/stage.py", "\n\n\ndef run", f"\n{line}\n\n\ndef run")
    assert reached in tree.reached_modules("steps.stage")


def test_modules_that_import_each_other_come_to_an_end(tree: ModuleType, tmp_path: Path) -> None:
    change(tmp_path, "steps/rule.py", "\n\n\ndef", "\nimport steps.stage\n\n\ndef")
    assert tree.reached_modules("steps.rule") == tree.reached_modules("steps.stage")


def test_the_rl_stage_reaches_its_objective_and_the_math_worker() -> None:
    reached = code_digest.reached_modules("steps.stages.rl")
    assert {"steps.rl.objective", "steps.packing", "infra.training.trainer", "steps.rewards.math.worker"} <= set(
        reached
    )
    assert not any(name.startswith("flows") for name in reached)


def test_the_digest_imports_nothing_of_what_it_reads() -> None:
    program = (
        "import sys; from infra.stages.code_digest import reached_code; reached_code('steps.stages.rl').digests\n"
        "sys.exit(', '.join({'torch', 'vllm', 'transformers', 'steps'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
