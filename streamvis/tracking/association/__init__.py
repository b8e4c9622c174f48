"""Association probabilities of tracks and detections.

Weights are logarithms. `log_miss` (N,) is the weight of a missed detection and `log_hit` (N, M)
that of an association, −inf outside the gate. A joint event gives each track at
most one detection and each detection to at most one track; its weight is the product of its
tracks' weights. The marginals β (N, M + 1) sum over all joint events; column 0 is the miss.
With weights that carry the existence probability r this is JIPDA; with r = 1 it is JPDA; one
track at a time it is IPDA and PDA.
"""

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.association.exact import exact_marginals
from streamvis.tracking.association.gated import Method, Pairs, alone, together
from streamvis.tracking.association.gnn import gnn_assignment, gnn_marginals
from streamvis.tracking.association.lbp import lbp_marginals
from streamvis.tracking.association.pairs import paired_marginals

__all__ = [
    "Method",
    "Pairs",
    "alone",
    "cluster_marginals",
    "exact_marginals",
    "gnn_assignment",
    "gnn_marginals",
    "hit_weight",
    "lbp_marginals",
    "miss_weight",
    "paired_marginals",
    "together",
]

MAX_STATES = 10_000  # of the exact method, for one cluster; see docs/decisions/008


def miss_weight(r: Array, p_detect: Array, p_gate: float) -> Array:
    """Return log(1 − P_D P_G r) (N,)."""
    return np.log(np.maximum(1 - p_detect * p_gate * r, 1e-12))


def hit_weight(r: Array, p_detect: Array, log_density: Array, log_clutter: Array) -> Array:
    """Return log(P_D r N/λ) of pairs with the log density of N and the log of λ."""
    return np.log(p_detect * r) + log_density - log_clutter


def cluster_marginals(log_miss: Array, log_hit: Array, max_states: int = MAX_STATES) -> Array:
    """Return β (N, M + 1) of one cluster: exact up to `max_states`, else approximate."""
    beta = exact_marginals(log_miss, log_hit, max_states)
    return paired_marginals(log_miss, log_hit) if beta is None else beta
