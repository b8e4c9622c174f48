"""The keywords that type checkers know are the settings of the kinds of stages."""

from typing import get_type_hints

import pytest

from streamvis.api import settings
from streamvis.config import Appearance, Jipda, MaskRcnn, OffActions, PoseEstimation, Segment


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        (settings.DetectorSettings, MaskRcnn),
        (settings.EmbedderSettings, Appearance),
        (settings.SegmenterSettings, Segment),
        (settings.ActionSettings, OffActions),
        (settings.PoseSettings, PoseEstimation),
        (settings.TrackerSettings, Jipda),
    ],
)
def test_keywords_are_the_settings_of_the_kind(keywords, kind):
    # when an event is published; which frames are looked at; where embeddings are computed
    of_runs = {"unknown", "gate", "on_demand"}
    of_runs |= (
        {"begin", "end", "min_s", "fallen_s", "update_s"} if kind is PoseEstimation else set()
    )
    settings_of_kind = set(kind.__struct_fields__) - {"weights"} - of_runs
    assert set(get_type_hints(keywords)) == settings_of_kind
