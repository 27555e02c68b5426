"""A file that describes a serverless log to generate, as a `TraceSpec` describes requests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from servesim import serverless
from servesim.serverless.cold_start_model import TotalLaw
from servesim.serverless.fleet import R2_FUNCTIONS
from servesim.serverless.log import ServerlessLog


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ColdStarts(_Block):
    """Cold starts of whole regions."""

    name: Literal["cold_starts"] = Field(description="cold_starts")
    duration_s: float = Field(default=86400.0, gt=0, description="Time after which none starts.")
    regions: list[Literal["R1", "R2", "R3", "R4", "R5"]] = Field(
        default=["R1", "R2", "R3", "R4", "R5"], min_length=1, description="Regions of the Huawei trace."
    )
    law: TotalLaw = Field(
        default="published",
        description="published: totals and gaps of all regions together follow the published fits; measured: "
        "each region follows its measured curves.",
    )

    def generate(self, seed: int) -> ServerlessLog:
        """Return the log."""
        return serverless.generate_cold_starts(
            seed=seed, duration_s=self.duration_s, regions=self.regions, law=self.law
        )


class Functions(_Block):
    """Functions with invocations, and the cold starts that these cause."""

    name: Literal["functions"] = Field(description="functions")
    count: int = Field(default=R2_FUNCTIONS, ge=1, description="How many functions.")
    duration_s: float = Field(
        default=86400.0, ge=3600, description="Time after which no pod starts or is in use."
    )
    timer_ratio: float | None = Field(
        default=None, ge=0, le=1, description="Share of the functions that are timers; null: 0.56, as in R2."
    )
    keep_alive_s: float = Field(default=60.0, ge=0, description="How long an idle pod is kept.")
    requests_per_pod_most: int = Field(
        default=100, ge=1, description="More requests of a pod than this are left out, and counted."
    )

    def generate(self, seed: int) -> ServerlessLog:
        """Return the log."""
        return serverless.generate_functions(
            seed=seed,
            functions=self.count,
            duration_s=self.duration_s,
            timer_ratio=self.timer_ratio,
            keep_alive_s=self.keep_alive_s,
            requests_per_pod_most=self.requests_per_pod_most,
        )


class ServerlessBlock(_Block):
    """The block ``serverless:``."""

    generator: Annotated[ColdStarts | Functions, Field(discriminator="name")]


class LogSpec(_Block):
    """A file that describes a serverless log, with its seed."""

    name: str = Field(default="log", min_length=1, description="Name of the log in its datasheet.")
    seed: int = Field(default=0, ge=0, description="Seed of every random number.")
    serverless: ServerlessBlock = Field(description="What is generated.")


GENERATORS = ("cold_starts", "functions")
"""Names of the generators that a file can have."""
