"""A worker process: builds its stages, then answers the hub's batches until it is asked to stop.

python -m streamvis.runtime.worker <endpoint> <identity> <pid of the hub>
"""

import gc
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from streamvis.errors import DeviceError, StreamvisError
from streamvis.installation import imports_of_packages
from streamvis.logs import warn
from streamvis.messages import encode_part
from streamvis.runtime import protocol
from streamvis.runtime.host import Build, Host, build_stages
from streamvis.runtime.processes import load, serve
from streamvis.stages import part_decoder
from streamvis.stages.protocol import Site
from streamvis.transport.slots import SlotReader
from streamvis.transport.sockets import Client

if TYPE_CHECKING:
    from streamvis.transport.node_pixels import NodePixels

REPORT_S = 1.0  # between two looks at the numbers of its stages; and at whom they refuse, while
# there is no work


def work(client: Client, pixels: "SlotReader | NodePixels | None" = None) -> None:
    """Serve the hub: hello, build the stages, ready, answer batches, close.

    `pixels` reads those of frames, on the hub's machine from the memory that all share.
    """
    pixels = pixels or SlotReader()
    client.send([protocol.encode(protocol.Hello(pixels.node))])
    frames = client.receive()
    assert frames is not None  # without a timeout
    setup = protocol.decode_to_process(frames[0])
    if not isinstance(setup, protocol.Setup):  # Stop: the run ended before this worker began
        return
    with closing(pixels):
        try:
            host = _built(setup, pixels)
        except StreamvisError as error:
            client.send([protocol.encode(protocol.Refused(type(error).__name__, str(error)))])
            return
        except Exception as error:
            message = f"stages {', '.join(setup.stages)} cannot be built: {error!r}"
            client.send([protocol.encode(protocol.Refused("RunError", message))])
            raise
        client.send([protocol.encode(protocol.Ready())])
        with closing(host):
            try:
                _answer(client, host, pixels, _readers(setup))
            except StreamvisError as error:  # neither another frame nor a restart would help
                client.send([protocol.encode(protocol.Refused(type(error).__name__, str(error)))])


def _readers(setup: protocol.Setup) -> set[str]:
    """Return the stages that read pixels."""
    return {name for name in setup.stages if setup.pipeline.stage(name).run.reads_pixels}


def _answer(
    client: Client, host: Host, pixels: "SlotReader | NodePixels", readers: set[str]
) -> None:
    resumed, received = True, pixels.received
    wait_s = REPORT_S if host.reports else None
    gauges_due_s = 0.0
    while True:
        frames = client.receive(wait_s)
        if refused := host.take_refused():
            client.send([protocol.encode(protocol.ClientsRefused(refused))])
        if wait_s is not None and time.monotonic() >= gauges_due_s:
            gauges_due_s = time.monotonic() + wait_s
            if gauges := host.take_gauges():
                client.send([protocol.encode(protocol.Gauges(gauges))])
        if frames is None:
            continue
        order, blobs = protocol.decode_to_process(frames[0]), frames[1:]
        match order:
            case protocol.Resume():
                resumed = True
                continue
            case protocol.Work():
                if not resumed:
                    continue
            case _:
                return
        read = (i for i in order.items if isinstance(i, protocol.FrameItem))
        if missing := pixels.hold(i.frame for i in read if readers - set(i.skip)):
            resumed = False
            client.send([protocol.encode(protocol.PixelsMissing(order.id, missing))])
            continue
        if pixels.received != received:
            new = [now - then for now, then in zip(pixels.received, received, strict=True)]
            client.send([protocol.encode(protocol.PixelsReceived(*new))])
            received = pixels.received
        answer, parts = host(order.id, order.items, map(part_decoder(), blobs))
        client.send([protocol.encode(answer), *map(encode_part, parts)])


def _built(setup: protocol.Setup, pixels: "SlotReader | NodePixels") -> Host:
    build = load(setup.build)
    site = Site(
        device=setup.device,
        pixels=pixels,
        out=Path(setup.out) if setup.out is not None else None,
        epoch=setup.epoch,
        pipeline=setup.pipeline.hash,
        logged=setup.logged,
    )
    try:
        return _all(build, setup, site)
    except DeviceError as error:
        if setup.fallback is None:
            raise
        warn(
            "device is absent, falling back",
            stages=setup.stages,
            device=setup.fallback,
            reason=str(error),
        )
    return _all(build, setup, msgspec.structs.replace(site, device=setup.fallback))


def _all(build: Build, setup: protocol.Setup, site: Site) -> Host:
    with imports_of_packages(), _kept():
        stages = build_stages(setup.pipeline, setup.stages, site, build)
    return Host(setup.pipeline, stages, site.device, live=setup.live)


@contextmanager
def _kept() -> Iterator[None]:
    """Collect no garbage meanwhile, nor look for it later among what is made here.

    Modules and networks stay: torch alone makes 250 000 objects. Looking through them takes a
    fifth of the time to import it, and a tenth of a second of a frame now and then.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    serve(work)
