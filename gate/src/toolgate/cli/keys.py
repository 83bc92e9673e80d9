"""``toolgate keys``: an approver's key pair."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
import yaml

from toolgate.cli.terminal import JSONOption, console, print_json, reported
from toolgate.errors import ApprovalError
from toolgate.signatures.keys import new_private_key, public_key_text

_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.@+-]{0,99}")

app = typer.Typer(help="Key pairs of approvers.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Key pairs of approvers."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="ID", help="The approver's id in the config.")],
    out: Annotated[
        Path, typer.Option("--out", help="The folder to write ID.key to.", metavar="FOLDER")
    ] = Path(),
    as_json: JSONOption = False,
) -> None:
    """Make an Ed25519 key pair: write ID.key (mode 0600), print the public half for the config."""
    with reported():
        if not _ID.fullmatch(name):
            raise ApprovalError(
                f"{name!r} cannot be an id: a letter comes first, then letters, digits, _ . @ + -"
            )
        path = out / f"{name}.key"
        public = public_key_text(new_private_key(path).public_key())
    if as_json:
        print_json({"id": name, "public_key": public, "private_key_file": str(path)})
        return
    console.print(f"wrote {path}: keep it private, it signs for {name}", markup=False)
    where = "approvals.approvers (or policy.signers)"
    console.print(f"add to the gate's config, under {where}:\n", markup=False)
    # Words such as `on` are no text in YAML unless they are quoted.
    shown = name if yaml.safe_load(name) == name else f'"{name}"'
    console.print(f'    - {{id: {shown}, public_key: "{public}"}}', markup=False, soft_wrap=True)
