"""What a plan means, before and while it runs: pure, shared by the kernel and by analysis.

``graph`` says what waits for what, ``references`` puts outputs where parameters name them,
``preconditions`` tests the session's state, and ``effects`` says what actions read and write there.
"""
