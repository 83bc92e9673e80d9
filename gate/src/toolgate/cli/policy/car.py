"""``toolgate policy import-car``: a document that means what CAR's policy files mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.text import Text

from toolgate.cli.terminal import (
    NO,
    JSONOption,
    errors,
    print_json,
    print_text,
    printable,
    reported,
)
from toolgate.config import parse_config
from toolgate.errors import PolicyError
from toolgate.policy import car, compile_policy

_WIDTH = 100


def import_car(
    files: Annotated[
        list[Path],
        typer.Argument(help="CAR's policy files (TOML).", metavar="FILE...", show_default=False),
    ],
    name: Annotated[str, typer.Option("--id", help="The id of the document.")] = "from-car",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the document here, not over a file.", metavar="FILE"),
    ] = None,
    allow_rest: Annotated[
        bool,
        typer.Option(
            "--allow-rest/--deny-rest", help="Allow what no rule denies, as CAR does, or not."
        ),
    ] = True,
    as_json: JSONOption = False,
) -> None:
    """Translate CAR's policy files into one document; exit 1 when something has no translation."""
    with reported():
        imported = car.import_car(files, allow_rest=allow_rest)
        document = imported.document(name)
        # What cannot be loaded is not handed out.
        compile_policy(
            parse_config({"project": "car", "policy": {"rules": imported.rules}}, Path())
        )
        text = _written(imported, name)
        if out is not None:
            _write(out, text)
    if as_json:
        print_json(
            {
                "document": document,
                "tools": imported.tools,
                "notes": imported.notes,
                "untranslated": imported.untranslated,
            }
        )
    else:
        if out is None:
            print_text(text.rstrip("\n"))
        for problem in imported.untranslated:
            line = Text.assemble(("not translated: ", "bold red"), printable(problem))
            errors.print(line, soft_wrap=True)
    if imported.untranslated:
        raise typer.Exit(NO)


def _written(imported: car.Imported, name: str) -> str:
    """Return the document as YAML, with what its reader must know as comments."""
    heads = [
        ("Made from CAR's policy files. Where its meaning is not quite theirs:", imported.notes),
        ("NOT TRANSLATED, so not enforced as it was there:", imported.untranslated),
    ]
    comments = [f"{title}\n{_items(texts)}" for title, texts in heads if texts]
    if imported.tools:
        tools = yaml.safe_dump({"tools": imported.tools}, sort_keys=False, default_flow_style=None)
        comments.append(f"For the gate's config:\n{tools.rstrip()}")
    header = "".join(f"# {row}".rstrip() + "\n" for text in comments for row in text.split("\n"))
    body = yaml.safe_dump(
        imported.document(name), sort_keys=False, allow_unicode=True, width=_WIDTH
    )
    return f"{header}{body}"


def _items(texts: list[str]) -> str:
    return "\n".join(f"  - {printable(text)}".replace("\n", " ") for text in texts)


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise PolicyError(str(path), ["exists already; nothing is written over it"]) from None
    except OSError as error:
        raise PolicyError(str(path), [f"cannot be written: {error.strerror or error}"]) from None
