"""Facts that hold a message, by the names of what happened."""

from streamvis.runtime.protocol import Hello, Opened, Ready, Received, Refused, SourceEnded


def started(process, at):
    """A process is up: a decode process has started, or a worker has built its stages."""
    return Received(process, Hello() if process.startswith("decode-") else Ready(), at)


def opened(source, info, at):
    return Received(f"decode-{source}", Opened(info), at)


def admitted(source, decoded, at):
    return Received(f"decode-{source}", decoded, at)


def ended(source, ending, at, **details):
    return Received(f"decode-{source}", SourceEnded(ending, **details), at)


def answered(process, answer, blobs, at):
    return Received(process, answer, at, blobs)


def refused(process, error, message, at):
    return Received(process, Refused(error, message), at)
