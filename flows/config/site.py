"""The site: where the store is, and which resources a run may use."""

from pathlib import Path
from typing import Self

from pydantic import Field

from heirloom.settings import Settings
from storage.remote.mirror import sync
from tasks.backends import Resources


class Site(Settings):
    """Settings of the machine. They are recorded with each run, and no result depends on them."""

    store: Path = Field(Path("heirloom-store"), description="Folder of the store.")
    store_url: str = Field(
        "",
        pattern=r"^(s3://[^/]+.*)?$",
        description="Object storage that holds the store, as `s3://bucket/prefix`; `store` is then its local mirror. "
        "Empty: the store is the local folder alone.",
    )
    resources: Resources = Resources()

    def synced(self) -> Self:
        """Bring the local mirror up to date if the store is in object storage, and return the site.

        Raises:
            HeirloomError: the bucket cannot be read, or the folder is not a mirror of it.
        """
        if self.store_url:
            sync(self.store, self.store_url)
        return self
