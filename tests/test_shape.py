"""The shape of the code: imports point downward, the core is pure, one place for each thing.

Each rule is a function from source files to complaints. It is tried on the package as it is, where
nobody may complain, and on a file that breaks it, where it must.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 500
MAX_CLASS_LINES = 350
MAX_ATTRIBUTES = 15
# A command reads its flags, calls the executor and prints.
MAX_COMMAND_LINES = 200

# What is larger than that, and why.
RECORD = "a record: its columns are named one by one, and nothing changes them together"
LARGE = {
    "belugawf.config.settings.Settings": RECORD,
    "belugawf.executor.info.RunInfo": RECORD,
    "belugawf.local.store.rows.RunRow": RECORD,
    "belugawf.model.events.ActivityScheduled": RECORD,
}

# Modules by their dotted name.
Sources: TypeAlias = Mapping[str, str]

# Which parts each part may import, lowest first. `executor` is the seam that both callers and
# providers know; it finds a provider by its name, when it is asked for one.
LAYERS: dict[str, set[str]] = {}
LAYERS["model"] = set()
LAYERS["authoring"] = {"model"}
LAYERS["replay"] = {"model", "authoring"}
LAYERS["host"] = {"model", "authoring", "replay"}
LAYERS["executor"] = {*LAYERS["host"], "host"}
LAYERS["config"] = {"model"}
LAYERS["probe"] = {"model"}
LAYERS["local.file"] = {*LAYERS["executor"], "executor", "probe"}
LAYERS["local.store"] = {*LAYERS["local.file"], "local.file"}
LAYERS["local.drive"] = {*LAYERS["local.store"], "local.store"}
PROVIDER = {*LAYERS["executor"], "executor", "config", "probe"}
LAYERS["local"] = {*PROVIDER, "local.file", "local.store", "local.drive"}
LAYERS["temporal"] = PROVIDER
LAYERS["testing"] = {*LAYERS["local"], "local"}
LAYERS["cli"] = {"model", "authoring", "executor", "config", "host", "probe"}
LAYERS["__main__"] = {"cli", "host"}
LAYERS["__init__"] = {"model", "authoring", "executor"}

WORLD = {
    *("sqlite3", "sqlite_utils", "time", "threading", "os", "typer", "rich", "temporalio", "yaml"),
    *(
        "pathlib.Path",
        "socket",
        "subprocess",
        "io",
        "shutil",
        "tempfile",
        "multiprocessing",
        "secrets",
    ),
}
# What reads a clock, chance or a file, as module.function.
WORLDLY_CALLS = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid1"),
    *("uuid.uuid4", "random.random", "random.randint", "random.choice", "random.shuffle"),
}
SQL_FILES = {
    f"belugawf.local.{name}"
    for name in (
        *("file.database", "file.migrations", "file.checkup"),
        *(
            "store.store",
            "store.appending",
            "store.histories",
            "store.loglines",
            "store.writing",
            "store.queries",
            "store.selecting",
            "store.pruning",
            "store.retries",
            "store.owners",
            "store.probe",
        ),
    )
}
DECODING = (
    *("belugawf.local.store.", "belugawf.local.view", "belugawf.model.soundness"),
    "belugawf.local.file.migrations",  # rows of the past
)
SQL = re.compile(
    r"\s*(SELECT|INSERT|REPLACE|UPDATE|DELETE|CREATE|DROP|ALTER|PRAGMA|BEGIN|COMMIT|ROLLBACK|"
    r"SAVEPOINT|RELEASE|ATTACH|VACUUM|WITH)(\s|;|$)"
)


@pytest.fixture(scope="module")
def package() -> Sources:
    """The package as it is."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
        for path in sorted((ROOT / "belugawf").rglob("*.py"))
    }


# -- reading -------------------------------------------------------------------------------------


@cache  # every rule reads the whole package, again and again
def nodes(source: str) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax tree, the root first."""
    return tuple(ast.walk(ast.parse(source)))


def imported(source: str) -> Iterator[str]:
    """All that a file imports, wherever in the file it does, as dotted names of modules."""
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            # What is imported may be a module itself; `belugawf` alone would hide which.
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str:
    """The layer of a module: its folder, or the file itself; of `local`, the folder in there."""
    _, *names = module.split(".")
    inner = ".".join(names[:2])
    return inner if inner in LAYERS else names[0] if names else "__init__"


def is_import_of(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def texts(source: str) -> Iterator[str]:
    """The texts of a file that are no documentation."""
    documentation = {
        node.value
        for node in nodes(source)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in nodes(source):
        match node:
            case ast.Constant(value=str(text)) if node not in documentation:
                yield text


def calls(source: str) -> Iterator[str]:
    """What a file calls, as `name` or `module.name`."""
    for node in nodes(source):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name):
                    yield name
                case ast.Attribute(value=ast.Name(id=module), attr=name):
                    yield f"{module}.{name}"


def classes(source: str) -> Iterator[ast.ClassDef]:
    """The classes of a file."""
    return (node for node in nodes(source) if isinstance(node, ast.ClassDef))


def written(tree: Iterable[ast.AST]) -> Iterator[ast.Attribute]:
    """The attributes that are assigned or deleted there."""
    for node in tree:
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield node


def is_own(target: ast.Attribute) -> bool:
    """Whether an object writes that attribute of itself."""
    return isinstance(target.value, ast.Name) and target.value.id in ("self", "cls")


def attributes(cls: ast.ClassDef) -> set[str]:
    """The names of what an instance holds."""
    fields = {
        node.target.id
        for node in cls.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.unparse(node.annotation)
    }
    return fields | {target.attr for target in written(ast.walk(cls)) if is_own(target)}


# -- rules ---------------------------------------------------------------------------------------


def upward(sources: Sources) -> list[str]:
    """Imports of a part that is not below one's own."""
    complaints = []
    for module, source in sources.items():
        part = part_of(module)
        for name in imported(source):
            if not name.startswith("belugawf.") or name == "belugawf.__version__":
                continue
            if part_of(name) not in LAYERS[part] | {part}:
                complaints.append(f"{module} imports {name}")
    return complaints


def closure(sources: Sources, *parts: str) -> set[str]:
    """The modules of these parts, and the modules of ours that they import, and so on."""
    found: set[str] = set()
    left = [module for module in sources if part_of(module) in parts]
    while left:
        module = left.pop()
        if module in found:
            continue
        found.add(module)
        for name in imported(sources[module]):
            left += [n for n in (name, f"{name}.__init__") if n in sources]
    return found


def worldly(sources: Sources) -> list[str]:
    """Where the core, or what it imports, touches the world."""
    complaints = []
    for module in sorted(closure(sources, "model", "replay")):
        source = sources[module]
        for name in imported(source):
            if any(is_import_of(name, forbidden) for forbidden in WORLD):
                complaints.append(f"{module} imports {name}")
        for name in calls(source):
            if name in {"open", "input", "print", *WORLDLY_CALLS}:
                complaints.append(f"{module} calls {name}")
    return complaints


def temporal_elsewhere(sources: Sources) -> list[str]:
    """Imports of temporalio outside of its provider."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        for name in imported(source)
        if is_import_of(name, "temporalio") and part_of(module) != "temporal"
    ]


def sql_elsewhere(sources: Sources) -> list[str]:
    """SQL, or the modules that speak it, outside of the files for it."""
    complaints = []
    for module, source in sources.items():
        if module in SQL_FILES:
            continue
        for name in imported(source):
            if is_import_of(name, "sqlite3") or is_import_of(name, "sqlite_utils"):
                complaints.append(f"{module} imports {name}")
        complaints += [f"{module} says {text!r}" for text in texts(source) if SQL.match(text)]
    return complaints


def decoding_elsewhere(sources: Sources) -> list[str]:
    """Readers of what may be damaged, outside of the store and of what shows its rows."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        if not module.startswith(DECODING)
        for name in imported(source)
        if name.rpartition(".")[2] in ("UNREADABLE", "reading", "or_else", "check_history")
    ]


def printing(sources: Sources) -> list[str]:
    """Calls of print outside of the command line."""
    return [
        f"{module} prints"
        for module, source in sources.items()
        if part_of(module) not in ("cli", "__main__") and "print" in calls(source)
    ]


def too_large(sources: Sources) -> list[str]:
    """Files and classes that may hold two ideas, by their size; and exceptions without need."""
    large: dict[str, str] = {}
    for module, source in sources.items():
        lines = source.count("\n")
        most = MAX_COMMAND_LINES if module.startswith("belugawf.cli.commands.") else MAX_LINES
        if lines > most:
            large[module] = f"{lines} lines"
        for cls in classes(source):
            assert cls.end_lineno is not None
            lines, width = cls.end_lineno - cls.lineno + 1, len(attributes(cls))
            if lines > MAX_CLASS_LINES or width > MAX_ATTRIBUTES:
                large[f"{module}.{cls.name}"] = f"{lines} lines, {width} attributes"
    complaints = [f"{name}: {size}" for name, size in large.items() if name not in LARGE]
    return complaints + [f"{name} is small" for name in LARGE.keys() - large.keys()]


def writing_into_others(sources: Sources) -> list[str]:
    """Places that write a field of an object whose class is another module's."""
    written_in: dict[str, set[str]] = {}
    for module, source in sources.items():
        for cls in classes(source):
            for name in attributes(cls):
                written_in.setdefault(name, set()).add(module)
    return [
        f"{module} writes {ast.unparse(target)} in line {target.lineno}"
        for module, source in sources.items()
        for target in written(nodes(source))
        if not is_own(target) and module not in written_in.get(target.attr, {module})
    ]


def unknown_parts(sources: Sources) -> list[str]:
    """Folders and files that no layer is named for."""
    return sorted({part_of(module) for module in sources} - set(LAYERS))


RULES = (
    upward,
    worldly,
    temporal_elsewhere,
    sql_elsewhere,
    decoding_elsewhere,
    printing,
    too_large,
    writing_into_others,
    unknown_parts,
)


# -- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(package: Sources, rule: Callable[[Sources], list[str]]) -> None:
    """Nobody complains of the package as it is."""
    assert rule(package) == []


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (upward, "belugawf.model.history", "from belugawf.replay.loop import user_location"),
        (upward, "belugawf.replay.loop", "def f():\n    import belugawf.local.store.store"),
        (upward, "belugawf.local.drive.engine", "from belugawf import cli"),
        (upward, "belugawf.local.drive.engine", "from belugawf.temporal import worker"),
        (upward, "belugawf.authoring.context", "if TYPE_CHECKING:\n    import belugawf.executor"),
        (worldly, "belugawf.model.history", "import sqlite3"),
        (worldly, "belugawf.replay.loop", "from time import monotonic"),
        (worldly, "belugawf.replay.replayer", "def f():\n    import os.path"),
        (worldly, "belugawf.authoring.context", "import threading"),
        (worldly, "belugawf.model.codec._text", "def f():\n    return open('x')"),
        (worldly, "belugawf.replay.replayer", "from datetime import datetime\ndatetime.now()"),
        (upward, "belugawf.cli.tables", "def f():\n    import belugawf.local.store.store"),
        (upward, "belugawf.cli.tables", "def f():\n    from belugawf import temporal"),
        (temporal_elsewhere, "belugawf.executor", "def f():\n    import temporalio.client"),
        (sql_elsewhere, "belugawf.local.drive.engine", "import sqlite3"),
        (sql_elsewhere, "belugawf.local.drive.engine", "x.execute('SELECT * FROM runs')"),
        (sql_elsewhere, "belugawf.cli.tables", "x.execute(f'''\n  UPDATE {table} SET y=1''')"),
        (
            decoding_elsewhere,
            "belugawf.local.drive.cache",
            "from belugawf.local.store.damage import reading",
        ),
        (printing, "belugawf.local.drive.engine", "print('turn')"),
        (too_large, "belugawf.local.drive.table", "\n" * 501),
        (too_large, "belugawf.cli.commands.run", "\n" * 201),
        (too_large, "belugawf.cli.tables", "class C:\n    x = 1" + "\n" * 351 + "    y = 2"),
        (
            too_large,
            "belugawf.cli.tables",
            "class C:" + "".join(f"\n  a{n}: int" for n in range(16)),
        ),
        (too_large, "belugawf.executor.info", ""),
        (writing_into_others, "belugawf.cli.tables", "def f(run):\n    run.phase = 1"),
        (writing_into_others, "belugawf.cli.tables", "def f(run):\n    (run.x, run.slots) = 1"),
        (writing_into_others, "belugawf.cli.tables", "def f(run):\n    run.row.status += 1"),
        (unknown_parts, "belugawf.helpers", ""),
    ],
)
def test_the_rule_finds_what_breaks_it(
    package: Sources, rule: Callable[[Sources], list[str]], module: str, source: str
) -> None:
    """One file that breaks it is enough."""
    prelude = (
        "from belugawf.authoring import context\n" if module.startswith("belugawf.rep") else ""
    )
    assert rule({**package, module: prelude + source}) != []


def test_documentation_is_no_sql() -> None:
    """What a docstring says of SQL does not count."""
    assert (
        sql_elsewhere({"belugawf.local.drive.engine": '"""\nBEGIN IMMEDIATE is said here."""'})
        == []
    )


def test_the_core_is_the_core(package: Sources) -> None:
    """The rule of purity covers all of model and replay, and what they use of authoring."""
    core = closure(package, "model", "replay")
    assert {module for module in package if part_of(module) in ("model", "replay")} <= core
    assert "belugawf.authoring.context" in core
    assert "belugawf.authoring.loader" not in core
    assert not any(part_of(module) in ("local", "executor", "cli") for module in core)
