"""What a plan means, before and while it runs: pure, shared by the kernel and by analysis.

``graph`` says what waits for what, ``references`` puts outputs where parameters name them,
``preconditions`` tests the session's state, ``effects`` says what actions read and write there, and
``shape`` what is wrong with a document that is no proposal.
"""
