"""Toolgate: the gate that governs what an AI agent's tools may do.

The sidecar's command line is :mod:`toolgate.cli`, one client connection is :mod:`toolgate.gate`,
and the layers below it are named in ``docs/architecture.md``.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
