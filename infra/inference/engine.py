"""The rollout engine: vLLM in this process, tokens in and tokens out, its weights replaceable between batches.

Invariant: what `generate` yields depends on the requests and the weights alone. Each request carries its own seed, and
the prefix cache is emptied whenever weights change.
"""

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from infra.configs import EngineConfig, Transport
from infra.inference.chunked_prefill import spare_generators
from infra.inference.context import check_context
from infra.inference.end_tokens import end_tokens
from infra.inference.engine_overhead import register_kernels, without_collection
from infra.inference.repetition import INTERVAL, repeats
from infra.inference.requests import Completion, Request
from infra.inference.sizes import check_kv_cache
from infra.vision.architectures import folder_reads_images, image_tokens
from infra.vision.processor import open_image


@dataclass
class _Running:
    """A request that has not ended."""

    index: int
    name: str
    """vLLM's own name of it."""
    request: Request
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cached: int = 0

    def end(self, length: int) -> list[int]:
        """The last tokens of the response, also of those that it began with: `length` of them, or all."""
        before = min(self.request.response, max(0, length - len(self.tokens)))
        return [*self.request.tokens[len(self.request.tokens) - before :], *self.tokens[-length:]]


def _sampled_logprobs(logprobs: Any) -> list[float]:
    """The log-probabilities of sampled tokens, from vLLM's flat form."""
    return list(logprobs.logprobs)


def check_room(index: int, request: Request, config: EngineConfig) -> int:
    """Tokens that the context has left for a request's completion. Raises ValueError if there are none."""
    room = config.context - request.length
    if room < 1:
        raise ValueError(
            f"request {index} has {request.length} tokens, and the engine's context is {config.context}: raise "
            "engine.context or shorten the prompt"
        )
    return room


_opened = lru_cache(maxsize=8)(open_image)
"""Responses to one prompt are asked for one after another: its images are decoded once."""


def _prompt(request: Request) -> Any:
    """A request as vLLM takes it.

    Images go beside tokens in which each is one token: vLLM puts in the tokens that its processor makes of them. It
    would do the same, without an error, to an image that has been expanded before.
    """
    from vllm import TokensPrompt

    if not request.images:
        return TokensPrompt(prompt_token_ids=list(request.tokens))
    return TokensPrompt(
        prompt_token_ids=list(request.tokens),
        multi_modal_data={"image": [_opened(image) for image in request.images]},
        multi_modal_uuids={"image": [image.stem for image in request.images]},
    )


def _check_expansion(request: Request, read: Sequence[int] | None) -> None:
    """Raises RuntimeError where the engine made other tokens of images than the trainer will read."""
    if request.images and len(read or ()) != request.length:
        names = ", ".join(image.name for image in request.images)
        raise RuntimeError(
            f"the engine reads {len(read or ())} tokens of a prompt with images ({names}), and the checkpoint's "
            f"processor makes it {request.length}: vLLM and transformers expand images in different ways"
        )


def _transfer_backend(config: EngineConfig, transport: Transport) -> str:
    """The name of the vLLM backend that brings weights in. Registers the one here: all of vLLM's own need a GPU."""
    from vllm.config.weight_transfer import WeightTransferConfig  # noqa: F401  (vLLM's import order)

    import infra.weights.weight_transfer  # noqa: F401

    if transport == "checkpoint_engine":
        return "checkpoint_engine"
    # Workers are processes of their own where there are several, and nothing can be passed to them by reference.
    return "in_process" if config.tensor_parallel == 1 else "ipc"


def _start(model: Path, config: EngineConfig, **options: Any) -> Any:
    """vLLM with what all engines share, and with options of its own."""
    from vllm import LLM

    check_context(model, config)
    check_kv_cache(model, config)
    # vLLM collects garbage five times while it starts, each time through all that was imported: that is not garbage.
    gc.freeze()
    register_kernels()
    if config.kv_cache_mb is not None:
        options["kv_cache_memory_bytes"] = config.kv_cache_mb * 2**20
    if torch.cuda.is_available():
        options["gpu_memory_utilization"] = config.gpu_memory_share
    else:
        options["enforce_eager"] = True
    return LLM(
        model=str(model),
        dtype=config.dtype,
        max_model_len=config.context,
        max_num_seqs=config.max_sequences,
        block_size=config.block_size,
        tensor_parallel_size=config.tensor_parallel,
        enable_prefix_caching=True,
        disable_log_stats=True,
        trust_remote_code=False,
        **options,
    )


class Engine:
    """vLLM around one model folder. Start one per process; `close` it before starting another."""

    def __init__(self, model: Path, config: EngineConfig, transport: Transport = "memory") -> None:
        cuda = torch.cuda.is_available()
        options: dict[str, Any] = {"enable_sleep_mode": cuda}
        if transport == "checkpoint_engine":
            # A process cannot map the memory that it offers itself: the worker has to be another one.
            options |= {
                "distributed_executor_backend": "mp",
                "worker_extension_cls": "infra.weights.weight_transfer.WorkerExtension",
            }
        self.config = config
        self._reads_images = folder_reads_images(model)
        if self._reads_images:
            # vLLM would keep memory for videos, which are longer than any image.
            options["limit_mm_per_prompt"] = {"video": 0}
        # Where no prompt can be longer than a forward pass, none is cut for the sake of others on a CPU.
        chunked = config.context > config.batched_tokens()
        self._backend = _transfer_backend(config, transport)
        self.llm = _start(
            model,
            config,
            max_num_batched_tokens=config.batched_tokens(),
            enable_chunked_prefill=cuda or chunked,
            logprobs_mode="processed_logprobs",
            weight_transfer_config={"backend": self._backend},
            generation_config="vllm",
            **options,
        )
        if chunked and not cuda:
            self.llm.collective_rpc(spare_generators)
        self.llm.init_weight_transfer_engine({"init_info": {}})
        # Where one were sampled, the model would look for an image that is not there.
        self._never_sampled = dict.fromkeys(image_tokens(model), -math.inf) or None
        self._tokenizer = self.llm.get_tokenizer()
        self.end_tokens = end_tokens(model, getattr(self._tokenizer, "eos_token_id", None))
        self._added = 0
        self._running: dict[str, _Running] = {}

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Completions, each as soon as it is done, in no promised order.

        Raises ValueError for a request that leaves no room in the context. What runs is aborted if the caller stops.
        """
        try:
            for index, request in enumerate(requests):
                self.add(index, request)
            while self.running:
                yield from self.step()
        finally:
            self.abort()

    @property
    def running(self) -> int:
        """Requests that were added and have not ended."""
        return len(self._running)

    def add(self, index: int, request: Request) -> None:
        """Take a request, whose completion carries `index`. Raises ValueError if it leaves no room in the context."""
        engine = self.llm.llm_engine
        if engine.is_sleeping():
            raise RuntimeError("the engine has released its memory: it generates after the next hand-over")
        room = check_room(index, request, self.config)
        self._added += 1
        name = str(self._added)
        internal = engine.add_request(name, _prompt(request), self._sampling(request, room))
        self._running[name] = _Running(index, internal, request)

    def step(self) -> list[Completion]:
        """One forward pass for what runs. Returns what ended with it."""
        from vllm import RequestOutput

        ended, repeating = [], []
        for output in self.llm.llm_engine.step():
            if not isinstance(output, RequestOutput):
                continue
            running = self._running[output.request_id]
            _check_expansion(running.request, output.prompt_token_ids)
            part = output.outputs[0]
            running.tokens += part.token_ids
            running.logprobs += _sampled_logprobs(part.logprobs)
            running.cached = output.num_cached_tokens or 0
            rule = running.request.repetition
            if rule and repeats(running.end(rule.longest), rule, self._tokenizer.decode):
                repeating.append(running)
            elif output.finished:
                ended.append(running)
            else:
                continue
            del self._running[output.request_id]
        if repeating:
            self.llm.llm_engine.abort_request([running.name for running in repeating], internal=True)
        return [
            *(Completion(one.index, one.tokens, one.logprobs, "repetition", one.cached) for one in repeating),
            *(self._completion(one) for one in ended),
        ]

    def abort(self) -> None:
        """Give up what runs."""
        if self._running:
            self.llm.llm_engine.abort_request([running.name for running in self._running.values()], internal=True)
            self._running.clear()

    def _sampling(self, request: Request, room: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # Nothing is reported of a response before its end unless it has to be looked at.
        kind = RequestOutputKind.DELTA if request.repetition else RequestOutputKind.FINAL_ONLY
        return SamplingParams(
            max_tokens=min(request.max_tokens, room),
            seed=request.seed if request.temperature > 0 else None,
            temperature=request.temperature,
            top_p=request.top_p,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=kind,
            stream_interval=INTERVAL if request.repetition else None,
            stop_token_ids=sorted(self.end_tokens),
            logit_bias=self._never_sampled,
        )

    def _completion(self, one: _Running) -> Completion:
        """What came to its own end."""
        stopped = one.tokens and one.tokens[-1] in self.end_tokens
        return Completion(one.index, one.tokens, one.logprobs, "stop" if stopped else "length", one.cached)

    def generate_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of the requests."""
        return sorted(self.generate(requests), key=lambda completion: completion.index)

    def stream(self, request: Request) -> Iterator[int]:
        """The tokens of one completion, each as soon as it is sampled; the end token is left out."""
        from vllm import RequestOutput
        from vllm.sampling_params import RequestOutputKind

        engine = self.llm.llm_engine
        room = self.config.context - request.length
        if room < 1:
            raise ValueError(f"the prompt has {request.length} tokens, the engine's context {self.config.context}")
        sampling = self._sampling(request, room)
        sampling.output_kind = RequestOutputKind.DELTA
        engine.add_request("stream", _prompt(request), sampling)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if isinstance(output, RequestOutput):
                    yield from (token for token in output.outputs[0].token_ids if token not in self.end_tokens)

    def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Replace all weights, by their Hugging Face names, and forget every cached prefix.

        NOTE: no request may be running; `generate` must have been used up or closed.
        """
        dtype = getattr(torch, self.config.dtype)
        # vLLM would add float32 biases to a bfloat16 engine without rounding them: a fresh engine would differ.
        cast = [(name, tensor.detach().to(dtype)) for name, tensor in weights]
        with self.receiving(version) as receive:
            if self._backend == "ipc":
                from infra.weights.weight_transfer import ipc_update

                update, _handles = ipc_update(cast, self.config.tensor_parallel)
                receive(update)
            else:
                receive({"weights": cast})

    @contextmanager
    def receiving(self, version: int) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Replace all weights by what the backend is sent inside the `with` block, and forget every cached prefix."""
        self.llm.start_weight_update()
        yield lambda update: self.llm.update_weights({"update_info": update})
        self.llm.finish_weight_update(str(version))
        if not self.llm.reset_prefix_cache():
            raise RuntimeError(
                "the prefix cache could not be emptied after a weight update: a request is still running"
            )
        if self._reads_images:
            # It has features that the old tower made of images.
            self.llm.llm_engine.reset_encoder_cache()

    def release(self) -> None:
        """Drop weights and KV cache (vLLM's sleep mode, level 2); nothing can be generated until both are back.

        NOTE: on a CPU vLLM frees nothing, and only stops taking requests.
        """
        if not self.llm.llm_engine.is_sleeping():
            self.llm.sleep(level=2)

    def wake(self, part: Literal["weights", "kv_cache"]) -> None:
        """Take back the memory of one part, and generate again once both are there.

        NOTE: released weights come back as memory only: `update_weights` has to follow.
        """
        if self.llm.llm_engine.is_sleeping():
            self.llm.wake_up([part])

    def close(self) -> None:
        """Free the engine's memory."""
        with without_collection():
            self.llm.llm_engine.engine_core.shutdown()
        del self.llm


class ValueEngine:
    """vLLM around a model with a value head, which gives one number per sequence. Start one per process."""

    def __init__(self, model: Path, config: EngineConfig) -> None:
        self.config = config
        whole = not torch.cuda.is_available()
        self.llm = _start(
            model,
            config,
            runner="pooling",
            convert="classify",
            max_num_batched_tokens=config.batched_tokens(whole_prompts=whole),
        )

    def values(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """What the head gives at each sequence's last token, before any sigmoid, in the order of the sequences.

        Raises ValueError for a sequence that is empty or longer than the context.
        """
        from vllm import PoolingParams, TokensPrompt

        for index, tokens in enumerate(sequences):
            if not 0 < len(tokens) <= self.config.context:
                raise ValueError(
                    f"sequence {index} has {len(tokens)} tokens; expected 1 to engine.context, {self.config.context}"
                )
        prompts = [TokensPrompt(prompt_token_ids=list(tokens)) for tokens in sequences]
        plain = PoolingParams(use_activation=False)
        outputs = self.llm.encode(prompts, plain, pooling_task="classify", use_tqdm=False)
        return [output.outputs.data.item() for output in outputs]

    def close(self) -> None:
        """Free the engine's memory."""
        with without_collection():
            self.llm.llm_engine.engine_core.shutdown()
        del self.llm
