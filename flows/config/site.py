"""Settings of the site: where the store is and which resources a run may use."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from storage.remote.mirror import sync
from tasks.backends import Resources


class Site(BaseModel):
    """Where it is made. Recorded with the run, never part of what the run is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path = Field(Path("heirloom-store"), description="folder that holds everything")
    store_url: str = Field(
        "",
        pattern=r"^(s3://[^/]+.*)?$",
        description="object storage that is the store, as s3://bucket/prefix; `store` is then the folder where it is kept at hand",
    )
    resources: Resources = Resources()

    def synced(self) -> Self:
        """The same, with the folder brought up to date where the store is on object storage.

        Raises:
            HeirloomError: the bucket cannot be read, or the folder is no mirror of it.
        """
        if self.store_url:
            sync(self.store, self.store_url)
        return self
