"""The signed area of polygons, against their triangles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.fields import signed_area

corner = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(st.lists(corner, min_size=3, max_size=8))
def test_the_area_is_the_sum_of_the_triangles_from_any_point(polygon):
    apex = (0.3, -0.7)
    total = 0.0
    for (x, y), (u, v) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        total += np.linalg.det([[x - apex[0], y - apex[1]], [u - apex[0], v - apex[1]]]) / 2
    assert signed_area(polygon) == pytest.approx(total, abs=1e-9)


@given(st.lists(corner, min_size=3, max_size=8))
def test_the_other_direction_has_the_opposite_sign(polygon):
    assert signed_area(polygon[::-1]) == pytest.approx(-signed_area(polygon), abs=1e-12)
