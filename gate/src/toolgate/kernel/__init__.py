"""The engine: propose, validate, policy, execute. One kernel, whoever asks it.

``validation``  arguments and results against JSON Schemas
``tools``       the tools that a client has registered
``admission``   what becomes of a proposed call (pure)
``release``     what becomes of a held action that somebody resumes (pure)
``records``     how the kernel's values become the journal's rows, and back
``engine``      carries decisions out: transactions, the tool's body, waiting
"""
