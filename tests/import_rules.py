"""The rules of docs/architecture.md on imports and state, as checks on the source of a package.

A layer imports from itself and from the layers below it. An import under ``TYPE_CHECKING``
counts for the layers, not for cycles; an import inside a function counts for both.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

# From high to low. A name stands for the module chatd.NAME and for all that is inside it.
LAYERS: Final[Sequence[Sequence[str]]] = (
    ("cli",),
    ("commands", "process"),
    ("app",),
    ("client",),
    ("building",),
    ("deployment", "reload"),
    ("handlers",),
    ("cluster",),
    ("admin_socket", "listener", "openapi", "wire"),
    ("administration",),
    ("copying", "doctor", "erasure", "export", "retention"),
    ("accounts", "keepalive", "replay", "router"),
    ("directory", "fanout", "journal", "latency", "presence", "receipts"),
    ("roster",),
    ("heads", "neighbours", "registry"),
    ("storage",),
    ("connection",),
    ("channel", "frames", "framing", "news", "schemas"),
    ("ids", "keys", "limits", "logs", "metrics", "security", "sentry", "settings"),
    ("addresses", "networks"),
    ("models",),
    ("errors",),
)

# All that these may import of chatd, where that is less than the layers below them.
NARROW: Final[Mapping[str, Sequence[str]]] = {
    "client": ("client",),
    "settings": ("addresses", "errors"),
    "storage": ("errors", "models", "storage"),
}

# The modules that may import a library, where that is not everyone.
DRIVERS: Final[Mapping[str, Sequence[str]]] = {
    "bson": ("chatd.storage.mongo*",),
    "dns": ("chatd.storage.mongo*",),
    "jwt": ("chatd.security",),
    "motor": ("chatd.storage.mongo*",),
    "nats": ("chatd.cluster.bus",),
    "passlib": ("chatd.security",),
    "pymongo": ("chatd.storage.mongo*",),
    "sentry_sdk": ("chatd.sentry",),
    "sqlite3": ("chatd.storage.sqlite*",),
    "tornado": (
        "chatd.admin_socket",
        "chatd.app",
        "chatd.building",
        "chatd.channel",
        "chatd.client.http",
        "chatd.client.socket",
        "chatd.handlers",
        "chatd.handlers.*",
        "chatd.listener",
        "chatd.wire",
    ),
    "zxcvbn": ("chatd.security",),
}

# Lists that a module may build from displays: they are read, and a test holds that.
READ_ONLY_NAMES: Final = frozenset({"__all__", "ROUTES"})

MUTABLE_DISPLAYS: Final = (
    ast.List,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
)
MUTABLE_CLASSES: Final = frozenset(
    (
        "bytearray",
        "count",
        "Counter",
        "defaultdict",
        "deque",
        "dict",
        "Event",
        "list",
        "local",
        "Lock",
        "OrderedDict",
        "Queue",
        "RLock",
        "Semaphore",
        "set",
        "SimpleNamespace",
        "WeakKeyDictionary",
        "WeakSet",
        "WeakValueDictionary",
    )
)
MUTATORS: Final = frozenset(
    (
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "popleft",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    )
)


class Import(NamedTuple):
    """One imported module, as full dotted name, and where that is written."""

    importer: str
    imported: str
    line: int
    for_types: bool

    def __str__(self) -> str:
        return f"{self.importer} line {self.line}: imports {self.imported}"


class Source(NamedTuple):
    """The modules of a package by dotted name, and all that they import."""

    modules: Mapping[str, ast.Module]
    imports: Sequence[Import]


def read(package: Path) -> Source:
    paths = {dotted(path, package): path for path in sorted(package.rglob("*.py"))}
    modules = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths.items()}
    imports: list[Import] = []
    for name, tree in modules.items():
        parent = name if paths[name].name == "__init__.py" else name.rpartition(".")[0]
        for node, for_types in import_nodes(tree):
            imports += [
                Import(name, imported, node.lineno, for_types)
                for imported in imported_names(node, parent, modules)
            ]
    return Source(modules, imports)


def dotted(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_nodes(
    node: ast.AST, for_types: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, for_types
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for statement in node.body:
            yield from import_nodes(statement, for_types=True)
        for statement in node.orelse:
            yield from import_nodes(statement, for_types)
    else:
        for child in ast.iter_child_nodes(node):
            yield from import_nodes(child, for_types)


def imported_names(
    node: ast.Import | ast.ImportFrom, parent: str, modules: Mapping[str, ast.Module]
) -> Iterator[str]:
    """What is imported: of `from a import b` the module a.b where there is one, else a."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = parent.split(".")
        base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in modules else base


def part(module: str) -> str:
    """The part of chatd a module belongs to: "storage" for chatd.storage.sqlite."""
    return module.removeprefix("chatd").lstrip(".").partition(".")[0]


def within_chatd(source: Source) -> Iterator[Import]:
    """The imports from chatd's modules; chatd/__init__.py holds but the version, for everyone."""
    return (one for one in source.imports if one.imported.startswith("chatd."))


# -- the rules: each yields a sentence for each place that breaks it ---------------------------


def unknown_modules(source: Source) -> Iterator[str]:
    known = {name for layer in LAYERS for name in layer}
    for module in source.modules:
        if part(module) and part(module) not in known:
            yield f"{module} has no layer: enter {part(module)!r} in LAYERS, tests/import_rules.py"


def upward_imports(source: Source) -> Iterator[str]:
    depth = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}
    depth[""] = len(LAYERS)
    for one in within_chatd(source):
        importer, imported = part(one.importer), part(one.imported)
        if {importer, imported} <= depth.keys() and depth[imported] < depth[importer]:
            yield f"{one}, which is of a layer above it"


def imports_beyond_the_narrow(source: Source) -> Iterator[str]:
    for one in within_chatd(source):
        allowed = NARROW.get(part(one.importer))
        if allowed is not None and part(one.imported) not in allowed:
            yield f"{one}, but of chatd it may import {', '.join(allowed)} only"


def stray_drivers(source: Source) -> Iterator[str]:
    for one in source.imports:
        homes = DRIVERS.get(one.imported.split(".")[0])
        if homes and not any(fnmatchcase(one.importer, home) for home in homes):
            yield f"{one}, which only {', '.join(homes)} may"


def cycles(source: Source) -> Iterator[str]:
    graph: dict[str, set[str]] = {module: set() for module in source.modules}
    for one in source.imports:
        if one.imported in graph and not one.for_types:
            graph[one.importer].add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "import cycle: " + " → ".join(reversed(error.args[1]))


def module_state(source: Source) -> Iterator[str]:
    for module, tree in source.modules.items():
        mutable = {}
        for name, value, is_final in module_assignments(tree.body):
            if is_mutable(value):
                mutable[name] = value
                if not is_final and name not in READ_ONLY_NAMES:
                    yield (
                        f"{module} line {value.lineno}: {name} is state of a module; make it a "
                        f"tuple, a frozenset or Final, or hand it in as an object"
                    )
        for line, what in changes_in_functions(tree, frozenset(mutable)):
            yield f"{module} line {line}: {what} changes the state of a module"


def module_assignments(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.expr, bool]]:
    """Each name that a module assigns when imported, the value, and whether it is Final."""
    for statement in body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield ast.unparse(target), value, False
            case ast.AnnAssign(target=target, annotation=annotation, value=ast.expr() as value):
                yield ast.unparse(target), value, "Final" in ast.unparse(annotation)
            case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While():
                for field in ("body", "orelse", "finalbody"):
                    yield from module_assignments(getattr(statement, field, ()))
                for handler in getattr(statement, "handlers", ()):
                    yield from module_assignments(handler.body)


def is_mutable(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        called = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return ast.unparse(called).rpartition(".")[2] in MUTABLE_CLASSES
    return isinstance(value, MUTABLE_DISPLAYS)


def changes_in_functions(tree: ast.Module, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            match node:
                case ast.Global():
                    yield node.lineno, ast.unparse(node)
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if (
                    name in names
                ):
                    yield node.lineno, ast.unparse(node)
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if (
                    name in names and method in MUTATORS
                ):
                    yield node.lineno, ast.unparse(node)


Rule = Callable[[Source], Iterator[str]]
RULES: Final[Sequence[Rule]] = (
    unknown_modules,
    upward_imports,
    imports_beyond_the_narrow,
    stray_drivers,
    cycles,
    module_state,
)
