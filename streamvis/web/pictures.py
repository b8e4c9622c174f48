"""The newest picture of a source, as one that can be asked for by its address."""

from streamvis.errors import RunError
from streamvis.runtime.control import GetPicture, SourcePicture
from streamvis.web.operations import Answered, Call, source_of
from streamvis.web.run_folder import RunFolder

JPEG = "image/jpeg"


class Pictures:
    """The operation of `/api/picture/SOURCE`."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def picture(self, call: Call) -> Answered:
        """Return the next picture of a source that is online, as a JPEG of at most 960 px."""
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
