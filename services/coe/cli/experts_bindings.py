"""`coe experts bindings`: which hosted bundle answers for each expert in the mapping."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coe.cli.catalogue import catalogue
from coe.cli.console import out, print_json, say, whole
from coe.mapper import bindings as files
from coe.mapper import mapping_file
from coe.mapper.settings import MapperSettings
from coe.platform.settings import CoreSettings


def bindings(as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False) -> None:
    """Show each expert of the mapping with the bundle that answers for it, and bindings without effect."""
    home = CoreSettings().home
    bound = files.read_bindings(home / files.FILE_NAME)
    settings = MapperSettings()
    pool = mapping_file.load_mapping(settings.mapping or mapping_file.locate(home)).pool
    hosted = settings.experts or {bundle.id for bundle in catalogue().list()}
    table = Table(whole("mapped expert"), "billions of parameters", whole("answered by"))
    for expert in pool:
        bundle = bound.get(expert.name, expert.name)
        answers = bundle if bundle in hosted else None
        if as_json:
            print_json({"mapped": expert.name, "active_params_b": expert.active_params_b, "bundle": answers})
        table.add_row(
            escape(expert.name), f"{expert.active_params_b:g}", escape(answers or "none: other experts answer")
        )
    if not as_json:
        out.print(table)
    mapped = [expert.name for expert in pool]
    for line in (*files.nobody(bound, mapped, hosted), *files.without_effect(bound, mapped, hosted)):
        say(f"{home / files.FILE_NAME}: {line}")
