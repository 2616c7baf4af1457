"""The figures of ``goctconv bench`` as text."""

from collections.abc import Sequence
from typing import Any

from .._output import plural

LEGEND = (
    "Times are medians; ratios how many times faster than eager, with the quartiles of the single rounds. Where these\n"
    "lie far apart, something else is running, or there are too few rounds."
)


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """Return a line for each kind of fact about the machine."""
    packages, processor = machine["packages"], machine["processor"]
    return [
        f"goctconv {machine['goctconv']}, Python {machine['python']}, {machine['system']}",
        f"processor     {processor['name']}, {processor['usable']} usable, {processor['vector_instructions']}",
        f"accelerators  {', '.join(machine['accelerators']) or 'none'}",
        f"allocator     {_pairs(machine['allocator'])}",
        f"threads       {_pairs(machine['threads'])}",
        f"installed     {', '.join(f'{name} {version}' for name, version in packages.items() if version)}",
        f"missing       {', '.join(name for name, version in packages.items() if not version) or 'nothing'}",
    ]


def model_lines(figures: dict[str, Any], batch_size: int) -> list[str]:
    """Return the tables of one network."""
    lines = ["", f"{figures['model']}: {figures['parameters']:,} parameters, loaded in {figures['loaded_in_s']:.2f} s"]
    start = figures["cold_start"]
    if start is not None:
        lines.append(
            f"new process: PyTorch after {start['import_torch_s']:.1f} s, the network after {start['loaded_s']:.1f} s, "
            f"the first map after {start['first_output_s']:.1f} s"
        )
    processor = figures["processor"]
    for threads, latency in processor["latency"].items():
        throughput = processor["throughput"][threads]
        rows = [
            [name, _milliseconds(one_image), _ratio(one_image), _speed(throughput[name]), _ratio(throughput[name])]
            for name, one_image in latency.items()
        ]
        header = [plural(int(threads), "thread"), "one image", "ratio", f"batches of {batch_size}", "ratio"]
        lines += ["", *_table([header, *rows])]
    rows = [_fact_row(name, facts) for name, facts in processor["forms"].items()]
    lines += ["", *_table([["form", "made in", "loaded in", "difference", "peak memory"], *rows])]
    for batch, forms in (figures["cuda"] or {}).items():
        lines += ["", *_cuda_table(batch, forms)]
    return lines


def _cuda_table(batch: str, forms: dict[str, Any] | None) -> list[str]:
    header = [f"CUDA, {batch} at a time", "batch", "ratio", "speed"]
    if forms is None:
        return [f"{header[0]}: not enough memory"]
    return _table([header, *([name, _milliseconds(form), _ratio(form), _speed(form)] for name, form in forms.items())])


def _fact_row(name: str, facts: dict[str, Any]) -> list[str]:
    peak = facts["peak_memory_bytes"]
    memory = "" if peak is None else f"{peak / 2**20:.1f} MiB"
    return [name, f"{facts['made_in_s']:.1f} s", f"{facts['loaded_in_s']:.2f} s", f"{facts['difference']:.1e}", memory]


def _milliseconds(figures: dict[str, Any]) -> str:
    return f"{1000 * figures['median_s']:.2f} ms"


def _speed(figures: dict[str, Any]) -> str:
    return f"{figures['images_per_s']:.1f}/s"


def _ratio(figures: dict[str, Any]) -> str:
    (ratios,) = (value for key, value in figures.items() if key.endswith("_over_this"))
    low, middle, high = ratios
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _pairs(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
