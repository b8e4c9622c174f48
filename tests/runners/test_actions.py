"""Action scores by networks made by hand: who is scored on what, and what is refused."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from labelled_clips import SIZE, drawn_filters, film, write_clips

from streamvis.datasets.clips import Clip, read_clips
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.classification import evaluate as scores_of
from streamvis.models.off import Off, OffConfig
from streamvis.models.weights import save
from streamvis.runners import actions
from streamvis.runners.actions import ActionResult
from streamvis.training.actions.cross_validation import FoldLogits

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIONS = ("moving", "still")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


def always(action: int, path: Path, held_out: str | None = None, **about) -> Path:
    """Write a network without OFF that is sure of one action, whatever it is shown."""
    config = OffConfig(**{"name": "a", "actions": ACTIONS, "size": SIZE, "guided": False} | about)
    model = Off(config).eval()
    model.body.load_state_dict(drawn_filters(model.body))
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data = 3 * torch.eye(len(ACTIONS))[action]
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path, {} if held_out is None else {"held_out": held_out})
    return path


def write_fold(run: Path, number: int, action: int, sources: list[str]) -> Path:
    held_out = msgspec.json.encode(sources).decode()
    return always(action, run / f"fold-{number}/tiny.safetensors", held_out)


def test_weights_are_scored_on_all_clips_and_timed(folder, tmp_path):
    path = always(0, tmp_path / "rgb.safetensors")
    found = actions.evaluate(folder, [str(path)], "cpu", "fp32", "dis")
    assert found.actions == ACTIONS
    assert found.trial.rows.tolist() == list(range(20))
    report = found.report()
    assert set(report) == {"rgb"}
    assert (report["rgb"]["top1"], report["rgb"]["clips"]) == (0.5, 20)
    assert report["rgb"]["per_class"] == {"moving": 1, "still": 0}
    assert report["rgb"]["per_s"] > 0
    assert "folds" not in report["rgb"]


def test_each_fold_is_scored_on_the_sources_that_it_held_out(folder, tmp_path):
    write_fold(tmp_path, 1, 0, ["0", "1"])
    write_fold(tmp_path, 2, 1, ["7"])
    found = actions.evaluate_folds(folder, tmp_path, "cpu", "fp32", "dis")
    clips = read_clips(folder)
    assert [clips[i].source for i in found.trial.rows] == ["0", "0", "1", "1", "7", "7"]
    logits = found.trial.streams["rgb"]["frame"]
    np.testing.assert_array_equal(logits, 3 * np.eye(2)[[0, 0, 0, 0, 1, 1]])
    assert [fold["rgb"].clips for fold in found.folds] == [4, 2]
    assert found.all["rgb"].per_class == {"moving": 2 / 3, "still": pytest.approx(1 / 3)}


def test_a_report_has_the_mean_and_the_spread_of_the_folds():
    def scores(right: int):
        truth = np.array([0] * right + [1] * (4 - right))
        return {"rgb": scores_of(np.eye(2)[[0] * 4], truth, ACTIONS)}

    trial = FoldLogits(np.arange(8), {})
    result = ActionResult([scores(4), scores(2)], scores(3), {"rgb": 9.0}, ACTIONS, trial, [])
    found = result.report()["rgb"]
    assert found["per_s"] == 9.0
    assert found["top1"] == 0.75
    assert found["folds"]["top1"] == {"mean": 0.75, "spread": 0.25, "each": [1.0, 0.5]}
    assert found["folds"]["auc"]["each"] == [None, 0.5]
    assert found["folds"]["auc"]["mean"] == 0.5  # of the folds that have one


def test_one_network_of_each_modality_is_taken_and_rgb_is_needed(tmp_path):
    rgb = str(always(0, tmp_path / "rgb.safetensors"))
    flow = str(always(0, tmp_path / "flow.safetensors", modality="flow"))
    assert set(actions.load_networks([rgb, flow], "cpu", "fp32")) == {"rgb", "flow"}
    with pytest.raises(UsageError, match=r"another network of modality rgb is given; give one of"):
        actions.load_networks([rgb, flow, rgb], "cpu", "fp32")
    with pytest.raises(UsageError, match="found networks of flow; expected one of modality rgb"):
        actions.load_networks([flow], "cpu", "fp32")


def test_a_label_that_the_network_does_not_know_is_refused_with_those_it_knows(folder, tmp_path):
    path = always(0, tmp_path / "a.safetensors", actions=("moving", "falling"))
    with pytest.raises(
        DataError, match=r"0\.avi is labelled 'still'; expected an action .*: moving, falling$"
    ):
        actions.evaluate(folder, [str(path)], "cpu", "fp32", "dis")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda run: None, "has no fold-1/, .*; expected a directory that `train actions` wrote"),
        (lambda run: (run / "fold-1").mkdir(), "fold-1 holds no weights: train its fold to the"),
        (lambda run: write_fold(run, 1, 0, ["x", "y"]), "has none of the 2 sources .* such as x:"),
        (
            lambda run: always(0, run / "fold-1/a.safetensors"),
            r"a\.safetensors does not state which sources it held out; expected weights of a fold",
        ),
    ],
    ids=["no folds", "unfinished", "other data", "not of a fold"],
)
def test_folds_that_cannot_be_scored_are_refused(write, words, folder, tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match=words):
        actions.evaluate_folds(folder, tmp_path, "cpu", "fp32", "dis")


@pytest.mark.parametrize("fps", [10, 25])
def test_the_frame_rate_of_a_clip_is_that_of_its_video(fps, tmp_path):
    film(tmp_path / "a.avi", moves=True, seed=0, fps=fps)
    assert actions.clip_fps(Clip(tmp_path / "a.avi", "moving", "a")) == fps
