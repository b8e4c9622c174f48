"""A worker process: builds its stages, then answers the hub's batches until it is asked to stop.

python -m streamvis.runtime.worker <endpoint> <identity> <pid of the hub>
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from streamvis.config import StageSpec
from streamvis.errors import DeviceError, StreamvisError
from streamvis.installation import imports_of_packages
from streamvis.logs import warn
from streamvis.messages import Site, Stage, decode_part, encode_part
from streamvis.runtime import protocol
from streamvis.runtime.host import Host
from streamvis.runtime.processes import load, serve
from streamvis.transport.slots import SlotReader
from streamvis.transport.sockets import Client

Build = Callable[[StageSpec, Site], Stage]


def work(client: Client) -> None:
    """Serve the hub: hello, build the stages, ready, answer batches, close."""
    client.send([protocol.encode(protocol.Hello())])
    setup, _ = _receive(client)
    if not isinstance(setup, protocol.Setup):  # Stop: the run ended before this worker began
        return
    with closing(SlotReader()) as pixels:
        try:
            host = Host(setup.pipeline, _built(setup, pixels))
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
                _answer(client, host)
            except StreamvisError as error:  # neither another frame nor a restart would help
                client.send([protocol.encode(protocol.Refused(type(error).__name__, str(error)))])


def _answer(client: Client, host: Host) -> None:
    while True:
        order, blobs = _receive(client)
        if not isinstance(order, protocol.Work):
            return
        answer, parts = host(order.id, order.items, map(decode_part, blobs))
        client.send([protocol.encode(answer), *map(encode_part, parts)])


def _receive(client: Client) -> tuple[protocol.ToProcess, list[bytes]]:
    frames = client.receive()
    assert frames is not None  # without a timeout
    return protocol.decode_to_process(frames[0]), frames[1:]


def _built(setup: protocol.Setup, pixels: SlotReader) -> dict[str, Stage]:
    build = load(setup.build)
    specs = [setup.pipeline.stage(name) for name in setup.stages]
    site = Site(
        device=setup.device,
        pixels=pixels,
        out=Path(setup.out) if setup.out is not None else None,
        epoch=setup.epoch,
        pipeline=setup.pipeline.hash,
        regions=setup.pipeline.regions,
        logged=setup.logged,
    )
    try:
        return _all(build, specs, site)
    except DeviceError as error:
        if setup.fallback is None:
            raise
        warn(
            "device is absent, falling back",
            stages=setup.stages,
            device=setup.fallback,
            reason=str(error),
        )
    return _all(build, specs, msgspec.structs.replace(site, device=setup.fallback))


def _all(build: Build, specs: Sequence[StageSpec], site: Site) -> dict[str, Stage]:
    """Build all stages; close those built before a failure."""
    stages: dict[str, Stage] = {}
    with imports_of_packages(), ExitStack() as stack:
        for spec in specs:
            stages[spec.name] = stage = build(spec, site)
            stack.callback(stage.close)
        stack.pop_all()
    return stages


if __name__ == "__main__":
    serve(work)
