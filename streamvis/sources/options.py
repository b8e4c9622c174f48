"""What can be set on a synthetic scene."""

from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from streamvis.errors import UsageError
from streamvis.parsing import convert

Side = Annotated[int, Meta(ge=32, le=4096)]


class SceneOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set on a scene: `synthetic:walkers?seed=3&people=6&size=640x480`."""

    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    people: Annotated[int, Meta(ge=0, le=100)] = 6  # about at any time
    seconds: Annotated[float, Meta(gt=0, le=86400)] = 10.0
    size: tuple[Side, Side] = (640, 480)  # width, height in pixels
    fps: Annotated[float, Meta(gt=0, le=240)] = 10.0
    live: bool = False  # shown at its own pace, pictures dropped rather than kept


def scene_options(uri: str) -> SceneOptions:
    """The options of a `synthetic:` source; UsageError names the one that is wrong."""
    scene, _, query = uri.removeprefix("synthetic:").partition("?")
    if scene not in {"", "walkers"}:
        raise UsageError(f"source '{uri}': no scene '{scene}'; there is only 'walkers'")
    given: dict[str, object] = dict(parse_qsl(query, keep_blank_values=True))
    if "size" in given:
        given["size"] = str(given["size"]).lower().split("x")
    return convert(given, SceneOptions, f"source '{uri}'", UsageError, strict=False)
