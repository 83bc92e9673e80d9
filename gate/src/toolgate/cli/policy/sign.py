"""``toolgate policy sign`` and ``verify``: who stands for a policy document."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from toolgate.cli.policy.check import OptionalConfig, shown
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    JSONOption,
    config_of,
    console,
    errors,
    print_json,
    printable,
    reported,
)
from toolgate.config import GateConfig
from toolgate.errors import ApprovalError, PolicyError
from toolgate.policy import compile_policy, signing
from toolgate.policy.documents import alone, with_document
from toolgate.signatures.keys import load_private_key, public_key_text
from toolgate.sourcefile import UnreadableSource, load


def sign_document(
    file: Annotated[Path, typer.Argument(help="The policy document.", show_default=False)],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The signer's private key.")],
    signer: Annotated[str, typer.Option("--as", metavar="ID", help="Who is signing.")],
    config: OptionalConfig = None,
    as_json: JSONOption = False,
) -> None:
    """Sign a policy document: put a signature of its very bytes into FILE.sig.

    With a config, a signature that would not count there is refused.
    """
    with reported():
        loaded = None if config is None else config_of(config)
        document = _bytes(file)
        private = load_private_key(key)
        if loaded is not None:
            _check_signer(loaded, signer, public_key_text(private.public_key()))
        policy = compile_policy(
            alone(file).config if loaded is None else with_document(loaded, file)
        )
        beside = signing.signature_file(file)
        before = beside.read_bytes() if beside.is_file() else None
        signing.write(file, signing.sign(document, signer, private, before))
    if as_json:
        told = {"file": str(file), "signature": str(beside), "signer": signer}
        print_json({**told, "policy": policy.id, "rules": len(policy.rules)})
        return
    console.print(
        f"{signer} signed {file} ({policy.id}, {len(policy.rules)} rules): wrote {beside}",
        markup=False,
        soft_wrap=True,
    )


def verify_document(
    config: ConfigOption,
    file: Annotated[
        Path | None,
        typer.Argument(help="The policy document; by default the config's.", show_default=False),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Tell who of the config's signers has signed a document; exit 1 when nobody has."""
    with reported():
        loaded = config_of(config)
        path = file or loaded.policy.file
        if path is None:
            raise PolicyError(loaded.source.name, ["policy.file is missing: nothing can be signed"])
        signers = signing.pinned_signers(loaded)
        document = _bytes(path)
    problem, names = None, list[str]()
    try:
        names = signing.verify(path, document, signers)
    except ApprovalError as error:
        problem = str(error)
    if as_json:
        print_json(
            {"ok": problem is None, "file": shown(str(path)), "signers": names, "problem": problem}
        )
    elif problem is None:
        line = f"{shown(str(path))}: signed by {', '.join(names)}"
        console.print(Text(printable(line), style="bold green"), soft_wrap=True)
    else:
        line = f"{shown(str(path))}: NOT SIGNED: {problem}"
        errors.print(Text(printable(line), style="bold red"), soft_wrap=True)
    if problem is not None:
        raise typer.Exit(NO)


def _bytes(path: Path) -> bytes:
    try:
        return load(path)
    except UnreadableSource as error:
        raise PolicyError(str(path), error.problems) from None


def _check_signer(config: GateConfig, signer: str, public: str) -> None:
    pinned = signing.pinned_signers(config).get(signer)
    if pinned is None:
        raise ApprovalError(f"no signer named {signer!r} is in the config (policy.signers)")
    if public_key_text(pinned) != public:
        raise ApprovalError(f"this is not the key that the config pins for the signer {signer}")
