"""Finding workflows and activities: in the modules of a folder, or in functions that were passed.

Modules are imported under their own names where that finds this very file, so that they can
import each other; else (a module called `json.py`, a second folder with the same names) under a
private name. The folder goes to the end of `sys.path`: it shadows nothing. One module that does
not import never hides the others.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from belugawf.authoring import activity as activities, workflow as workflows
from belugawf.authoring.failures import attribute, in_one_line, is_a, own_attribute
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model.errors import (
    UnavailableError,
    UsageError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)
from belugawf.model.values import frozen


@frozen()
class ModuleProblem:
    """Why a module, or a name in two modules, cannot be used.

    `message` is one sentence, `line` where in `path` (`None`: unknown), `traceback` the user's
    frames (`None`: there is none to show).
    """

    path: Path
    message: str
    line: int | None = None
    traceback: str | None = None

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.message}"


def _is_keyboard_interrupt(error: BaseException) -> bool:
    return issubclass(type(error), KeyboardInterrupt)


class Catalog:
    """The workflows and activities that an executor knows, and what it could not load."""

    def __init__(self) -> None:
        self._workflows: dict[str, WorkflowDefinition] = {}
        self._activities: dict[str, Callable[..., Any]] = {}
        self._ambiguous: dict[str, WorkflowLoadError] = {}
        self._problems: list[ModuleProblem] = []
        self._folder: Path | None = None

    @classmethod
    def from_folder(
        cls, folder: Path, is_interrupt: Callable[[BaseException], bool] = _is_keyboard_interrupt
    ) -> Catalog:
        """Import every module of the folder; a missing folder is an empty catalog.

        Raises `UnavailableError` if the folder cannot be read, and what `is_interrupt` says is
        a person's Ctrl-C. Whatever else a module raises is its problem.
        """
        catalog = cls()
        catalog._folder = folder
        if folder.is_dir():
            _append_to_path(folder)
            for path in _module_files(folder):
                catalog._load(path, is_interrupt)
        return catalog

    @classmethod
    def from_functions(cls, functions: Iterable[Callable[..., Any]]) -> Catalog:
        """The functions themselves, and the activities that their modules have names for."""
        catalog = cls()
        for function in functions:
            catalog._add_workflow(WorkflowDefinition(function))
            for value in list(getattr(function, "__globals__", {}).values()):
                if _is_marked(value, activities.MARK):
                    catalog._add_activity(value)
        return catalog

    @property
    def workflows(self) -> Mapping[str, WorkflowDefinition]:
        """The usable workflows by name, in order of name."""
        return dict(sorted(self._workflows.items()))

    @property
    def problems(self) -> Sequence[ModuleProblem]:
        """What could not be loaded."""
        return tuple(self._problems)

    def workflow(self, name: str) -> WorkflowDefinition:
        """The workflow of that name.

        Raises `WorkflowNotFoundError` with the nearest name, or `WorkflowLoadError` if the name
        is taken twice, or may be in a module that does not import.
        """
        if name in self._workflows:
            return self._workflows[name]
        if name in self._ambiguous:
            raise self._ambiguous[name]
        if self._problems:
            raise WorkflowLoadError(
                f"workflow {name!r} was not found, and {self._problems[0]}",
                hint="fix that module, then try again: belugawf workflows",
            )
        raise WorkflowNotFoundError(f"there is no workflow {name!r}", hint=self._hint(name))

    def definition(self, workflow: Callable[..., Any] | str) -> WorkflowDefinition:
        """The workflow of that name, or that function, which must be one of these.

        Raises as `workflow` does.
        """
        if isinstance(workflow, str):
            return self.workflow(workflow)
        name = WorkflowDefinition(workflow).name
        known = self._workflows.get(name)
        if known is None or known.function is not workflow:
            raise WorkflowNotFoundError(
                f"workflow {name!r} is not among this executor's workflows",
                hint="pass it to new_executor(workflows=[...])",
            )
        return known

    def activity(self, name: str) -> Callable[..., Any] | None:
        """The activity of that name, `None` if there is none.

        Raises `WorkflowLoadError` if two modules claim the name.
        """
        self.check_activity(name)
        return self._activities.get(name)

    def check_activity(self, name: str) -> None:
        """Raise `WorkflowLoadError` if two modules claim an activity's name."""
        if name in self._ambiguous:
            raise self._ambiguous[name]

    def _hint(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._workflows, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        if self._workflows:
            return "there are: " + ", ".join(sorted(self._workflows))
        if self._folder is not None:
            return f"no module in {self._folder} defines a workflow; make one: belugawf init"
        return "pass workflows= to new_executor"

    # -- loading ---------------------------------------------------------------------------------

    def _load(self, path: Path, is_interrupt: Callable[[BaseException], bool]) -> None:
        try:
            # A module may put anything in its own place in `sys.modules`.
            values = list(vars(import_file(path)).values())
        except BaseException as error:
            if is_interrupt(error):
                raise
            self._problems.append(_import_problem(path, error))
            return
        for value in values:
            if _is_marked(value, workflows.MARK):
                self._add_workflow(WorkflowDefinition(value))
            elif _is_marked(value, activities.MARK):
                self._add_activity(value)

    def _add_workflow(self, definition: WorkflowDefinition) -> None:
        other = self._workflows.get(definition.name)
        if other is None and definition.name not in self._ambiguous:
            self._workflows[definition.name] = definition
        elif other is not None and other.function is not definition.function:
            del self._workflows[definition.name]
            self._clash("workflow", definition.name, other.function, definition.function)

    def _add_activity(self, function: Callable[..., Any]) -> None:
        name = activities.mark_of(function).name
        other = self._activities.get(name)
        if other is None and name not in self._ambiguous:
            self._activities[name] = function
        elif other is not None and other is not function:
            del self._activities[name]
            self._clash("activity", name, other, function)

    def _clash(
        self, what: str, name: str, one: Callable[..., Any], other: Callable[..., Any]
    ) -> None:
        message = f"{what} {name!r} is defined twice, in {_where(one)} and in {_where(other)}"
        self._ambiguous[name] = WorkflowLoadError(
            message, hint=f"rename one of them, for example @{what}(name=...)"
        )
        path, line = _place(other)
        self._problems.append(ModuleProblem(Path(path), message, line))


def _append_to_path(folder: Path) -> None:
    entry = str(folder.resolve())
    if entry not in sys.path:
        sys.path.append(entry)


def _module_files(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UnavailableError(
            f"the workflow folder {str(folder)!r} cannot be read: {error.strerror}",
            hint="check its permissions, and how many files may be open: ulimit -n",
        ) from error
    for path in paths:
        if path.name.startswith(("_", ".")):
            continue
        if path.suffix == ".py" and path.is_file():
            yield path
        elif (path / "__init__.py").is_file():
            yield path / "__init__.py"


_PRIVATE = "_belugawf_workflows_"


def import_file(path: Path, name: str | None = None) -> ModuleType:
    """The module of a file: under its own name where that finds this file, else a private one.

    `name` is that under which another process has it; by default it follows from the file's.
    """
    path = path.resolve()
    if name is not None:
        root, *below = name.split(".")
        if below and root.startswith(_PRIVATE):
            import_file(path.parents[len(below) - (path.name != "__init__.py")] / "__init__.py")
        if _finds(name, path):
            return importlib.import_module(name)
    name = path.parent.name if path.name == "__init__.py" else path.stem
    if _finds(name, path):
        return importlib.import_module(name)
    # The same in each process: isolated activities are looked for under it.
    private = f"{_PRIVATE}{zlib.crc32(os.fsencode(path)):08x}_{name}"
    if private in sys.modules:
        return sys.modules[private]
    spec = importlib.util.spec_from_file_location(private, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} isn't a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[private]
        raise
    return module


_of_activity = False


def import_for_activity(path: Path, name: str) -> ModuleType:
    """As `import_file`, in the process of an isolated activity."""
    global _of_activity
    _of_activity = True
    try:
        return import_file(path, name)
    finally:
        _of_activity = False


def check_may_open() -> None:
    """Raise `UsageError` if an executor is opened while an isolated activity is looked for.

    The activity would start another process, which would open it again, without end.
    """
    if _of_activity:
        raise UsageError(
            "the process of an isolated activity imports this file, which opens an executor",
            hint='put what a script does under: if __name__ == "__main__":',
        )


def _finds(name: str, path: Path) -> bool:
    """Whether a plain import of the name gives this very file."""
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    loaded = sys.modules.get(name)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
    else:
        importlib.invalidate_caches()
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return False
        origin = None if spec is None else spec.origin
    return origin is not None and Path(origin).resolve() == path


def _import_problem(path: Path, error: BaseException) -> ModuleProblem:
    """Never raises, though all that is asked of the error is the module's own."""
    line = None
    frames = traceback.extract_tb(own_attribute(error, "__traceback__"))
    for frame in frames:
        if Path(frame.filename).resolve() == path.resolve():
            line = frame.lineno
    if is_a(error, SyntaxError) and attribute(error, "filename", Path) == path.resolve():
        line = attribute(error, "lineno", int)
    what = in_one_line(error)
    try:
        shown = "".join(traceback.format_exception_only(error))
    except BaseException:
        shown = what
    if len(shown) > _LONGEST_TEXT:
        shown = what
    own = [f for f in frames if not _is_machinery(f.filename)]
    return ModuleProblem(
        path=path,
        message=f"does not import: {what}",
        line=line,
        traceback="".join([*traceback.format_list(own), shown]).rstrip(),
    )


# What Python says of an error, in characters; longer ones are cut.
_LONGEST_TEXT = 10_000


def _is_machinery(filename: str) -> bool:
    """Whether it is a file of ours, or of Python's import."""
    return "importlib" in filename or filename.startswith(_PACKAGE)


_PACKAGE = f"{Path(__file__).parents[1]}/"


def _is_marked(value: Any, mark: str) -> bool:
    # `isinstance` would ask the object for its class, `hasattr` for anything: it is the user's.
    if type(value) is FunctionType:
        return hasattr(value, mark)
    if type(value) is MethodType:
        value = value.__func__
    return inspect.getattr_static(value, mark, None) is not None


def _place(function: Any) -> tuple[str, int]:
    while type(function) is functools.partial:
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    return ("?", 0) if code is None else (code.co_filename, code.co_firstlineno)


def _where(function: Callable[..., Any]) -> str:
    path, line = _place(function)
    return f"{path}:{line}"
