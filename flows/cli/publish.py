"""`longhaul publish`: bring a model with its card to a folder, S3 or the hub."""

import json

import click

from flows.cli.command import Command
from flows.cli.terminal import json_option, printable, store_option
from flows.home import open_store


@click.command(cls=Command)
@click.argument("model")
@click.argument("destination", required=False)
@store_option
@click.option("--replace", is_flag=True, help="Overwrite what the destination holds, though it is something else.")
@click.option("--public", is_flag=True, help="Make a repository that is new on the hub public; private by default.")
@click.option("--card", is_flag=True, help="Print the card alone; nothing is published.")
@json_option
def publish(
    model: str, destination: str | None, store: str, replace: bool, public: bool, card: bool, as_json: bool
) -> None:
    """Publish MODEL with a card to DESTINATION; without it, list where MODEL was published.

    MODEL is a stage of the newest run, RUN:STAGE, a tag, or the beginning of a digest. DESTINATION is a folder, an
    s3:// address, or owner/name on the hub (hf://owner/name; HF_TOKEN has the token). It gets the checkpoint as
    transformers and vLLM load it, README.md, recipe.yaml and longhaul.json, all or nothing. The same command resumes
    after an interruption.
    """
    from flows.models import find_model_record
    from flows.publish import card_of, publications, publish_model
    from steps.report.model_card import model_card

    if destination is None and (replace or public):
        raise click.UsageError("--replace and --public are for a DESTINATION: name one")
    if destination is not None and card:
        raise click.UsageError("--card prints the card and publishes nothing: leave out DESTINATION, or --card")
    opened = open_store(store)
    if card:
        text = model_card(card_of(opened, find_model_record(opened, model)[1]))
        click.echo(json.dumps({"card": text}) if as_json else text, nl=as_json)
    elif destination is None:
        ref, _ = find_model_record(opened, model)
        done = publications(opened, ref.digest)
        if as_json:
            click.echo(json.dumps({"publications": [record.model_dump(mode="json") for record in done]}))
        for record in done if not as_json else ():
            click.echo(printable(f"{record.time[:16]}  {record.address}  by {record.by}"))
        if not done and not as_json:
            click.echo(f"not published yet: longhaul publish {printable(model)} DESTINATION")
    else:
        published = publish_model(opened, model, destination, replace, public)
        if as_json:
            click.echo(json.dumps({"address": published.address, "unchanged": published.unchanged}))
        else:
            click.echo(printable(f"{'is already at' if published.unchanged else 'published at'} {published.address}"))


if __name__ == "__main__":
    publish()
