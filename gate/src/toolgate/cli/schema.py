"""``toolgate schema``: JSON Schemas of the files an operator writes, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from toolgate.cli.terminal import pretty, print_text
from toolgate.policy.schema import SchemaName, schema_of


def schema(
    name: Annotated[
        SchemaName,
        typer.Argument(metavar="NAME", help="config, policy or policy-test.", show_default=False),
    ],
) -> None:
    """Print the JSON Schema of a kind of file."""
    print_text(pretty(schema_of(name)))
