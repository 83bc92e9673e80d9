"""The gate's memory and its evidence: one store with an event log and the projections it implies.

``events``   the table of event kinds
``chain``    hashes and MACs, pure
``key``      the journal key, which lives outside the store
``records``  the rows whose content decides something, and the bytes their MACs cover
``names``    what the log calls a limit and an idempotency key; ``heads`` where the log says that
             each key of a session's state was written last
``store``    what a store must offer; ``sqlite`` is the embedded one, ``connection`` its
             transactions, ``database`` and ``schema`` what it is kept in, ``statements`` what is
             said to it
``reader``   verified reading; ``transaction`` writing, sealed and chained
``journal``  one run's hand on the store: its chain's head, group commit
``liveness`` how one gate knows that another is gone
``verify``   recomputing every chain; ``evidence`` what the log says of the rows there must be,
             ``agreement`` whether they are there
"""
