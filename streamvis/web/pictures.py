"""A picture of a source by its address: the newest one, or that of a media time."""

from typing import Annotated

import msgspec
from msgspec import Meta

from streamvis.errors import RunError
from streamvis.runtime.control import GetPicture, SourcePicture
from streamvis.web.event_pages import Time
from streamvis.web.operations import Answered, Call, source_of
from streamvis.web.recorded import RecordedPictures
from streamvis.web.run_folder import RunFolder

JPEG = "image/jpeg"


class PictureQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which picture is wanted."""

    media_us: Time | None = None  # µs; the recorded picture of this media time, else the newest
    # before it; absent: the next picture of a source that is online
    stream_epoch: Annotated[int, Meta(ge=0, lt=2**32)] | None = None  # of the recorded picture;
    # absent: the newest


class Pictures:
    """The operation of `/api/picture/SOURCE`."""

    def __init__(self, folder: RunFolder, recorded: RecordedPictures) -> None:
        self._folder = folder
        self._recorded = recorded

    def picture(self, call: Call) -> Answered:
        """Return the next picture of a source, or a recorded one, as a JPEG of at most 960 px."""
        query = call.query
        if query.media_us is not None:
            return self._recorded.picture(source_of(call), query.media_us, query.stream_epoch)
        reply = self._folder.ask(GetPicture(source_of(call)))
        if not isinstance(reply, SourcePicture):
            raise RunError("the run sent another answer than a picture")
        return Answered(value=reply.jpeg, headers=described(reply))


def described(picture: SourcePicture) -> dict[str, str]:
    """Return the headers that say which picture it is, and of which size the source's was."""
    return {
        "content-type": JPEG,
        "x-streamvis-stream-epoch": str(picture.stream_epoch),
        "x-streamvis-media-us": str(picture.media_us),
        "x-streamvis-capture-us": str(picture.capture_us),
        "x-streamvis-size": f"{picture.width}x{picture.height}",
    }
