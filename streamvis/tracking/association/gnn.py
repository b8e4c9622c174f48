"""Global nearest neighbour: the single joint event of the greatest weight."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.messages import Array


def gnn_assignment(log_miss: Array, log_hit: Array) -> Array:
    """Return the detection (N,) of each track in the most probable joint event, −1 for a miss.

    This is the matching of the greatest total gain log_hit − log_miss; pairs without a gain are
    misses. SciPy solves it: see docs/decisions/029.
    """
    gain = np.maximum(log_hit - log_miss[:, None], 0)  # (N, M)
    tracks, detections = linear_sum_assignment(gain, maximize=True)
    taken = np.where(gain[tracks, detections] > 0, detections, -1)
    assignment = np.full(len(gain), -1)
    assignment[tracks] = taken
    return assignment


def gnn_marginals(log_miss: Array, log_hit: Array) -> Array:
    """Return β (N, M + 1) of zeros and ones, in the form of the soft methods."""
    beta = np.zeros((len(log_miss), log_hit.shape[1] + 1))
    beta[np.arange(len(beta)), gnn_assignment(log_miss, log_hit) + 1] = 1
    return beta
