"""The catalog as Markdown, `docs/targets.md`, and what `targets show` says of one target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from repo_builder.targets.types import Assumptions, Engine, Fact, PowerMode, Target

_HEAD = """# Targets

Generated from the catalog by `repo-builder targets page > docs/targets.md`; a test compares them.
Change the files in `repo_builder/targets/catalog/`, not this page.

TOPS are 1e12 operations a second, a multiply-accumulate counted as two. "Guide" is what the guide
that this project started from says, where it says something else. "unknown" means that no document
of the maker with that figure was found.
"""

Row = tuple[str, str, Fact]


def page(targets: Iterable[Target]) -> str:
    """The whole page: an overview, then every target."""
    listed = list(targets)
    rows = [
        f"| [`{t.name}`](#{t.name}) | {t.title} | {', '.join(t.architectures)} | {t.runtime} | "
        f"{', '.join(t.precisions)} | {t.backend or 'none: firmware bundle'} |"
        for t in listed
    ]
    head = "| target | device | architectures | runtime | precisions | Triton backend |"
    overview = "\n".join([head, "|---" * 6 + "|", *rows])
    return "\n".join([_HEAD, overview, "", *(section(target) for target in listed)])


def section(target: Target) -> str:
    """One target: what decides, every figure with its source, the sources."""
    lines = [
        f"## {target.name}",
        "",
        summary(target),
        "",
        "| what | figure | source | guide | note |",
        "|---|---|---|---|---|",
        *(_line(label, figure, fact) for label, figure, fact in facts(target)),
        "",
        *(f"- {note}" for note in target.notes),
        *([""] if target.notes else []),
        *_sources(target),
        "",
    ]
    return "\n".join(lines)


def summary(target: Target) -> str:
    """What decides, in two sentences."""
    return (
        f"{target.title}. Runtime {target.runtime} on {', '.join(target.architectures)}, "
        f"precisions {', '.join(target.precisions)}, int8 as {target.int8}, compiled "
        f"{_PLACES[target.compile_at]}."
    )


_PLACES = {
    "builder": "where the build runs",
    "image": "in an image made on such a machine",
    "device": "on the device at first start",
}


def _line(label: str, figure: str, fact: Fact) -> str:
    cells = (label, figure, fact.source, fact.guide, fact.note)
    return "| " + " | ".join(cell.replace("|", "\\|").strip() for cell in cells) + " |"


def _sources(target: Target) -> Iterator[str]:
    for key, source in sorted(target.sources.items()):
        title = f"[{source.title}]({source.url})" if source.url else source.title
        yield f"- {key}: {title}"


def facts(target: Target) -> Iterator[Row]:
    """What, figure, and the fact that carries source, guide and note."""
    cpu, memory = target.cpu, target.memory
    count = f"{cpu.cores} cores" if cpu.cores else "as many as the building machine"
    yield f"CPU: {cpu.title}", _join(count, _unit(cpu.clock_mhz, "MHz")), cpu
    size = "unknown size" if memory.size_mb is None else _size(memory.size_mb)
    yield f"memory: {memory.title}", _join(size, _unit(memory.bandwidth_gb_s, "GB/s")), memory
    for engine in target.engines:
        yield from _engine_rows(engine)
    for mode in target.power_modes:
        yield f"power mode {mode.name}", _mode(mode), mode
    for release in target.releases:
        yield release.name, _pairs(release.components), release
    for image in target.images:
        yield f"image to {image.use}", f"`{image.reference}`", image
    for suit in target.suits:
        yield f"suits: {', '.join(suit.nets)}", suit.why, suit
    for name in ("openvino", "tensorrt", "qnn", "vela", "micro"):
        settings = getattr(target, name)
        if settings is not None:
            yield f"{name} settings", _own_fields(settings), settings
    if target.assumptions:
        yield "assumed by advise", _own_fields(target.assumptions), target.assumptions


def _engine_rows(engine: Engine) -> Iterator[Row]:
    count = {0: "one per CPU core", 1: ""}.get(engine.count, f"{engine.count} of them")
    slices = f"{engine.slices} slices" if engine.slices else ""
    sram = f"{engine.sram_kb} KB inside" if engine.sram_kb else ""
    figure = _join(count, slices, _unit(engine.clock_mhz, "MHz"), sram) or "-"
    yield f"{engine.name}: {engine.title}", figure, engine
    for row in engine.compute:
        dense = f"{row.dense_tops:g} TOPS dense" if row.dense_tops else "unknown"
        sparse = f"{row.sparse_tops:g} sparse" if row.sparse_tops else ""
        yield f"{engine.name} {row.precision}", _join(dense, sparse), row
    if engine.ops:
        yield f"{engine.name} operators", ", ".join(engine.ops), Fact(source=engine.source)


def _mode(mode: PowerMode) -> str:
    clocks = [f"{name} {clock} MHz" for name, clock in mode.clocks_mhz.items()]
    slices = [f"{name} {count} slices" for name, count in mode.slices.items()]
    return _join(
        _unit(mode.watts, "W") or "power unknown",
        f"id {mode.id}" if mode.id is not None else "",
        f"{mode.cpu_cores} CPU cores" if mode.cpu_cores else "",
        f"CPU {mode.cpu_mhz} MHz" if mode.cpu_mhz else "",
        *clocks,
        *slices,
        _unit(mode.memory_gb_s, "GB/s"),
    )


def _own_fields(fact: Fact) -> str:
    """The fields of a fact that are neither empty nor about where it comes from."""
    own = fact.model_dump(exclude=set(Fact.model_fields), exclude_none=True)
    if isinstance(fact, Assumptions):
        own = {key: value for key, value in own.items() if value}
    return _pairs({key: str(value) for key, value in own.items() if value != ""})


def _pairs(values: Mapping[str, str]) -> str:
    return _join(*(f"{key.replace('_', ' ')} {value}" for key, value in values.items()))


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:g} {unit}"


def _size(megabytes: float) -> str:
    if not megabytes:
        return "as much as the building machine"
    if megabytes < 1:
        return f"{megabytes * 1024:g} KB"
    return f"{megabytes / 1024:g} GB" if megabytes >= 1024 else f"{megabytes:g} MB"
