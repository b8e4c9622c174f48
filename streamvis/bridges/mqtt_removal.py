"""Removes sources from a broker."""

from collections.abc import Sequence

from streamvis.bridges.mqtt import MqttMapping
from streamvis.bridges.mqtt_broker import MqttSink
from streamvis.bridges.place import BridgeProgress, ProgressFile


def remove_sources(
    file: ProgressFile, mapping: MqttMapping, sink: MqttSink, sources: Sequence[str]
) -> None:
    """Remove what the broker retains of the sources, devices included, and forget them.

    One that has events later is announced again. InUseError while the bridge runs, UnreachableError
    without the broker.
    """
    with file.held():
        progress = file.load() or BridgeProgress()
        mapping.restore(progress.state)
        try:
            sink.deliver([message for source in sources for message in mapping.forget(source)])
        finally:
            sink.close()
        file.store(BridgeProgress(progress.place, mapping.state()))
