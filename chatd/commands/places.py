"""Whether the store and the folder that settings name can be there at all."""

from __future__ import annotations

from pathlib import Path

from chatd.settings import Settings
from chatd.storage import open_storage, sqlite_path


def check_places(settings: Settings) -> None:
    """Raises ValueError with a sentence where they can't; makes and opens nothing."""
    url, data_dir = settings.storage.url, settings.storage.data_dir
    open_storage(url, data_dir)
    path = sqlite_path(url, data_dir)
    try:
        for folder in (data_dir, *([] if path is None else [path.parent])):
            _check_folder(folder)
        if path is not None and path.is_dir():
            raise ValueError(f"{path} is a folder: name a file for the store, like sqlite:chatd.db")
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None


def _check_folder(path: Path) -> None:
    nearest = next((one for one in (path, *path.parents) if one.exists()), path)
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is no folder: name one for what chatd writes")
