"""What can be said of a proposal before anything of it runs. Pure: no tool runs, nothing is kept.

``verify`` finds what is wrong with it, ``simulate`` the state it would leave, ``equivalent``
compares what two would leave, ``optimize`` takes needless waits out of one, and ``rank`` orders
several. ``foresight`` is what they all assume: every tool succeeds, and what it puts out is not
known.
"""

from toolgate.analysis.equivalent import Difference, Equivalence, equivalent
from toolgate.analysis.issues import Issue
from toolgate.analysis.optimize import Optimized, Removed, optimize
from toolgate.analysis.rank import Ranked, rank
from toolgate.analysis.simulate import Simulation, simulate
from toolgate.analysis.verify import Judge, Tools, Verification, verify

__all__ = [
    "Difference",
    "Equivalence",
    "Issue",
    "Judge",
    "Optimized",
    "Ranked",
    "Removed",
    "Simulation",
    "Tools",
    "Verification",
    "equivalent",
    "optimize",
    "rank",
    "simulate",
    "verify",
]
