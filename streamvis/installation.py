"""Reports required packages that cannot be imported, with the command that repairs them."""

from collections.abc import Iterator
from contextlib import contextmanager

from streamvis.errors import InstallationError

OPENCV = "opencv-python-headless"
RIVALS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")


@contextmanager
def imports_of_packages(*ours: str) -> Iterator[None]:
    """Turn an ImportError of a package into an InstallationError; not one of our own modules."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "streamvis", *ours):
            raise
        repair = opencv_repair() if package == "cv2" else "pip install . (in streamvis's folder)"
        raise InstallationError(
            f"{package} cannot be imported: {error}. Repair it with: {repair}; "
            "check the rest of the installation with: streamvis doctor"
        ) from error


def opencv_rivals() -> list[str]:
    """Return the installed distributions that overwrite files of the headless OpenCV."""
    return [name for name in RIVALS if _installed(name)]


def opencv_repair() -> str:
    """Return the command that installs the headless OpenCV again, without its rivals."""
    reinstall = f"pip install --force-reinstall --no-deps {OPENCV}"
    rivals = opencv_rivals()
    return f"pip uninstall --yes {' '.join(rivals)} && {reinstall}" if rivals else reinstall


def _installed(name: str) -> bool:
    from importlib import metadata  # slow to import, and rarely needed

    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
