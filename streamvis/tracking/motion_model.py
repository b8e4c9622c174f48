"""How the state of people is predicted: walking on, or standing still."""

import math

import numpy as np

from streamvis.messages import Array
from streamvis.tracking import kalman
from streamvis.tracking.parameters import TrackerParameters
from streamvis.tracking.state_space import StateSpace


def walk_on(
    x: Array, P: Array, dt: float, space: StateSpace, parameters: TrackerParameters
) -> tuple[Array, Array]:
    """Predict states x (N, 6) and covariances P (N, 6, 6) by `dt` s, at constant velocity.

    On the ground, people grow in the picture as they come nearer. In the image it is not known who
    does, so that all sizes drift more; but who walks in depth moves less there than who walks
    across, unless the camera moves.
    """
    body, scale = space.body(x), space.log_scale(x)
    F = np.eye(6)
    F[:4, :4], unit = kalman.constant_velocity(dt)
    down = parameters.foreshortening if space.foreshortened else 1.0
    push = parameters.acceleration if space.fixed else parameters.moving_acceleration
    root = np.outer(push * body, [1, down, 1, down])  # (N, 4), of both positions and velocities
    Q = np.zeros((len(x), 6, 6))
    Q[:, :4, :4] = root[:, :, None] * root[:, None, :] * unit
    drift = parameters.size_drift if scale is None else parameters.ground_size_drift
    Q[:, [4, 5], [4, 5]] = np.square(drift) * dt
    x, P = kalman.predict(x, P, F, Q)
    if scale is not None:
        x[:, 4:] += (space.log_scale(x) - scale)[:, None]
    return x, P


def stand_still(
    x: Array, P: Array, dt: float, space: StateSpace, parameters: TrackerParameters
) -> tuple[Array, Array]:
    """Predict as `walk_on`, but people of whom the picture shows no movement.

    They stay where they are but for a slow drift, which the picture would not show. The velocity is
    forgotten within `still_s`, and its variance tends to that of somebody who may set out.
    """
    body = space.body(x)
    kept = math.exp(-dt / parameters.still_s)
    F = np.diag([1, 1, kept, kept, 1, 1])
    Q = np.zeros((len(x), 6, 6))
    Q[:, [0, 1], [0, 1]] = ((parameters.still_drift * body) ** 2 * dt)[:, None]
    Q[:, [2, 3], [2, 3]] = ((parameters.still_speed * body) ** 2 * (1 - kept**2))[:, None]
    return kalman.predict(x, P, F, Q)
