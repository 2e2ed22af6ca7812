"""The site: where the store is, and which resources a run may use."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator

from heirloom.errors import HeirloomError
from heirloom.settings import Settings, has_credentials
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

    @field_validator("store_url")
    @classmethod
    def _check_store_url(cls, url: str) -> str:
        if has_credentials(url):
            raise HeirloomError(
                "`store_url` contains a password or a query, and the site is stored with each run. Put credentials "
                "into the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."
            )
        return url

    def synced(self) -> Self:
        """Bring the local mirror up to date if the store is in object storage, and return the site.

        Raises:
            HeirloomError: the bucket cannot be read, or the folder is not a mirror of it.
        """
        if self.store_url:
            sync(self.store, self.store_url)
        return self
