"""Sources labelled one after another share the limit, and one that fails stops no other."""

import numpy as np
import pytest

from streamvis.errors import SourceError
from streamvis.runners import labelling
from streamvis.sources.spec import SourceSpec
from streamvis.training.detector.annotation import LabelPlan

SPECS = [SourceSpec(id=name, uri=f"{name}.mp4", kind="file") for name in "abc"]


class Folder:
    """A folder that counts how often it was saved."""

    saved = 0

    def save(self):
        self.saved += 1


@pytest.mark.parametrize(("most", "limit"), [(None, None), (7, 3), (9, 3), (1, 1)])
def test_the_limit_is_shared_and_failures_are_passed_on(most, limit, monkeypatch):
    asked, failures, folder = [], [], Folder()

    def label(spec, folder, detect, plan, limit):
        asked.append((spec.id, limit))
        if spec.id == "b":
            raise SourceError("b cannot be read")

    monkeypatch.setattr(labelling, "label_source", label)
    plan = LabelPlan(every=1.0, sure=0.7, unsure=0.2, most=most)
    assert labelling.label_all(SPECS, folder, np.zeros, plan, failures.append) == 1
    assert asked == [("a", limit), ("b", limit), ("c", limit)]
    assert [str(error) for error in failures] == ["b cannot be read"]
    assert folder.saved == 1


def test_folders_may_be_labelled_again_without_footage():
    folder, plan = Folder(), LabelPlan(every=1.0, sure=0.7, unsure=0.2, most=7)
    assert labelling.label_all([], folder, np.zeros, plan, print) == 0
    assert folder.saved == 1


def test_what_was_labelled_before_an_interruption_is_saved(monkeypatch):
    def label(*given):
        raise KeyboardInterrupt

    folder = Folder()
    monkeypatch.setattr(labelling, "label_source", label)
    plan = LabelPlan(every=1.0, sure=0.7, unsure=0.2)
    with pytest.raises(KeyboardInterrupt):
        labelling.label_all(SPECS, folder, np.zeros, plan, print)
    assert folder.saved == 1
