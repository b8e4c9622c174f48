"""A simulated RTSP camera for tests, with the faults of real cameras on request.

It serves H.264 or H.265 over RTP, interleaved in TCP or over UDP, to any number of clients, and
goes on serving when they leave. It runs in a process of its own, which can be stopped and killed:

    film = encode_film([picture(n) for n in range(50)], fps=25)
    with serving(Camera(films=[film], auth="digest", user="joe", password="sesame")) as server:
        av.open(server.url)

By hand, with any H.264 or H.265 file and the fields of `Camera` as options:

    python tests/rtsp_server.py street.mp4 port=8554 auth=basic user=joe password=sesame drop=0.02

A film repeats without an end. Units (coded pictures) are counted from 0 for each client.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import math
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote

import msgspec
from rtsp_film import Film, encode_film, fragments, read_film

__all__ = ["Camera", "Film", "Server", "StampFault", "encode_film", "read_film", "serving"]

HERTZ = 90_000  # of RTP time stamps of video
AUDIO_HERTZ = 8_000
BASE = 123_456  # the first time stamp
REALM, NONCE = "camera", "6f1ed002ab5595859014ebf0951522d9"
NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970
STATUS = {
    200: "OK", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    454: "Session Not Found", 461: "Unsupported Transport", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip
XML = (
    b'<?xml version="1.0"?><tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema">'
    b"<tt:VideoAnalytics/></tt:MetadataStream>"
)


class StampFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of the RTP time stamps."""

    kind: Literal["single", "jump", "restart", "repeat"]
    # single: `span` stamps are off by `seconds`; jump: all from here on are; restart: they count
    # from 0 again; repeat: `span` stamps are the one before
    at: int  # number of the unit
    seconds: float = 0.0
    span: int = 1
    every: int | None = None  # and again after so many units

    def covers(self, number: int) -> bool:
        """Whether the fault, of kind single or repeat, concerns this unit."""
        behind = number - self.at
        behind = behind % self.every if self.every and behind > 0 else behind
        return 0 <= behind < self.span

    def begins(self, number: int) -> bool:
        """Whether the fault begins with this unit."""
        behind = number - self.at
        return behind == 0 or bool(self.every and behind > 0 and behind % self.every == 0)


class Camera(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and how it misbehaves."""

    films: list[Film] = []  # each is a video stream of its own
    port: int = 0  # 0: any that is free
    fps: float = 25.0  # real rate of sending and of the time stamps
    declared_fps: float | None = None  # in the SDP; the parameter sets of a film say what they do
    begin: int = 0  # unit of the films with which each client begins: 1 is after the key frame

    # access
    auth: Literal["none", "basic", "digest"] = "none"
    user: str = ""
    password: str = ""
    reply: int | None = None  # status instead of a right answer …
    reply_to: str = "DESCRIBE"  # … to this request
    refuse_first: int = 0  # so many connections are closed at once
    udp: bool = True  # False: 461 to those who ask for it
    timeout_s: int | None = None  # of the session: clients that send no request are disconnected

    # tracks
    audio_first: bool = False  # a PCMU track, before the video
    metadata: bool = False  # an ONVIF metadata track, before the video
    no_sprop: bool = False  # no parameter sets in the SDP
    no_inband: bool = False  # no parameter sets in the stream

    # clocks
    wall_offset_s: float | None = None  # of the camera's clock in RTCP sender reports; None: none
    report_s: float = 1.0  # from one report to the next
    first_report_s: float = 0.0  # after PLAY
    scene_us: int | None = None  # wall clock of unit 0, the same for all clients, who join now
    latency_s: float = 0.0  # from capture to sending
    stamps: list[StampFault] = []

    # damage, of packets of the video
    drop: float = 0.0  # probability of each packet
    flip: float = 0.0
    truncate: float = 0.0
    seed: int = 0
    spare: int = 0  # units at the beginning that are not damaged
    lost_units: list[int] = []  # none of their packets is sent

    # end
    stall_after: int | None = None  # units; then nothing is sent, and the connection stays open
    mute_after: int | None = None  # units; then no video is sent, but sound and metadata are
    close_after: int | None = None  # units


class Server:
    """A camera in a process of its own."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until close
        self.port = camera.port
        self.process = self._start()

    @property
    def url(self) -> str:
        """The address, with user and password if the camera wants them."""
        camera = self.camera
        login = f"{quote(camera.user, '')}:{quote(camera.password, '')}@" if camera.user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/main"

    def entries(self) -> list[dict[str, Any]]:
        """What happened so far: requests with their status, clients that came and left."""
        text = os.pread(self._log.fileno(), 2**24, 0).decode()
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def requests(self) -> list[str]:
        """The methods of all requests so far."""
        return [entry["request"] for entry in self.entries() if "request" in entry]

    def pause(self) -> None:
        """Stop the process: sockets stay open, nothing is sent."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self, camera: Camera | None = None) -> None:
        """Serve on the same port again, perhaps as another camera."""
        self.kill()
        self.camera = camera or self.camera
        self.process = self._start()

    def close(self) -> None:
        self.kill()
        self._log.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, __file__, "--stdin"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin as to:
            to.write(msgspec.msgpack.encode(msgspec.structs.replace(self.camera, port=self.port)))
        with process.stdout as ready:
            line = ready.readline()
        if not line:
            process.wait()
            errors = os.pread(self._log.fileno(), 2**24, 0).decode()
            raise RuntimeError(f"the RTSP server did not start: {errors}")
        self.port = int(line)
        return process


@contextlib.contextmanager
def serving(camera: Camera) -> Iterator[Server]:
    """Serve a camera on the loopback."""
    server = Server(camera)
    try:
        yield server
    finally:
        server.close()


# What follows runs in the server's process


def log(**fields: Any) -> None:
    """Write one entry to the log: one write, since threads share it."""
    os.write(2, (json.dumps(fields) + "\n").encode())


def rtp(kind: int, sequence: int, stamp: int, source: int, marker: bool, payload: bytes) -> bytes:
    """An RTP packet (RFC 3550, section 5.1)."""
    second = kind | marker << 7
    head = struct.pack("!BBHII", 0x80, second, sequence & 0xFFFF, stamp & 0xFFFFFFFF, source)
    return head + payload


def sender_report(source: int, wall_s: float, stamp: int) -> bytes:
    """An RTCP sender report (RFC 3550, section 6.4.1), whose counts are 0."""
    seconds = math.floor(wall_s)
    ntp = (seconds + NTP_EPOCH) & 0xFFFFFFFF, round((wall_s - seconds) * 2**32) & 0xFFFFFFFF
    return struct.pack("!BBHIIIIII", 0x80, 200, 6, source, *ntp, stamp & 0xFFFFFFFF, 0, 0)


class Track:
    """One stream of RTP packets to one client."""

    def __init__(self, kind: int, source: int, film: Film | None = None) -> None:
        self.kind = kind  # payload type
        self.source = source  # SSRC
        self.film = film
        self.sequence = 100
        self.channel: int | None = None  # interleaved
        self.udp: tuple[socket.socket, socket.socket, tuple[str, int]] | None = None

    def close(self) -> None:
        for each in self.udp[:2] if self.udp else ():
            each.close()


class Client:
    """The connection of one client: a thread reads requests, another sends the streams."""

    def __init__(self, number: int, camera: Camera, connection: socket.socket) -> None:
        self.number = number
        self.camera = camera
        self.connection = connection
        self.tracks: dict[str, Track] = {}
        if camera.audio_first:
            self.tracks["audio"] = Track(0, 0x1000)
        if camera.metadata:
            self.tracks["metadata"] = Track(107, 0x2000)
        for index, film in enumerate(camera.films):
            self.tracks[f"video{index}"] = Track(96 + index, 0x3000 + index, film)
        self.asked = time.monotonic()  # when the last request came
        self.playing = threading.Event()
        self.over = threading.Event()
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Answer requests until the client or the camera ends the connection."""
        sender = threading.Thread(target=self._play, daemon=True)
        sender.start()
        try:
            with self.connection.makefile("rb") as file:
                while (request := self._request(file)) is not None:
                    self.asked = time.monotonic()
                    if not self._answer(*request):
                        break
        except OSError:
            pass
        self.over.set()
        self.playing.set()
        sender.join()
        self.connection.close()
        for track in self.tracks.values():
            track.close()
        log(client=self.number, left=True)

    def send(self, track: Track, packet: bytes, *, control: bool = False) -> None:
        """Send an RTP packet, or with `control` one of RTCP."""
        if track.udp is not None:
            host, port = track.udp[2]
            track.udp[control].sendto(packet, (host, port + control))
        elif track.channel is not None:
            head = struct.pack("!cBH", b"$", track.channel + control, len(packet))
            with self._writing:
                self.connection.sendall(head + packet)

    def _play(self) -> None:
        self.playing.wait()
        try:
            if not self.over.is_set():
                Player(self).play()
        except OSError as error:
            log(client=self.number, error=str(error))
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _request(self, file: IO[bytes]) -> tuple[str, str, dict[str, str]] | None:
        """The next request: method, address and header; packets of RTCP are passed over."""
        while (line := file.readline(2)) and line[:1] == b"$":
            size = struct.unpack("!H", (line[1:] + file.read(4 - len(line)))[-2:])[0]
            file.read(size)
        if not line:
            return None
        method, uri, _ = (line + file.readline()).decode(errors="replace").split()
        header = {}
        while (text := file.readline().decode(errors="replace").strip()) != "":
            name, _, value = text.partition(":")
            header[name.lower()] = value.strip()
        file.read(int(header.get("content-length", 0)))
        return method, uri, header

    def _answer(self, method: str, uri: str, header: dict[str, str]) -> bool:
        """Answer a request; return whether more may follow."""
        camera = self.camera
        status, fields, body = 200, "", ""
        session = "" if camera.timeout_s is None else f";timeout={camera.timeout_s}"
        if method == camera.reply_to and camera.reply is not None:
            status = camera.reply
            fields = self._challenge() if status == 401 else ""
        elif method != "OPTIONS" and not self._authorized(method, header):
            status, fields = 401, self._challenge()
        elif method == "OPTIONS":
            fields = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n"
        elif method == "DESCRIBE":
            fields, body = "Content-Type: application/sdp\r\n", self._sdp()
        elif method == "SETUP":
            status, fields = self._setup(uri.rstrip("/").rpartition("/")[2], header["transport"])
            fields += f"Session: 4711{session}\r\n"
        else:
            fields = f"Session: 4711{session}\r\n"
        size = f"Content-Length: {len(body)}\r\n" if body else ""
        text = f"RTSP/1.0 {status} {STATUS[status]}\r\nCSeq: {header['cseq']}\r\n"
        log(client=self.number, request=method, status=status)
        with self._writing:
            self.connection.sendall(f"{text}{fields}{size}\r\n{body}".encode())
        if method == "PLAY" and status == 200:
            self.playing.set()
        return method != "TEARDOWN"

    def _challenge(self) -> str:
        if self.camera.auth == "digest":
            return f'WWW-Authenticate: Digest realm="{REALM}", nonce="{NONCE}"\r\n'
        return f'WWW-Authenticate: Basic realm="{REALM}"\r\n'

    def _authorized(self, method: str, header: dict[str, str]) -> bool:
        camera = self.camera
        kind, _, value = header.get("authorization", "").partition(" ")
        if camera.auth == "none":
            return True
        if kind.lower() != camera.auth:
            return False
        if camera.auth == "basic":
            return base64.b64decode(value).decode() == f"{camera.user}:{camera.password}"
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', value))
        secret = md5(f"{camera.user}:{REALM}:{camera.password}")
        request = md5(f"{method}:{given.get('uri', '')}")
        wanted = md5(f"{secret}:{NONCE}:{request}")
        return given.get("response") == wanted

    def _sdp(self) -> str:
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "t=0 0", "a=control:*"]
        for name, track in self.tracks.items():
            lines += [*self._media(track), f"a=control:{name}"]
        return "".join(f"{line}\r\n" for line in lines)

    def _media(self, track: Track) -> Iterator[str]:
        if track.film is None:
            audio = track.kind == 0
            yield f"m={'audio' if audio else 'application'} 0 RTP/AVP {track.kind}"
            name = f"PCMU/{AUDIO_HERTZ}" if audio else f"vnd.onvif.metadata/{HERTZ}"
            yield f"a=rtpmap:{track.kind} {name}"
            return
        yield f"m=video 0 RTP/AVP {track.kind}"
        yield f"a=rtpmap:{track.kind} {track.film.codec}/{HERTZ}"
        sets = [] if self.camera.no_sprop else track.film.parameter_sets
        coded = [base64.b64encode(each).decode() for each in sets]
        if track.film.codec == "H264":
            sprop = f";sprop-parameter-sets={','.join(coded)}" if coded else ""
            yield f"a=fmtp:{track.kind} packetization-mode=1{sprop}"
        elif coded:
            names = ("sprop-vps", "sprop-sps", "sprop-pps")
            pairs = (f"{name}={value}" for name, value in zip(names, coded, strict=True))
            yield f"a=fmtp:{track.kind} {';'.join(pairs)}"
        if self.camera.declared_fps is not None:
            yield f"a=framerate:{self.camera.declared_fps:g}"

    def _setup(self, name: str, transport: str) -> tuple[int, str]:
        track = self.tracks[name]
        if found := re.search(r"interleaved=(\d+)", transport):
            track.channel = int(found[1])
            channels = f"{track.channel}-{track.channel + 1}"
            return 200, f"Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n"
        found = re.search(r"client_port=(\d+)", transport)
        if not (found and self.camera.udp):
            return 461, ""
        pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for each in pair:
            each.bind(("127.0.0.1", 0))
        track.udp = pair[0], pair[1], (self.connection.getpeername()[0], int(found[1]))
        ports = "-".join(str(each.getsockname()[1]) for each in pair)
        client = f"{found[1]}-{int(found[1]) + 1}"
        return 200, f"Transport: RTP/AVP;unicast;client_port={client};server_port={ports}\r\n"


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


class Player:
    """Sends the tracks of one client at the camera's rate."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.camera = camera = client.camera
        self.step = HERTZ / camera.fps
        now, wall = time.monotonic(), time.time()
        self.to_wall = wall - now
        self.first = 0  # units of the scene before this client came
        self.zero = now  # when unit 0 was captured, by time.monotonic()
        if camera.scene_us is not None:
            self.zero = now - (wall - camera.scene_us / 1e6)
            self.first = max(0, math.ceil((now - self.zero - camera.latency_s) * camera.fps))
        self.began = now
        self.reported = -math.inf
        self.shift = 0.0  # ticks that permanent jumps add
        self.stamp = 0  # the last one without single faults
        self.sent = 0  # the last one
        self.random = random.Random(camera.seed)

    def play(self) -> None:
        """Send unit after unit until the camera's or the client's end."""
        camera, over = self.camera, self.client.over
        for number in itertools.count():
            due = self.zero + (self.first + number) / camera.fps + camera.latency_s
            while (pause := due - time.monotonic()) > 0 and not over.is_set():
                over.wait(min(pause, 0.5))
                self._drop_the_silent()
            self._drop_the_silent()
            if over.is_set() or number == camera.close_after:
                return
            if camera.stall_after is not None and number >= camera.stall_after:
                continue
            self._send_unit(number)

    def _drop_the_silent(self) -> None:
        limit = self.camera.timeout_s
        if limit is not None and time.monotonic() - self.client.asked > limit:
            log(client=self.client.number, dropped="no request within the session's timeout")
            self.client.over.set()

    def _send_unit(self, number: int) -> None:
        """Send unit `number` of this client, and what the other tracks have for it."""
        camera = self.camera
        self._report(number)
        for track in self.client.tracks.values():
            if track.film is not None and not (
                number in camera.lost_units
                or (camera.mute_after is not None and number >= camera.mute_after)
            ):
                self._send_video(track, number)
            elif track.kind == 0:
                samples = round(AUDIO_HERTZ / camera.fps)
                stamp = (self.first + number) * samples
                self._send(track, stamp, False, b"\xff" * samples)
            elif track.film is None and number % max(1, round(camera.fps)) == 0:
                self._send(track, round((self.first + number) * self.step), True, XML)

    def _send_video(self, track: Track, number: int) -> None:
        film, camera = track.film, self.camera
        assert film is not None
        rounds, index = divmod(self.first + number + camera.begin, len(film.units))
        unit = film.units[index]
        nals = [n for n in unit.nals if not (camera.no_inband and film.is_parameter_set(n))]
        stamp = self._stamp(number, rounds * len(film.units) + unit.shown - camera.begin)
        packets = [part for nal in nals for part in fragments(film, nal)]
        for place, payload in enumerate(packets):
            damaged = payload if number < camera.spare else self._damaged(payload)
            if damaged is None:
                track.sequence += 1
            else:
                self._send(track, stamp, place == len(packets) - 1, damaged)

    def _damaged(self, payload: bytes) -> bytes | None:
        camera, chance = self.camera, self.random.random
        if chance() < camera.drop:
            return None
        if chance() < camera.flip:
            at = self.random.randrange(len(payload))
            payload = payload[:at] + bytes([payload[at] ^ 1 << at % 8]) + payload[at + 1 :]
        if chance() < camera.truncate:
            payload = payload[: self.random.randrange(1, len(payload) + 1)]
        return payload

    def _stamp(self, number: int, shown: int) -> int:
        """The time stamp of a unit whose place in the order of presentation is `shown`."""
        self._jump(number, shown)
        stamp = self.stamp = round(shown * self.step + self.shift) + BASE
        for fault in self.camera.stamps:
            if fault.kind == "single" and fault.covers(number):
                stamp += round(fault.seconds * HERTZ)
            elif fault.kind == "repeat" and fault.covers(number):
                stamp = self.sent
        self.sent = stamp
        return stamp

    def _jump(self, number: int, shown: int) -> None:
        for fault in self.camera.stamps:
            if fault.kind in {"jump", "restart"} and fault.begins(number) and number != self.jumped:
                if fault.kind == "jump":
                    self.shift += fault.seconds * HERTZ
                else:
                    self.shift = -shown * self.step - BASE
                self.jumped = number

    jumped = -1  # number of the unit before which time stamps jumped last: each film has it

    def _report(self, number: int) -> None:
        """Send a sender report when one is due."""
        camera, now = self.camera, time.monotonic()
        wait = now - self.began < camera.first_report_s or now - self.reported < camera.report_s
        if camera.wall_offset_s is None or wait:
            return
        self.reported = now
        place = self.first + number
        wall_s = self.zero + place / camera.fps + self.to_wall + camera.wall_offset_s
        self._jump(number, place)
        for track in self.client.tracks.values():
            stamp = round(place * self.step + self.shift) + BASE
            if track.kind == 0:
                stamp = place * round(AUDIO_HERTZ / camera.fps)
            elif track.film is None:
                stamp = round(place * self.step)
            self.client.send(track, sender_report(track.source, wall_s, stamp), control=True)

    def _send(self, track: Track, stamp: int, marker: bool, payload: bytes) -> None:
        packet = rtp(track.kind, track.sequence, stamp, track.source, marker, payload)
        track.sequence += 1
        self.client.send(track, packet)


def serve(camera: Camera) -> None:
    """Serve until the process is killed; the port is the first line of the output."""
    with socket.create_server(("127.0.0.1", camera.port), backlog=64) as listener:
        os.write(1, f"{listener.getsockname()[1]}\n".encode())
        for number in itertools.count():
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if number < camera.refuse_first:
                connection.close()
                log(client=number, refused=True)
                continue
            log(client=number, came=True)
            client = Client(number, camera, connection)
            threading.Thread(target=client.serve, daemon=True).start()


def main(arguments: list[str]) -> None:
    """Serve the camera on standard input, or the files and options of the arguments."""
    if arguments == ["--stdin"]:
        serve(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Camera))
        return
    options: dict[str, Any] = {"port": 8554}
    films = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in Camera.__struct_fields__:
            try:
                options[name] = json.loads(value)
            except ValueError:
                options[name] = value
        else:
            films.append(msgspec.to_builtins(read_film(Path(argument)), builtin_types=(bytes,)))
    serve(msgspec.convert(options | {"films": films}, Camera))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
