"""THIRD_PARTY.md names every package that is not under a plain permissive licence, and every copied folder."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
THIRD_PARTY = (ROOT / "THIRD_PARTY.md").read_text()
ASKS_MORE = re.compile(r"GPL|General Public|MPL|Mozilla|CDDL|EPL|SSPL|BUSL|EULA|End User|Proprietary|CC-BY")
# Their metadata does not state a licence; their licence files were read: MIT, Apache 2.0, MIT.
UNSTATED = {"checkpoint-engine", "oss-harmony", "setuptools"}


def pinned() -> list[str]:
    """The packages of the CPU set-up that are installed here."""
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", (ROOT / "requirements" / "cpu.txt").read_text(), re.MULTILINE)
    installed = {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower() for one in importlib.metadata.distributions()}
    return sorted(installed.intersection(names))


def stated(package: str) -> str:
    """What a package's metadata says about its licence; of a whole licence text, the first line."""
    metadata: Any = importlib.metadata.metadata(package)  # a message of e-mail, which the type does not say
    text = (metadata.get("License") or "").strip().split("\n")[0]
    classifiers = [one for one in metadata.get_all("Classifier") or [] if one.startswith("License")]
    return " ".join(filter(None, [metadata.get("License-Expression"), text, *classifiers]))


def test_packages_whose_licence_asks_more_are_named() -> None:
    unnamed = [name for name in pinned() if ASKS_MORE.search(stated(name)) and f"`{name}`" not in THIRD_PARTY]
    assert not unnamed, f"add these packages, with their licences, to THIRD_PARTY.md: {unnamed}"


def test_packages_that_state_no_licence_were_looked_at() -> None:
    assert {name for name in pinned() if not stated(name)} <= UNSTATED


def test_every_vendored_file_is_listed_with_its_licence() -> None:
    folder = Path("infra/lineage/web/static/vendor")
    listed = (ROOT / folder / "README.md").read_text()
    for path in (ROOT / folder).iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in listed, f"{path} is not in the folder's README"
    assert f"`{folder}`" in THIRD_PARTY
