"""`longhaul sample`: what is said of a question that cannot be asked. Answers are tested with the chain's models."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from flows.cli.sample import _problem
from infra.images import UnreadableImage, load_stored
from steps.problem import Problem
from tests.processes import own_environment


def test_images_come_before_the_question_also_through_links_and_are_named_where_they_cannot_be_read(
    tmp_path: Path,
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    link, broken = tmp_path / "pictures" / "link.png", tmp_path / "broken.png"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "red.png")
    broken.write_bytes(b"none")
    problem = _problem("How many?", (link,), tmp_path)
    assert isinstance(problem, Problem) and problem.text == "How many?"
    assert load_stored(tmp_path, problem.images[0]).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(UnreadableImage, match=r"broken\.png: no image of the kinds"):
        _problem("How many?", (link, broken), tmp_path)


def test_a_refused_question_is_said_so_on_the_terminal(tmp_path: Path, base: Path) -> None:
    """Where engines print, it would be lost in their log."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "flows.cli", "sample", str(base), "?", "--image", str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=own_environment())
    assert done.returncode == 1 and "its prompt has an image, and the model reads text alone" in done.stderr
