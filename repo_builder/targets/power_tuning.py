"""What sets a power mode on a device: a script, or actions to apply; and what to expect of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.errors import UsageError, did_you_mean
from repo_builder.targets import power_apply
from repo_builder.targets.advise.roofline import scale
from repo_builder.targets.types import Engine, PowerMode, Target

_UNIT = "/etc/systemd/system/repo-builder-clocks.service"


@dataclass(frozen=True)
class Processor:
    """Settings of Linux for any processor; None leaves one as it is.

    `governor` and `preference` (EPP) are cpufreq's words, `most_mhz` caps all CPUs, `watts` is the
    long-term limit of each package in powercap.
    """

    governor: str | None = None
    preference: str | None = None
    most_mhz: int | None = None
    watts: float | None = None

    def writes(self) -> Iterator[tuple[str, str, str]]:
        """(what, glob of files, value), in an order that the kernel takes."""
        cpufreq = "/sys/devices/system/cpu/cpufreq/policy*"
        if self.governor is not None:
            yield "governor", f"{cpufreq}/scaling_governor", self.governor
        if self.preference is not None:
            yield "preference", f"{cpufreq}/energy_performance_preference", self.preference
        if self.most_mhz is not None:
            yield "most MHz", f"{cpufreq}/scaling_max_freq", str(1000 * self.most_mhz)
        if self.watts is not None:
            limit = "/sys/class/powercap/intel-rapl:[0-9]/constraint_0_power_limit_uw"
            yield "package watts", limit, str(round(1e6 * self.watts))


NOTHING = Processor()


@dataclass(frozen=True)
class Tuning:
    """A shell script to run as root on the device, and lines that say what it brings."""

    script: str
    expect: tuple[str, ...]


def actions(
    target: Target,
    mode_name: str | None,
    caps_mhz: Mapping[str, int],
    processor: Processor = NOTHING,
    root: Path = Path("/"),
) -> list[power_apply.Action]:
    """What `power_apply.apply` does to set the same below `root`.

    Raises UsageError as `tuning` does, and for what cannot be read back or is not there at all.
    """
    found: list[power_apply.Action] = []
    if _wants_mode(mode_name, caps_mhz, processor):
        mode = _checked(target, mode_name, caps_mhz)
        if target.power_tool == "nvidia-smi" and caps_mhz:
            raise UsageError(
                "nvidia-smi does not tell which clocks are locked, so no cap can be verified; "
                "run the printed script"
            )
        found.append(
            power_apply.nvpmodel(mode.name, mode.id or 0)
            if target.power_tool == "nvpmodel"
            else power_apply.nvidia_smi(mode.watts or 0.0)
        )
        for name, clock in sorted(caps_mhz.items()):
            file = _engine(target, name).clock_file
            found.append(power_apply.Write(file, str(clock * 1_000_000), f"{name} cap"))
    for what, pattern, value in processor.writes():
        paths = sorted(filter(_of_processor, root.glob(pattern.lstrip("/"))))
        if not paths:
            raise UsageError(
                f"{what}: no {root / pattern.lstrip('/')}; this kernel does not set it"
            )
        for path in paths:
            where = f"{what} of {path.parent.name}"
            found.append(power_apply.Write(f"/{path.relative_to(root)}", value, where))
    return found


def tuning(
    target: Target,
    mode_name: str | None,
    caps_mhz: Mapping[str, int],
    processor: Processor = NOTHING,
) -> Tuning:
    """The script that sets `mode_name`, caps engines' clocks below it and sets the processor.

    Raises UsageError for a mode, engine or clock that the device does not have.
    """
    head = ["#!/bin/sh", f"# {target.title}. Run as root.", "set -eu"]
    lines, expect = list[str](), list[str]()
    if _wants_mode(mode_name, caps_mhz, processor):
        mode = _checked(target, mode_name, caps_mhz)
        head[1] = f"# {target.title}, power mode {mode.name}. Run as root."
        lines += (
            _nvpmodel(target, mode, caps_mhz)
            if target.power_tool == "nvpmodel"
            else _nvidia_smi(mode, caps_mhz)
        )
        expect += _expect(target, mode, caps_mhz)
    for _, pattern, value in processor.writes():
        echo = f'echo {shlex.quote(value)} > "$f"'
        if "powercap" in pattern:
            echo = f'if grep -q ^package "${{f%/*}}/name"; then {echo}; fi'
        lines.append(f"for f in {pattern}; do {echo}; done")
    return Tuning("\n".join((*head, *lines)), tuple(expect))


def _of_processor(path: Path) -> bool:
    """Whether a file is a processor's: not of a zone of powercap that is the whole platform."""
    name = path.with_name("name")
    return not name.exists() or name.read_text().startswith("package")


def _wants_mode(mode_name: str | None, caps: Mapping[str, int], processor: Processor) -> bool:
    """Whether a mode is to be set: always, but where the processor is all that was asked for."""
    return bool(mode_name or caps or processor == NOTHING)


def _checked(target: Target, mode_name: str | None, caps_mhz: Mapping[str, int]) -> PowerMode:
    """The mode that is meant, which the caps fit."""
    mode = _mode(target, mode_name)
    for name, clock in caps_mhz.items():
        _check_cap(target, mode, name, clock)
    if target.power_tool is None:
        raise UsageError(f"{target.name}: its maker has no command that sets its power")
    return mode


def _mode(target: Target, name: str | None) -> PowerMode:
    modes = {mode.name: mode for mode in target.power_modes}
    if not modes:
        raise UsageError(f"{target.name}: has no power modes")
    if name is None and len(modes) == 1:
        return target.power_modes[0]
    if name is None:
        raise UsageError(f"{target.name}: name one with --mode: {', '.join(modes)}")
    if name not in modes:
        raise UsageError(f"{target.name}: no power mode '{name}'; {did_you_mean(name, modes)}")
    return modes[name]


def _check_cap(target: Target, mode: PowerMode, name: str, clock: int) -> None:
    engines = {engine.name: engine for engine in target.engines}
    if name not in engines:
        raise UsageError(f"{target.name}: no engine '{name}'; {did_you_mean(name, engines)}")
    if target.power_tool == "nvpmodel" and not engines[name].clock_file:
        raise UsageError(f"{target.name}: the clock of '{name}' follows the power mode only")
    highest = mode.clocks_mhz.get(name) or engines[name].clock_mhz
    if clock <= 0 or (highest is not None and clock > highest):
        raise UsageError(f"{target.name}: {name} runs at 1 to {highest} MHz in {mode.name}")


def _nvpmodel(target: Target, mode: PowerMode, caps: Mapping[str, int]) -> Iterator[str]:
    yield f"nvpmodel -m {mode.id}  # asks for a reboot where it switches parts of the GPU"
    writes = [
        f"echo {clock * 1_000_000} > {_engine(target, name).clock_file}"
        for name, clock in sorted(caps.items())
    ]
    if writes:
        yield "# nvpmodel's mode outlives a reboot, a cap does not: a unit sets it again."
        yield f"cat > {_UNIT} <<'EOF'"
        yield "[Unit]"
        yield "Description=Clock caps for inference"
        yield "After=nvpmodel.service"
        yield "[Service]"
        yield "Type=oneshot"
        yield f"ExecStart=/bin/sh -c '{'; '.join(writes)}'"
        yield "[Install]"
        yield "WantedBy=multi-user.target"
        yield "EOF"
        yield "systemctl daemon-reload"
        yield "systemctl enable --now repo-builder-clocks.service"
    yield "nvpmodel -q"
    yield "# Watch power and clocks under load: tegrastats --interval 1000"


def _nvidia_smi(mode: PowerMode, caps: Mapping[str, int]) -> Iterator[str]:
    yield "nvidia-smi --persistence-mode=1"
    if mode.watts is not None:
        yield f"nvidia-smi --power-limit={mode.watts:g}"
    for clock in caps.values():
        yield f"nvidia-smi --lock-gpu-clocks=0,{clock}"
    yield "nvidia-smi --query-gpu=power.draw,clocks.sm --format=csv"


def _engine(target: Target, name: str) -> Engine:
    return next(engine for engine in target.engines if engine.name == name)


def _expect(target: Target, mode: PowerMode, caps: Mapping[str, int]) -> Iterator[str]:
    """Budget, clocks, rate of the default engine, against the fastest mode."""
    watts = "unknown" if mode.watts is None else f"{mode.watts:g} W"
    yield f"budget: {watts}" + (f" ({mode.note})" if mode.note else "")
    if mode.cpu_cores and mode.cpu_mhz:
        yield f"CPU: {mode.cpu_cores} of {target.cores} cores at up to {mode.cpu_mhz} MHz"
    engine = target.engines[0]
    share = _share(target, mode, caps)
    fastest = max(_share(target, other, {}) for other in target.power_modes)
    clock = caps.get(engine.name) or mode.clocks_mhz.get(engine.name) or engine.clock_mhz
    if clock:
        slices = mode.slices.get(engine.name)
        part = f", {slices} of {engine.slices} slices" if slices and engine.slices else ""
        yield f"{engine.name}: up to {clock} MHz{part}; {share / fastest:.0%} of the fastest mode"
    for row in engine.compute:
        if row.dense_tops:
            yield f"{engine.name} {row.precision}: {row.dense_tops * share:.3g} TOPS dense at most"
    if mode.memory_gb_s:
        yield f"memory: {mode.memory_gb_s:g} of {target.memory.bandwidth_gb_s:g} GB/s"


def _share(target: Target, mode: PowerMode, caps: Mapping[str, int]) -> float:
    """The default engine's rate in a mode, as a share of the catalog's figure."""
    engine = target.engines[0]
    clock, slices = scale(target, mode)
    cap = caps.get(engine.name)
    if cap and engine.clock_mhz:
        clock = min(clock, cap / engine.clock_mhz)
    return clock * slices
