"""Settings of sources: after `#`, and after the `?` of a synthetic scene."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from streamvis.errors import UsageError
from streamvis.parsing import alternatives, convert

Transport = Literal["file", "images", "camera", "rtsp", "http", "synthetic"]
Side = Annotated[int, Meta(ge=32, le=4096)]

TEXT, NUMBER, SWITCH = "any text", "a number", "0 1 true false auto"  # else: words, joined by +
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?([kKMG]i?B?)?")

OURS: dict[str, str] = {"fps": NUMBER, "start_time": TEXT}
CONNECTION = {"open_s": NUMBER, "read_s": NUMBER, "stall_s": NUMBER, "retry_s": NUMBER}
HWACCEL = {"hwaccel": "auto none cuda qsv drm"}
TRANSPORT = {"transport": "tcp udp"}
CREDENTIALS = {"user": TEXT, "password": TEXT, "password_file": TEXT}
# FFmpeg's own options. It ignores unknown ones, so they are listed here to reject typos.
DEMUXING = {
    "analyzeduration": NUMBER,
    "avioflags": "direct",
    "correct_ts_overflow": SWITCH,
    "err_detect": "crccheck bitstream buffer explode ignore_err careful compliant aggressive",
    "fflags": "discardcorrupt fastseek genpts igndts ignidx nobuffer nofillin noparse sortdts",
    "formatprobesize": NUMBER,
    "fpsprobesize": NUMBER,
    "max_delay": NUMBER,
    "max_ts_probe": NUMBER,
    "probesize": NUMBER,
    "protocol_whitelist": TEXT,
    "rtbufsize": NUMBER,
    "skip_initial_bytes": NUMBER,
    "use_wallclock_as_timestamps": SWITCH,
}
FORMATS = {  # of raw video, MP4, transport streams and HLS
    "advanced_editlist": SWITCH,
    "allowed_extensions": TEXT,
    "decryption_key": TEXT,
    "extension_picky": SWITCH,
    "framerate": TEXT,
    "ignore_editlist": SWITCH,
    "live_start_index": NUMBER,
    "pixel_format": TEXT,
    "resync_size": NUMBER,
    "scan_all_pmts": SWITCH,
    "video_size": TEXT,
}
TLS = {
    "ca_file": TEXT,
    "cert_file": TEXT,
    "key_file": TEXT,
    "tls_verify": SWITCH,
    "verifyhost": TEXT,
}
TLS_FILES = ("ca_file", "cert_file", "key_file")
HTTP = {
    "auth_type": "none basic",
    "cookies": TEXT,
    "headers": TEXT,
    "http_persistent": SWITCH,
    "http_proxy": TEXT,
    "http_seekable": SWITCH,
    "max_redirects": NUMBER,
    "max_reload": NUMBER,
    "multiple_requests": SWITCH,
    "reconnect": SWITCH,
    "reconnect_at_eof": SWITCH,
    "reconnect_delay_max": NUMBER,
    "reconnect_on_http_error": TEXT,
    "reconnect_on_network_error": SWITCH,
    "reconnect_streamed": SWITCH,
    "referer": TEXT,
    "seekable": SWITCH,
    "strict_mime_boundary": SWITCH,
    "tcp_nodelay": SWITCH,
    "timeout": NUMBER,
    "user_agent": TEXT,
}
RTSP = {
    "allowed_media_types": "video audio data subtitle",
    "buffer_size": NUMBER,
    "initial_pause": SWITCH,
    "listen_timeout": NUMBER,
    "localaddr": TEXT,
    "max_port": NUMBER,
    "min_port": NUMBER,
    "pkt_size": NUMBER,
    "reorder_queue_size": NUMBER,
    "rtsp_flags": "filter_src listen prefer_tcp satip_raw",
    "rtsp_transport": "tcp udp udp_multicast http https",
    "timeout": NUMBER,
    "user_agent": TEXT,
}
V4L2 = {
    "channel": NUMBER,
    "framerate": TEXT,
    "input_format": TEXT,
    "pixel_format": TEXT,
    "standard": TEXT,
    "timestamps": "default abs mono2abs",
    "use_libv4l2": SWITCH,
    "video_size": TEXT,
}
SETTINGS: dict[Transport, dict[str, str]] = {
    "file": OURS | HWACCEL | DEMUXING | FORMATS,
    "images": OURS,
    "camera": OURS | CONNECTION | HWACCEL | V4L2 | DEMUXING,
    "rtsp": OURS | CONNECTION | CREDENTIALS | TRANSPORT | HWACCEL | RTSP | TLS | DEMUXING,
    "http": OURS | CONNECTION | CREDENTIALS | HWACCEL | HTTP | TLS | DEMUXING | FORMATS,
    "synthetic": OURS,
}
NUMBERS = frozenset({"fps", *CONNECTION})
LEAST_FPS = 1e-5  # about a picture a day
READ_S = 5.0  # default of read_s
OWN = frozenset(OURS | CONNECTION | CREDENTIALS | TRANSPORT | HWACCEL)  # the others are FFmpeg's


def check_settings(kind: Transport, pairs: Iterable[tuple[str, str]], where: str) -> None:
    """UsageError for unknown settings of this kind of source, and for invalid values.

    Values of free text are not shown, since they may be secrets.
    """
    known = SETTINGS[kind]
    for key, value in pairs:
        if key not in known:
            raise UsageError(f"{where} has no setting '{key}'{alternatives(key, known)}")
        _check(known[key], value, f"{where}: {key}={value}", joined=key not in OWN)


def ffmpeg_options(given: Mapping[str, str], where: str, base: Path) -> dict[str, str]:
    """The settings that FFmpeg gets; relative paths start at `base`."""
    options = {name: value for name, value in given.items() if name not in OWN}
    if "transport" in given:
        if "rtsp_transport" in options:
            raise UsageError(f"{where} has both transport and rtsp_transport; give one of them")
        options["rtsp_transport"] = given["transport"]
    for name in options.keys() & set(TLS_FILES):
        options[name] = str((base / options[name]).absolute())
    if "ca_file" in options:  # without tls_verify FFmpeg would not look at it
        options.setdefault("tls_verify", "1")
    return options


def seconds_of(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, float]:
    """The settings that are numbers of their own fields: `fps` and the times of a connection."""
    found = {key: _positive(key, value, where) for key, value in pairs if key in NUMBERS}
    read_s, stall_s = found.get("read_s", READ_S), found.get("stall_s")
    if stall_s is not None and stall_s >= read_s:
        raise UsageError(
            f"{where}: stall_s={stall_s:g}, expected less than read_s={read_s:g}, after which the "
            "connection is given up"
        )
    return found


def _positive(key: str, text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    lowest = {"retry_s": 0.0, "fps": LEAST_FPS}.get(key)
    if not (0 < number < 1e6 if lowest is None else lowest <= number < 1e6):
        least = "above 0" if lowest is None else f"of at least {lowest:g}"
        raise UsageError(f"{where}: {key}={text}, expected a number {least} and below 1000000")
    return number


def _check(allowed: str, value: str, where: str, *, joined: bool) -> None:
    if allowed == TEXT:
        return
    if allowed == NUMBER:
        if not _NUMBER.fullmatch(value):
            raise UsageError(f"{where} is not a number; expected digits, such as 500000 or 5M")
        return
    words = allowed.split()
    parts = re.split("[+-]", value.removeprefix("+").removeprefix("-")) if joined else [value]
    for word in parts:
        if word not in words:
            raise UsageError(f"{where}: unknown value '{word}'{alternatives(word, words)}")


class SceneOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a synthetic scene: `synthetic:walkers?seed=3&people=6&size=640x480`."""

    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    people: Annotated[int, Meta(ge=0, le=100)] = 6  # about at any time
    seconds: Annotated[float, Meta(gt=0, le=86400)] = 10.0
    size: tuple[Side, Side] = (640, 480)  # width, height in pixels
    fps: Annotated[float, Meta(ge=LEAST_FPS, le=240)] = 10.0
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
