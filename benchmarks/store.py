"""Throughput of the store's put and fetch, compared with plain copies of the same files, in turns on this machine.

    python -m benchmarks.store                        # a folder, and moto's S3 server on this machine
    AWS_ENDPOINT_URL_S3=… python -m benchmarks.store --bucket NAME     # another S3 server

The files are one large one and many small ones, of random bytes. Peers:

- a folder: `cp -r` and an fsync of each file and folder, because a put is durable too; `copytree` is shutil's, without
  fsync. A fetch reads and compares in place, the peers copy the folder out.
- S3: `aws s3 cp --recursive`, with an awscli that is installed into an environment of its own, once. The time that `aws
  s3 ls` takes on an empty address (its start-up) is subtracted. If awscli cannot be installed: boto3's `upload_file`
  and `download_file`, file by file.

Each round runs every side once, with new destinations. The last line is JSON: MB/s by case and side (medians), and
`ratio_…`, the store's over the first peer's. Goal: at least 0.7. The store compares every byte with a SHA-256 in both
directions; the peers do not.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from infra.files import sync_folder
from infra.store.open import open_store
from infra.store.store import Ref, Store

ROOT = Path(__file__).parent.parent
Side = Callable[[Path], None]
"""Does its work in a new folder (or below an S3 prefix of that name)."""


def make_files(folder: Path, large_mb: int, small: int, small_kb: int) -> int:
    """Write the files; returns their bytes."""
    (folder / "small").mkdir(parents=True)
    with (folder / "weights.safetensors").open("wb") as file:
        for _ in range(large_mb):
            file.write(os.urandom(1_000_000))
    for number in range(small):
        (folder / "small" / f"{number:05d}.parquet").write_bytes(os.urandom(small_kb * 1000))
    return large_mb * 1_000_000 + small * small_kb * 1000


def copy_durably(source: Path, destination: Path) -> None:
    """`cp -r`, with everything synced to the disk at the end."""
    subprocess.run(["cp", "-r", source, destination], check=True)
    for parent, _, names in os.walk(destination):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def measure(sides: dict[str, Side], rounds: int, size: int, place: Path) -> dict[str, float]:
    """MB/s of each side, medians over rounds in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides)
        for name in names if number % 2 == 0 else reversed(names):
            with tempfile.TemporaryDirectory(dir=place) as fresh:
                os.sync()
                began = time.perf_counter()
                sides[name](Path(fresh))
                seconds[name].append(time.perf_counter() - began)
    return {name: size / 1e6 / statistics.median(times) for name, times in seconds.items()}


def local_case(source: Path, size: int, rounds: int, place: Path) -> dict[str, dict[str, float]]:
    """Put into and fetch from a folder."""
    store = open_store(place / "store")
    ref = store.put(source, "model")

    def fetch(fresh: Path) -> None:
        store.fetch(ref)

    put: dict[str, Side] = {
        "store": lambda fresh: _ignore(open_store(fresh / "store").put(source, "model")),
        "cp -r and fsync": lambda fresh: copy_durably(source, fresh / "copy"),
        "copytree": lambda fresh: _ignore(shutil.copytree(source, fresh / "copy")),
    }
    out: dict[str, Side] = {
        "store": fetch,
        "cp -r": lambda fresh: _ignore(subprocess.run(["cp", "-r", ref.address, fresh / "copy"], check=True)),
        "copytree": lambda fresh: _ignore(shutil.copytree(ref.address, fresh / "copy")),
    }
    return {"local_put": measure(put, rounds, size, place), "local_fetch": measure(out, rounds, size, place)}


def _ignore(result: object) -> None:
    pass


def aws_cli(place: Path) -> Path | None:
    """The `aws` command, in an environment that is created if it is missing; None if it cannot be installed."""
    command = place / "bin" / "aws"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = [f"{place}/bin/python", "-m", "pip", "install", "--quiet", "awscli"]
        if subprocess.run(install, check=False).returncode:
            print("awscli cannot be installed: compared with boto3's upload_file and download_file", file=sys.stderr)
            return None
    return command


@contextmanager
def s3_server() -> Iterator[None]:
    """moto's S3 server, in the environment's variables."""
    command = [sys.executable, str(ROOT / "tests" / "s3_server.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin and server.stdout
        os.environ.update(
            AWS_ENDPOINT_URL_S3=server.stdout.readline().strip(),
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_EC2_METADATA_DISABLED="true",
        )
        yield
        server.stdin.close()


class S3Case:
    """Put to and fetch from a bucket. What a round stores is deleted after it: moto keeps everything in memory."""

    def __init__(self, bucket: str, source: Path, size: int, place: Path, aws: Path | None) -> None:
        self.bucket, self.source, self.size, self.place, self.aws = bucket, source, size, place, aws
        self.client = boto3.client("s3")
        self.start_up = 0.0
        if aws:
            began = time.perf_counter()
            subprocess.run([aws, "s3", "ls", f"s3://{bucket}/none/"], check=False, capture_output=True)
            self.start_up = time.perf_counter() - began

    def run(self, rounds: int) -> dict[str, dict[str, float]]:
        """MB/s by case and side."""
        ref = self._store("fetched").put(self.source, "model")
        prefix = ref.address.removeprefix(f"s3://{self.bucket}/")
        peer = "aws s3 cp" if self.aws else "boto3"
        seconds: dict[str, dict[str, list[float]]] = {}
        for number in range(rounds):
            turns = [("store", self._store_put, self._store_fetch), (peer, self._peer_put, self._peer_fetch)]
            for name, put, fetch in turns if number % 2 == 0 else turns[::-1]:
                with tempfile.TemporaryDirectory(dir=self.place) as fresh:
                    began = time.perf_counter()
                    put(f"round{number}")
                    between = time.perf_counter()
                    fetch(ref, prefix, Path(fresh))
                    ended = time.perf_counter()
                spared = self.start_up if self.aws and name == peer else 0.0
                for case, taken in (("s3_put", between - began), ("s3_fetch", ended - between)):
                    seconds.setdefault(case, {}).setdefault(name, []).append(taken - spared)
                self._delete(f"round{number}")
        self._delete("fetched")
        return {
            case: {name: self.size / 1e6 / statistics.median(times) for name, times in sides.items()}
            for case, sides in seconds.items()
        }

    def _store(self, prefix: str, cache: Path | None = None) -> Store:
        return open_store(f"s3://{self.bucket}/{prefix}", cache)

    def _store_put(self, prefix: str) -> None:
        self._store(prefix).put(self.source, "model")

    def _store_fetch(self, ref: Ref, prefix: str, fresh: Path) -> None:
        self._store("fetched", fresh).fetch(ref)

    def _peer_put(self, prefix: str) -> None:
        self._copy(self.source, f"s3://{self.bucket}/{prefix}/")

    def _peer_fetch(self, ref: Ref, prefix: str, fresh: Path) -> None:
        if self.aws:
            return self._copy(f"s3://{self.bucket}/{prefix}/", fresh)
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/"):
            for item in page["Contents"]:
                path = fresh / item["Key"].removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                self.client.download_file(self.bucket, item["Key"], str(path))

    def _copy(self, source: str | Path, destination: str | Path) -> None:
        if self.aws:
            command = [str(self.aws), "s3", "cp", "--recursive", "--only-show-errors", str(source), str(destination)]
            subprocess.run(command, check=True)
            return
        prefix = str(destination).removeprefix(f"s3://{self.bucket}/")
        for path in Path(source).rglob("*"):
            if path.is_file():
                self.client.upload_file(str(path), self.bucket, prefix + path.relative_to(source).as_posix())

    def _delete(self, prefix: str) -> None:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/"):
            objects: Any = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if objects:
                self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large-mb", type=int, default=256, help="size of the one large file")
    parser.add_argument("--small", type=int, default=500, help="number of small files")
    parser.add_argument("--small-kb", type=int, default=100, help="size of each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bucket", help="an existing bucket of the S3 server that the environment names")
    parser.add_argument("--only", choices=["local", "s3"])
    arguments = parser.parse_args()
    home = Path(os.environ.get("LONGHAUL_HOME", ".longhaul")).absolute()
    home.mkdir(exist_ok=True)
    os.environ.setdefault("LONGHAUL_PROGRESS", os.devnull)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=home, prefix="store-benchmark-") as folder:
        place, source = Path(folder), Path(folder, "files")
        size = make_files(source, arguments.large_mb, arguments.small, arguments.small_kb)
        if arguments.only != "s3":
            figures |= local_case(source, size, arguments.rounds, place)
        if arguments.only != "local":
            aws = aws_cli(home / "awscli-env")
            if arguments.bucket:
                figures |= S3Case(arguments.bucket, source, size, place, aws).run(arguments.rounds)
            else:
                with s3_server():
                    boto3.client("s3").create_bucket(Bucket="benchmark")
                    figures |= S3Case("benchmark", source, size, place, aws).run(arguments.rounds)
    ratios = {}
    for case, sides in figures.items():
        first_peer = next(name for name in sides if name != "store")
        ratios[f"ratio_{case}"] = round(sides["store"] / sides[first_peer], 2)
        print(f"{case}: " + ", ".join(f"{name} {speed:,.0f} MB/s" for name, speed in sides.items()))
    rounded = {case: {name: round(speed, 1) for name, speed in sides.items()} for case, sides in figures.items()}
    print(json.dumps({"mb": size / 1e6, "files": arguments.small + 1, "mb_per_second": rounded, **ratios}))


if __name__ == "__main__":
    main()
