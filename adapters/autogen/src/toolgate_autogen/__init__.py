"""The place of Toolgate's AutoGen adapter, which is not in this release.

Nothing is exported. To govern a AutoGen agent's tools today, call them through
:class:`toolgate_client.GateClient`.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
