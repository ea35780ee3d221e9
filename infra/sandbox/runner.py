"""A sandbox as its service runs it: which requests may run, in which threads, and whether the sandbox works."""

import asyncio
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from pydantic import BaseModel, ConfigDict, Field

from infra.sandbox.admission import Admission
from infra.sandbox.interface import Limits, Result, Sandbox, SandboxUnavailable
from infra.sandbox.messages import AnyRequest, RunEachRequest, RunJoinedRequest
from infra.sandbox.metrics import Metrics

_TRIAL = Limits(wall_seconds=10.0, cpu_seconds=5, memory_mb=256)
_STUCK_SECONDS = 30.0


class ServiceConfig(BaseModel):
    """How a sandbox is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback a token is needed.")
    port: int = Field(8100, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    queue: int = Field(64, ge=0, description="Requests that may wait for a slot; one more is answered with 429.")
    max_body_mb: int = Field(16, ge=1, description="Largest body of a request, MiB.")
    maxima: Limits = Field(
        Limits(60.0, 60, 1024, 16_000_000, 64, 64), description="The highest limits that a request may ask for."
    )
    drain_seconds: float = Field(75.0, gt=0, description="How long what runs may continue after a signal to terminate.")
    client_seconds: float = Field(30.0, gt=0, description="How long a client may take to send, or to read a result.")
    connections: int = Field(1024, ge=2, description="Connections at one time; idle ones make room for new ones.")
    headers_seconds: float = Field(10.0, gt=0, description="How long a client may take to send a request's headers.")
    trial_seconds: float = Field(30.0, ge=0, description="For how long a run that worked stands for the next one.")


class Runner:
    """A sandbox behind a queue, for one event loop."""

    def __init__(self, sandbox: Sandbox, slots: int, config: ServiceConfig) -> None:
        self.config = config
        self.admission = Admission(slots, config.queue)
        self.metrics = Metrics(self.admission)
        self.threads = ThreadPoolExecutor(slots + 1, thread_name_prefix="sandbox")  # and one for the trial
        self.stopping = threading.Event()
        """No further run of a run-each starts."""
        self._sandbox = sandbox
        self._drain_ends = 0.0
        self._trial = asyncio.Lock()
        self._proven = self._progress = time.monotonic()
        self._fault: str | None = None

    def drain(self) -> None:
        """Refuse what waits and what comes; what runs continues for `drain_seconds`."""
        if not self.admission.draining:
            self._drain_ends = time.monotonic() + self.config.drain_seconds
            self.admission.drain()

    @property
    def drained(self) -> bool:
        """Whether the drain is over: all has ended, or its time has."""
        if not self.admission.draining:
            return False
        if time.monotonic() > self._drain_ends:
            self.stopping.set()
        return self.admission.places == 0 or self.stopping.is_set()

    def results(self, request: AnyRequest) -> Generator[Result, None, None]:
        """Run a request, in the calling thread; notes whether the sandbox works."""
        if self.admission.served == 1:
            self._progress = time.monotonic()
        try:
            with closing(self._runs(request)) as runs:
                for result in runs:
                    self._proven = self._progress = time.monotonic()
                    self._fault = None
                    language = "python" if isinstance(request, RunJoinedRequest) else request.language
                    self.metrics.ran(language, result)
                    yield result
        except SandboxUnavailable as error:
            self._fault = str(error)
            raise

    def _runs(self, request: AnyRequest) -> Generator[Result, None, None]:
        limits = request.limits
        if isinstance(request, RunJoinedRequest):
            files = {"first_files": request.first_files, "second_files": request.second_files}
            yield from self._sandbox.run_joined(request.first, request.second, limits, **files)
            return
        program, language = request.program, request.language
        if isinstance(request, RunEachRequest):
            yield from self._sandbox.run_each(program, request.stdins, limits, language=language, files=request.files)
        else:
            yield self._sandbox.run(program, request.stdin, limits, language=language, files=request.files)

    async def fault(self) -> str | None:
        """What is wrong with the sandbox, if anything is; tries it where nothing else did recently."""
        if self.admission.served and self._fault is None:
            still = time.monotonic() - self._progress
            stuck = still > self.config.maxima.wall_seconds + _STUCK_SECONDS
            return f"no run has ended for {still:.0f} s" if stuck else None
        async with self._trial:
            if self._fault is not None or time.monotonic() - self._proven > self.config.trial_seconds:
                self._fault = await asyncio.get_running_loop().run_in_executor(self.threads, self._try)
            return self._fault

    def _try(self) -> str | None:
        """What is wrong with a trial program, if anything is."""
        try:
            result = self._sandbox.run("print('ready')", "", _TRIAL)
        except SandboxUnavailable as error:
            return str(error)
        if result.stdout != "ready\n":
            return f"a trial program did not run: {result.ended}, exit code {result.exit_code}"
        self._proven = time.monotonic()
        return None
