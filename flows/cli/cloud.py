"""`longhaul cloud`: make this machine's Metaflow use the cluster that terraform/ made.

Invariant: a profile is written whole or not at all, and one that exists is overwritten only on request.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from flows.cli.command import Group
from flows.cli.terminal import fail
from infra.errors import LonghaulError
from infra.files import write_text_atomically

PLATFORM = Path("terraform/stacks/platform")
OUTPUT = "metaflow_config"

REQUIRED = (
    "METAFLOW_DEFAULT_DATASTORE",
    "METAFLOW_DATASTORE_SYSROOT_S3",
    "METAFLOW_DEFAULT_METADATA",
    "METAFLOW_SERVICE_URL",
    "METAFLOW_SERVICE_INTERNAL_URL",
    "METAFLOW_KUBERNETES_NAMESPACE",
    "METAFLOW_KUBERNETES_SERVICE_ACCOUNT",
    "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT",
)
"""Without these, Metaflow would fall back to this machine's folders or to the namespace `default`, and say nothing."""


class ConfigurationRefused(LonghaulError):
    """The configuration cannot become a profile; the message says why and what to do."""


@click.group(cls=Group)
def cloud() -> None:
    """Connect this machine to a cluster."""


@cloud.command()
@click.option(
    "--terraform",
    "folder",
    type=click.Path(path_type=Path),
    help=f"The applied platform stack(default: {PLATFORM}). Runs `terraform output` there.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help=f"A file with what `terraform output -json {OUTPUT}` printed, where terraform is on another machine.",
)
@click.option("--profile", default="longhaul", show_default=True, help="The Metaflow profile to write.")
@click.option("--force", is_flag=True, help="Overwrite a profile of this name that says something else.")
def configure(folder: Path | None, file: Path | None, profile: str, force: bool) -> None:
    """Write the cluster's configuration as a Metaflow profile.

    It is saved to config_PROFILE.json in METAFLOW_HOME (~/.metaflowconfig), and holds addresses and names: no secret.
    """
    if folder is not None and file is not None:
        fail("give --terraform or --file, not both: they are two places for the same configuration")
    path = profile_path(profile)
    if file is not None:
        configuration = parse_configuration(_read(file), str(file))
    else:
        stack = folder or PLATFORM
        configuration = parse_configuration(_terraform_output(stack), f"terraform's output in {stack}")
    changed = write_profile(path, configuration, force)
    click.echo(f"{path} {'written' if changed else 'is up to date'}: {len(configuration)} settings\n\nNext:")
    click.echo(f"  export METAFLOW_PROFILE={profile}")
    click.echo(f"  terraform -chdir={folder or PLATFORM} output forward_ports   # commands to leave running meanwhile")
    click.echo("  longhaul deploy --dry-run")


def profile_path(profile: str) -> Path:
    """Where Metaflow looks for a profile. Raises ConfigurationRefused for a name that cannot be a file's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", profile):
        raise ConfigurationRefused(f"--profile {profile!r}: give letters, digits, ., _ and -, as longhaul")
    home = Path(os.environ.get("METAFLOW_HOME", "~/.metaflowconfig")).expanduser()
    return home / f"config_{profile}.json"


def parse_configuration(text: str, origin: str) -> dict[str, str]:
    """The settings in a JSON object. Raises ConfigurationRefused, naming the setting that Metaflow could not use."""
    again = f"write it with `terraform output -json {OUTPUT}` in the applied platform stack"
    try:
        settings: Any = json.loads(text)
    except ValueError as error:
        raise ConfigurationRefused(f"{origin} is not JSON ({error}): {again}") from None
    if not isinstance(settings, dict):
        raise ConfigurationRefused(f"{origin} is a {type(settings).__name__}, expected an object of settings: {again}")
    for name, value in settings.items():
        if not re.fullmatch(r"METAFLOW_[A-Z0-9_]+", name):
            raise ConfigurationRefused(f"{origin}: {name!r} is not a setting of Metaflow (METAFLOW_…): {again}")
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ConfigurationRefused(f"{origin}: {name} is {value!r}, expected a line of text: {again}")
    missing = [name for name in REQUIRED if name not in settings]
    if missing:
        raise ConfigurationRefused(f"{origin} lacks {', '.join(missing)}: {again}")
    return settings


def write_profile(path: Path, configuration: dict[str, str], force: bool) -> bool:
    """Write a profile. Returns whether that changed anything.

    Raises ConfigurationRefused where the file says something else and `force` is not given, or cannot be written.
    """
    try:
        there = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        there = None
    except UnicodeDecodeError:
        there = ""
    except OSError as error:
        raise ConfigurationRefused(
            f"{path} cannot be read: {error.strerror}; METAFLOW_HOME must name a folder"
        ) from error
    if there is not None:
        differing = _differing(there, configuration)
        if not differing:
            return False
        if not force:
            raise ConfigurationRefused(
                f"{path} is there and differs in {', '.join(differing)}: "
                "take another name with --profile, or overwrite it with --force"
            )
    try:
        write_text_atomically(path, json.dumps(configuration, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise ConfigurationRefused(
            f"{path} cannot be written: {error.strerror}; METAFLOW_HOME must name a folder"
        ) from None
    return True


def _differing(there: str, configuration: dict[str, str]) -> list[str]:
    """The settings in which a profile that is there differs; all of it where it cannot be read as one."""
    try:
        settings = json.loads(there)
    except ValueError:
        return ["everything (it is not JSON)"]
    if not isinstance(settings, dict):
        return ["everything (it is not an object)"]
    return sorted(name for name in {*settings, *configuration} if settings.get(name) != configuration.get(name))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationRefused(f"--file {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationRefused(f"--file {file} is not UTF-8 text") from None


def _terraform_output(folder: Path) -> str:
    """The output of the applied stack. Raises ConfigurationRefused without terraform, a stack, or an output."""
    if not folder.is_dir():
        raise ConfigurationRefused(
            f"--terraform {folder} is not a folder: name the applied platform stack, or use --file"
        )
    terraform = shutil.which("terraform")
    if terraform is None:
        raise ConfigurationRefused(
            f"terraform is not on PATH: run `terraform output -json {OUTPUT}` where it is, then use --file"
        )
    command = [terraform, f"-chdir={folder}", "output", "-no-color", "-json", OUTPUT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise ConfigurationRefused(f"terraform in {folder} has no output {OUTPUT}: apply the stack first ({said})")
    return done.stdout
