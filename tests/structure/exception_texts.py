"""Where the source searches or changes the text of an exception: followed through variables, functions and results."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

from .tree import TREES

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

EXCEPTION, TEXT = "exception", "text"
SEARCHING = {
    *("replace", "translate", "find", "rfind", "index", "count", "startswith", "endswith"),
    *("partition", "rpartition", "removeprefix", "removesuffix"),
}
MATCHING = {"search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "fnmatch"}
KEEPING = {"str", "repr", "format", "list", "tuple", "sorted", "next", "iter", "join", "wrap", "fill", "indent"}


@dataclass
class Knowledge:
    """What the calls of all functions have shown: what their parameters may be, and which of them return a text."""

    parameters: dict[str, dict[str, str]] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)


@functools.cache
def uses() -> list[tuple[str, str, int]]:
    """Return module, function and line of every place where a text of an exception is searched or changed."""
    units = list(_units())
    functions: dict[str, list[FunctionNode]] = {}
    for _, node in units:
        functions.setdefault(node.name, []).append(node)
    knowledge = Knowledge()
    while True:
        before = repr(knowledge)
        readers = [_Reader(module, node, functions, knowledge) for module, node in units]
        readers = [reader for reader in readers if reader.names]
        for reader in readers:
            reader.follow()
            reader.learn()
        if repr(knowledge) == before:
            return sorted({use for reader in readers for use in reader.uses()})


def _units() -> Iterator[tuple[str, FunctionNode]]:
    """Yield all functions and methods, those inside functions left out: they belong to the outer one."""
    for module, tree in TREES.items():
        waiting: list[ast.AST] = [tree]
        while waiting:
            for node in ast.iter_child_nodes(waiting.pop()):
                if isinstance(node, FunctionNode):
                    yield module, node
                else:
                    waiting.append(node)


class _Reader:
    """One function, and what its names may be."""

    def __init__(
        self, module: str, node: FunctionNode, functions: dict[str, list[FunctionNode]], knowledge: Knowledge
    ) -> None:
        self.module, self.node, self.knowledge = module, node, knowledge
        self.functions = functions
        self.names = dict(knowledge.parameters.get(node.name, {}))
        for argument in _arguments(node):
            if argument.annotation is not None and _is_exception(argument.annotation):
                self.names[argument.arg] = EXCEPTION
        for inner in ast.walk(node):
            if isinstance(inner, ast.ExceptHandler) and inner.name:
                self.names[inner.name] = EXCEPTION

    def follow(self) -> None:
        """Add the variables that get a text."""
        while True:
            before = len(self.names)
            for node in ast.walk(self.node):
                for target, value in _bindings(node):
                    if kind := self.kind(value):
                        parts = [part for part in ast.walk(target) if isinstance(part, ast.Name)]
                        names = [part.id for part in parts if isinstance(part.ctx, ast.Store)]
                        self.names |= {name: kind for name in names if name not in self.names}
            if len(self.names) == before:
                return

    def kind(self, node: ast.AST | None) -> str:
        """Return whether an expression is an exception, a text of one, or neither (empty)."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, "")
        if isinstance(node, ast.Attribute):
            is_text = self.kind(node.value) == EXCEPTION and node.attr in {"args", "msg", "__notes__"}
            return TEXT if is_text else ""
        if isinstance(node, ast.Call):
            return self._kind_of_call(node)
        if isinstance(node, ast.JoinedStr):
            values = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            return TEXT if any(map(self.kind, values)) else ""
        parts: list[ast.AST] = []
        if isinstance(node, ast.Subscript | ast.Starred):
            parts = [node.value]
        elif isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
        elif isinstance(node, ast.BoolOp):
            parts = list(node.values)
        elif isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp):
            parts = [node.elt]
        return max(map(self.kind, parts), default="")

    def _kind_of_call(self, node: ast.Call) -> str:
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        name = _called(node)
        if isinstance(node.func, ast.Attribute) and self.kind(node.func.value) == TEXT:
            return TEXT
        if not any(map(self.kind, given)):
            return ""
        return TEXT if name in KEEPING or name in self.knowledge.texts else ""

    def learn(self) -> None:
        """Note what the function calls others with, and what it returns."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Return) and self.kind(node.value) == TEXT:
                self.knowledge.texts.add(self.node.name)
            if isinstance(node, ast.Call) and any(map(self.kind, [*node.args, *(k.value for k in node.keywords)])):
                is_search = (
                    isinstance(node.func, ast.Attribute) and node.func.attr in MATCHING
                )  # not a function of ours
                for function in [] if is_search else self.functions.get(_called(node), []):
                    self._learn_call(node, function)

    def _learn_call(self, call: ast.Call, function: FunctionNode) -> None:
        names = [argument.arg for argument in _arguments(function) if argument.arg not in {"self", "cls"}]
        given = [*zip(names, call.args, strict=False), *((keyword.arg, keyword.value) for keyword in call.keywords)]
        known = self.knowledge.parameters.setdefault(function.name, {})
        known |= {name: kind for name, value in given if name and (kind := self.kind(value))}

    def uses(self) -> Iterator[tuple[str, str, int]]:
        for node in ast.walk(self.node):
            if isinstance(node, ast.expr) and self._is_use(node):
                yield self.module, self.node.name, node.lineno

    def _is_use(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Compare):
            compared = any(isinstance(operator, ast.In | ast.NotIn | ast.Eq | ast.NotEq) for operator in node.ops)
            return compared and TEXT in map(self.kind, [node.left, *node.comparators])
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        if node.func.attr in MATCHING:
            return TEXT in map(self.kind, node.args)
        is_split = node.func.attr in {"split", "rsplit"} and bool(node.args)
        return (node.func.attr in SEARCHING or is_split) and self.kind(node.func.value) == TEXT


def _arguments(node: FunctionNode) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _is_exception(annotation: ast.expr) -> bool:
    names = [part.strip() for part in ast.unparse(annotation).split("|")]
    return any(name.rpartition(".")[2].endswith(("Error", "Exception")) for name in names)


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def _bindings(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.target, node.iter
