"""Packages that streamvis needs and that cannot be imported: which, why, and what repairs it."""

from collections.abc import Iterator
from contextlib import contextmanager

from streamvis.errors import InstallationError

OPENCV = "opencv-python-headless"
RIVALS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")


@contextmanager
def imports_of_packages(*ours: str) -> Iterator[None]:
    """An ImportError of a package becomes an InstallationError; not that of our own modules."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "streamvis", *ours):
            raise
        repair = opencv_repair() if package == "cv2" else "pip install . (in streamvis's folder)"
        raise InstallationError(
            f"{package} cannot be imported: {error}. Repair it with: {repair}; "
            "`streamvis doctor` examines the rest of the installation"
        ) from error


def opencv_rivals() -> list[str]:
    """The installed distributions that write over the files of the headless OpenCV."""
    return [name for name in RIVALS if _installed(name)]


def opencv_repair() -> str:
    """The commands that leave the headless OpenCV, and it whole."""
    reinstall = f"pip install --force-reinstall --no-deps {OPENCV}"
    rivals = opencv_rivals()
    return f"pip uninstall --yes {' '.join(rivals)} && {reinstall}" if rivals else reinstall


def _installed(name: str) -> bool:
    from importlib import metadata  # takes its time, and is seldom needed

    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
