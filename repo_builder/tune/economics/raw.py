"""The shape of the file that `roi` reads; every figure may be a number or {low, likely, high}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema

from repo_builder.base import validate
from repo_builder.base.document import Document
from repo_builder.base.errors import Problem
from repo_builder.tune.economics.model import Range

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Figure(_Shape):
    """A number, or what it may be; not negative."""

    low: float = Field(ge=0)
    likely: float = Field(ge=0)
    high: float = Field(ge=0)

    @model_validator(mode="before")
    @classmethod
    def _number(cls, given: Any) -> Any:
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            return {"low": given, "likely": given, "high": given}
        if isinstance(given, dict):
            return given
        raise ValueError(
            "must be a number or {low, likely, high}; write it without a unit or currency"
        )

    @model_validator(mode="after")
    def _ordered(self) -> Figure:
        if not self.low <= self.likely <= self.high:
            said = f"{self.low:g}, {self.likely:g}, {self.high:g}"
            raise ValueError(f"low, likely and high are {said}; write them in rising order")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A number is as good as the three."""
        return {
            "anyOf": [{"type": "number", "minimum": 0}, handler.resolve_ref_schema(handler(core))]
        }


def _up_to(most: float, unit: str) -> Callable[[Figure], Figure]:
    def check(figure: Figure) -> Figure:
        if figure.high > most:
            raise ValueError(f"{figure.high:g} {unit} is absurd; at most {most:g}")
        return figure

    return check


def _above_0(figure: Figure) -> Figure:
    if figure.low <= 0:
        raise ValueError("must be more than 0")
    return figure


Money = Annotated[Figure, AfterValidator(_up_to(1e12, "in money"))]
Price = Annotated[Figure, AfterValidator(_up_to(1e6, "a unit"))]
Share = Annotated[Figure, AfterValidator(_up_to(1, "as a share"))]
Devices = Annotated[Figure, AfterValidator(_above_0), AfterValidator(_up_to(1e9, "devices"))]
Years = Annotated[Figure, AfterValidator(_above_0), AfterValidator(_up_to(50, "years"))]
Watts = Annotated[Figure, AfterValidator(_up_to(1e5, "watts"))]
Gigabytes = Annotated[Figure, AfterValidator(_up_to(1e6, "GB a month"))]
_NONE = Figure(low=0, likely=0, high=0)


class Cloud(_Shape):
    """What the cloud costs today for the whole fleet, a year, and what each device sends there."""

    compute_per_year: Money
    gb_per_device_month: Gigabytes = _NONE
    price_per_gb: Price = _NONE


class Edge(_Shape):
    """What the devices cost a year. Power is a sum, or watts times a price; mean watts, all day."""

    price_per_gb: Price = _NONE
    power_per_year: Money = _NONE
    watts_per_device: Watts = _NONE
    price_per_kwh: Price = _NONE
    support_per_year: Money


class Once(_Shape):
    """What is paid once."""

    hardware_per_device: Price
    installation_per_device: Price = _NONE
    development: Money = _NONE


class Economics(_Shape):
    """Costs of a fleet at the edge beside those of the cloud.

    `years` are those that the devices last, `discount` is a year's interest (0.08), and
    `fallback_share` the share (0..1) of requests that the cloud answers all the same.
    """

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
    devices: Devices
    years: Years
    discount: Share = _NONE
    fallback_share: Share = _NONE
    cloud: Cloud
    edge: Edge
    once: Once


def figures(document: Document) -> tuple[dict[str, Range], str, list[Problem]]:
    """All figures by name (`cloud.price_per_gb`), the currency, and all that is wrong."""
    checked, problems = validate.check(Economics, document)
    if checked is None:
        return {}, "", problems
    given = Economics.model_validate(checked)
    found: dict[str, Range] = {}
    for name, value in given:
        if isinstance(value, Figure):
            found[name] = Range(value.low, value.likely, value.high)
        elif isinstance(value, _Shape):
            for inner, figure in value:
                found[f"{name}.{inner}"] = Range(figure.low, figure.likely, figure.high)
    return found, given.currency, list(_missing(found, document))


def _missing(found: dict[str, Range], document: Document) -> list[Problem]:
    """What goes together and does not."""
    problems = []

    def wants(one: str, other: str, fix: str) -> None:
        if found[one].high and not found[other].high:
            at = tuple(one.split("."))
            problems.append(document.problem(at, f"needs {other.rpartition('.')[2]}", fix))

    wants("cloud.gb_per_device_month", "cloud.price_per_gb", "say what the cloud's link costs")
    wants("cloud.price_per_gb", "cloud.gb_per_device_month", "say what each device sends")
    wants("edge.watts_per_device", "edge.price_per_kwh", "say what power costs")
    wants("edge.price_per_kwh", "edge.watts_per_device", "say what each device draws")
    if found["edge.watts_per_device"].high and found["edge.power_per_year"].high:
        at = ("edge", "power_per_year")
        problems.append(
            document.problem(at, "power is given twice, as a sum and in watts", "keep one")
        )
    return problems


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    return {"$schema": DIALECT, **Economics.model_json_schema()}
