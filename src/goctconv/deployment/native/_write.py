"""The C file of a network: a commented header, tables of operations and weights, and the runtime."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Literal, TypeAlias

import numpy as np

from ..._version import __version__
from ._lower import Activation, Addend, Operation, Program, Term, lifetimes
from ._sizes import shape_code

Weights: TypeAlias = Literal["float32", "float16", "outside"]

_PER_LINE = 12
_HALF = """
/* float32 of float16 */
static float of_half(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
  union { uint32_t bits; float number; } value;
  if (exponent) value.bits = sign | (exponent + (exponent == 31 ? 224u : 112u)) << 23 | mantissa << 13;
  else { value.number = (float)mantissa * (1.f / 16777216.f); value.bits |= sign; }
  return value.number;
}
"""
_PLAIN = """
int NET_init(void *workspace, int height, int width) { return NET_init_for(workspace, height, width, 1); }

int NET_run(void *workspace, const float *image, float *output) {
  const Plan *plan = plan_in(workspace);
  if (!plan->is_ready || plan->parts != 1) return 0;
  NET_run_part(workspace, image, output, 0);
  return 1;
}
"""
_DECLARATIONS = """
size_t NET_workspace(int height, int width);
size_t NET_workspace_for(int height, int width, int threads);
int NET_output_size(int height, int width, int *channels, int *out_height, int *out_width);
int NET_init_for(void *workspace, int height, int width, int threads NET_INIT_ARGUMENT);
void NET_run_part(void *workspace, const float *image, float *output, int part);
"""
_PLAIN_DECLARATIONS = """int NET_init(void *workspace, int height, int width);
int NET_run(void *workspace, const float *image, float *output);
"""


def c_source(program: Program, name: str, weights: Weights, header: str = "") -> str:
    """Return the C file of a network; its functions begin with ``name``.

    With ``weights="outside"``, they are an argument of ``NAME_init_for``.
    """
    runtime = files(__package__).joinpath("runtime.c").read_text(encoding="utf-8")
    is_inside = weights != "outside"
    declarations = _DECLARATIONS + (_PLAIN_DECLARATIONS if is_inside else "")
    text = runtime.replace("NET_TABLES", "\n".join([*_tables(program), *_numbers(program, weights)]), 1)
    text = text.replace("NET_SHAPES", "\n".join(_shapes(program)), 1)
    text = text.replace("NET_PLAIN_FUNCTIONS", _PLAIN if is_inside else "", 1)
    text = f"{header}\n#include <stddef.h>\n#include <stdint.h>\n{declarations}\n{text}"
    text = text.replace("NET_WEIGHTS_TYPE", "const float *weight" if not is_inside else "const void *unused")
    number = {"float32": "WEIGHT[{}]", "float16": "of_half(WEIGHT[{}])", "outside": "weight[{}]"}[weights]
    for index in ("i", "from + t * channels + c0 + c"):
        text = text.replace(f"NET_WEIGHT({index})", number.format(index))
    text = text.replace("  for (int i = 0; i < WEIGHTS; i++) to[i]", ("  (void)unused;\n" if is_inside else "")
                        + "  for (int i = 0; i < WEIGHTS; i++) to[i]", 1)  # fmt: skip
    text = text.replace(" NET_INIT_ARGUMENT", "" if is_inside else ", const float *weights")
    text = text.replace(" NET_PASS_WEIGHTS", ", NULL" if is_inside else ", weights")
    return text.replace("NET_", f"{name}_")


def _tables(program: Program) -> list[str]:
    operations = program.operations
    born, dies = lifetimes(operations, len(program.channels))
    terms, addends = list[Term](), list[Addend]()
    rows = list[str]()
    for operation in operations:
        rows.append(_row(operation, len(terms), len(addends)))
        terms += operation.terms
        addends += operation.addends
    most = max(sum(1 if part.kind == "SAME" else 2 for part in operation.addends) for operation in operations)
    constants = {
        "TENSORS": len(program.channels),
        "OPERATIONS": len(operations),
        "ADDENDS": len(addends),
        "ROWS_ADDED": max(1, most),
        "WEIGHTS": len(program.weights),
        "MARGIN": program.margin,
    }
    return [
        *(f"#define {key} {value}" for key, value in constants.items()),
        *_array("int CHANNELS[TENSORS]", program.channels),
        *_array("int BORN[TENSORS]", born),
        *_array("int DIES[TENSORS]", dies),
        *_array("Term TERM[]", [_braced(term) for term in terms], 4),
        *_array("Addend ADDEND[ADDENDS + 1]", [*map(_braced, addends), "{0, 0, SAME, 0, 0}"], 4),
        *_array("Operation OPERATION[OPERATIONS]", rows, 1),
    ]


def _row(operation: Operation, term: int, addend: int) -> str:
    return _braced((
        operation.kind, operation.out, operation.first, operation.count, operation.groups, term, len(operation.terms),
        addend, len(operation.addends), operation.taps, operation.weight, operation.bias, _act(operation.act),
        operation.weight2, operation.bias2, _act(operation.act2), *operation.window, int(operation.joins),
    ))  # fmt: skip


def _act(act: Activation) -> str:
    return _braced((act.kind, 0, act.lo, act.hi, act.slope))


def _braced(values: tuple[Any, ...]) -> str:
    return "{" + ", ".join(_literal(value) for value in values) + "}"


def _literal(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isinf(value):
        return f"{'-' if value < 0 else ''}__builtin_inff()"
    text = f"{value:.9g}"
    return f"{text if set(text) & set('.e') else text + '.'}f"


def _array(declaration: str, values: list[Any], per_line: int = _PER_LINE) -> list[str]:
    lines = [", ".join(map(str, values[i : i + per_line])) for i in range(0, len(values), per_line)]
    return [f"static const {declaration} = {{", *(f"  {line}," for line in lines), "};"]


def _numbers(program: Program, weights: Weights) -> list[str]:
    if weights == "outside":
        return []
    if weights == "float32":
        return _array("float WEIGHT[WEIGHTS]", [_literal(float(value)) for value in program.weights])
    halves = program.weights.astype(np.float16).view(np.uint16)
    return [*_array("uint16_t WEIGHT[WEIGHTS]", [int(value) for value in halves], 24), _HALF]


def _shapes(program: Program) -> list[str]:
    checks = [f"H[{a}] == H[{b}] && W[{a}] == W[{b}]" for a, b in program.checks if a != b]
    return [
        "/* The sizes of all tensors; false where those that are put together differ. */",
        "static int shapes(int height, int width, int *H, int *W) {",
        *shape_code(program.shapes),
        f"  return {' && '.join(dict.fromkeys(checks))};" if checks else "  return 1;",
        "}",
    ]


def version_line() -> str:
    """Return which version wrote a file."""
    return f"goctconv {__version__}"
