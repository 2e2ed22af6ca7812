"""Settings of verification: the limits of the sandbox, and what becomes of records without a check."""

from pydantic import Field

from heirloom.settings import Settings


class SandboxSettings(Settings):
    """`[verify.sandbox]`: limits of one execution. A solution and its tests are executed apart."""

    wall_seconds: float = Field(10.0, gt=0, description="time limit of one execution")
    cpu_seconds: int = Field(10, ge=1, description="processor time limit of each process")
    memory_mb: int = Field(512, ge=64, description="memory limit of each process")
    processes: int = Field(
        1, ge=1, description="most processes and threads of one execution; more than 1 is refused for the superuser"
    )
    files_mb: int = Field(64, ge=1, description="most megabytes that one execution can write")
    output_kb: int = Field(256, ge=1, description="most kilobytes that one execution can print")


class VerifySettings(Settings):
    """`[verify]`: how candidates are checked against the checks of the human records that they answer."""

    workers: int = Field(2, ge=1, description="answers that are judged at the same time")
    sandbox: SandboxSettings = SandboxSettings()
