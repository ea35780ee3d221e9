"""Runs a recipe's whole chain without Metaflow, and prints what its stages made, as JSON.

Engines and trainers are imported once. Each stage has a fork of that process to itself, as in the chain it has a
process of its own: DeepSpeed starts once in one.

    python -m tests.flows.forked_stages RECIPE
"""

import gc
import json
import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from flows.fork_server.server import import_for_stages
from infra.environment import enter_engine_environment


def main() -> None:
    import_for_stages()  # for the forks
    from flows.chain import Chain
    from flows.topology import STAGES
    from infra.store.evaluation_stages import is_evaluation
    from infra.store.records import StageRecord
    from steps.recipe import load_recipe

    chain = Chain(load_recipe(Path(sys.argv[1])), "forked")
    done: dict[str, StageRecord] = {}
    context = multiprocessing.get_context("fork")
    gc.freeze()

    def run(stage: str, result: Connection) -> None:
        result.send([record.model_dump_json() for record in chain.run_step(stage, done)])

    for stage in STAGES:
        if not is_evaluation(stage):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=run, args=(stage, sender))
            process.start()
            sender.close()
            made = [StageRecord.model_validate_json(record) for record in receiver.recv()]  # EOFError where it failed
            done |= {record.stage: record for record in made}
            process.join()
    print(json.dumps({stage: {name: ref.digest for name, ref in one.outputs.items()} for stage, one in done.items()}))


if __name__ == "__main__":
    enter_engine_environment()
    main()
