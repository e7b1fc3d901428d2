"""Finding workflows: modules of a folder keep their names, shadow nothing, and fail alone."""

from __future__ import annotations

import errno
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belugawf import WorkflowContext, WorkflowNotFoundError, activity, workflow
from belugawf.authoring.loader import Catalog
from belugawf.model.errors import UnavailableError, WorkflowLoadError

WORKFLOW = """
from belugawf import activity, workflow

@activity
def {name}_work(): ...

@workflow
async def {name}(ctx): return __name__
"""


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """What a test imports is forgotten after it."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "workflows"
    path.mkdir()
    return path


def write(folder: Path, name: str, text: str = "", **names: str) -> Path:
    """A module; without a text one with a workflow of its name."""
    path = folder / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text) or WORKFLOW.format(name=names.get("workflow", name)))
    return path


def module_of(catalog: Catalog, name: str) -> str:
    return str(catalog.workflow(name).function.__module__)


def test_a_folder(folder: Path) -> None:
    """Every module's workflows and activities, in order of name."""
    write(folder, "wf_beta")
    write(folder, "wf_alpha")
    catalog = Catalog.from_folder(folder)
    assert list(catalog.workflows) == ["wf_alpha", "wf_beta"]
    assert catalog.activity("wf_beta_work") is not None
    assert catalog.activity("unknown") is None
    assert catalog.problems == ()


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_nothing_there(folder: Path, what: str) -> None:
    """A folder that is missing or empty is an empty catalog, which says how to fill it."""
    catalog = Catalog.from_folder(folder / "nowhere" if what == "missing" else folder)
    assert catalog.workflows == {}
    with pytest.raises(WorkflowNotFoundError) as caught:
        catalog.workflow("x")
    assert caught.value.hint is not None
    assert "belugawf init" in caught.value.hint


def test_own_names_and_siblings(folder: Path) -> None:
    """Modules have their own names, and import each other; both see one module."""
    write(folder, "wf_shared", "COUNT = []")
    write(
        folder,
        "wf_one",
        """
        import wf_shared
        from belugawf import workflow
        wf_shared.COUNT.append(1)

        @workflow
        async def one(ctx): return wf_shared.COUNT
        """,
    )
    write(folder, "wf_two", "from wf_one import one\nimport wf_shared\nwf_shared.COUNT.append(2)")
    catalog = Catalog.from_folder(folder)
    assert catalog.problems == ()
    assert module_of(catalog, "one") == "wf_one"
    assert sys.modules["wf_shared"].COUNT == [1, 2]


def test_an_imported_workflow_is_one_workflow(folder: Path) -> None:
    """A name imported from a sibling is no second definition."""
    write(folder, "wf_source", workflow="same")
    write(folder, "wf_user", "from wf_source import same, same_work")
    catalog = Catalog.from_folder(folder)
    assert catalog.problems == ()
    assert list(catalog.workflows) == ["same"]


def test_the_standard_library_is_not_shadowed(folder: Path) -> None:
    """json.py is loaded, under a private name, and `import json` stays the library's."""
    write(folder, "json", workflow="mine")
    write(folder, "colorsys", workflow="unloaded")
    catalog = Catalog.from_folder(folder)
    assert set(catalog.workflows) == {"mine", "unloaded"}
    assert catalog.problems == ()
    assert module_of(catalog, "mine") != "json"
    assert sys.modules["json"] is json
    import colorsys

    assert hasattr(colorsys, "rgb_to_hsv")


def test_two_folders_with_the_same_names(tmp_path: Path) -> None:
    """Each catalog has its own folder's module."""
    for name in ("one", "two"):
        write(tmp_path / name, "wf_tasks", workflow=f"{name}_task")
    one, two = (Catalog.from_folder(tmp_path / name) for name in ("one", "two"))
    assert list(one.workflows) == ["one_task"]
    assert list(two.workflows) == ["two_task"]
    assert module_of(one, "one_task") == "wf_tasks"
    assert Catalog.from_folder(tmp_path / "two").workflows.keys() == two.workflows.keys()


def test_packages_and_private_files(folder: Path) -> None:
    """A package is its __init__; names with an underscore or a dot are left alone."""
    (folder / "wf_package").mkdir()
    (folder / "wf_package" / "__init__.py").write_text("from wf_package.inner import deep")
    (folder / "wf_package" / "inner.py").write_text(WORKFLOW.format(name="deep"))
    (folder / "no_package").mkdir()
    (folder / "no_package" / "module.py").write_text("raise SystemError")
    (folder / "notes.txt").write_text("no module")
    for name in ("_private", ".hidden", "__main__"):
        write(folder, name, "raise SystemError")
    catalog = Catalog.from_folder(folder)
    assert list(catalog.workflows) == ["deep"]
    assert catalog.problems == ()


def test_names_that_are_no_identifiers(folder: Path) -> None:
    """A file such as my-flow.py is loaded as well."""
    write(folder, "my-flow", workflow="mine")
    assert list(Catalog.from_folder(folder).workflows) == ["mine"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\nimport nothing_of_that_name", 2, "ModuleNotFoundError: No module named"),
        ("x = 1\ny = (", 2, "SyntaxError: '(' was never closed"),
        ("\n\n1 / 0", 3, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", 2, "SystemExit: 3"),
        ("from wf_good import missing", 1, "ImportError: cannot import name 'missing'"),
        (
            "from belugawf import workflow\n@workflow\ndef no(ctx): ...",
            2,
            "UsageError: workflow 'no' must be an async def",
        ),
    ],
    ids=["import", "syntax", "error", "exit", "name", "shape"],
)
def test_a_broken_module_leaves_the_others(
    folder: Path, text: str, line: int, message: str
) -> None:
    """Its file, line and reason are told, with the user's frames only; the others work."""
    path = write(folder, "wf_broken", text + "\n")
    write(folder, "wf_good", workflow="good")
    catalog = Catalog.from_folder(folder)
    assert list(catalog.workflows) == ["good"]
    [problem] = catalog.problems
    assert (problem.path, problem.line) == (path, line)
    assert problem.message.startswith(f"does not import: {message}")
    assert str(problem).startswith(f"{path}:{line}: does not import")
    assert problem.traceback is not None
    assert "importlib" not in problem.traceback
    assert "belugawf/authoring" not in problem.traceback
    with pytest.raises(WorkflowLoadError) as caught:
        catalog.workflow("anything")
    assert str(path) in caught.value.message
    assert catalog.workflow("good").name == "good"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class E(Exception):\n    def __str__(self): raise SystemExit(4)\nraise E",
            "E: its text cannot be made: SystemExit",
        ),
        ("e = SyntaxError('x'); e.filename = 5\nraise e", "SyntaxError: x"),
        ("import sys\nsys.modules[__name__] = 5", "TypeError: vars() argument"),
    ],
    ids=["text", "filename", "replaced"],
)
def test_what_a_module_raises_is_the_users(folder: Path, text: str, message: str) -> None:
    """Also where its own code raises when it is described. FINDINGS B1, O7"""
    write(folder, "wf_broken", text + "\n")
    write(folder, "wf_good", workflow="good")
    catalog = Catalog.from_folder(folder)
    assert list(catalog.workflows) == ["good"]
    [problem] = catalog.problems
    assert problem.message.startswith(f"does not import: {message}")


def test_objects_that_answer_no_question(folder: Path) -> None:
    """A proxy that is bound to nothing yet isn't a workflow, and no reason not to load others."""
    write(
        folder,
        "wf_good",
        """
        from belugawf import workflow
        class Proxy:
            def __getattribute__(self, name): raise RuntimeError("bound to nothing")
        proxy = Proxy()
        @workflow
        async def good(ctx): ...
        """,
    )
    catalog = Catalog.from_folder(folder)
    assert list(catalog.workflows) == ["good"]
    assert catalog.problems == ()
    assert list(Catalog.from_functions([catalog.workflow("good").function]).workflows) == ["good"]


def test_a_mended_module(folder: Path) -> None:
    """After it is mended the same file loads, in the same process."""
    write(folder, "wf_broken", "1 / 0")
    assert Catalog.from_folder(folder).problems
    write(folder, "wf_broken", workflow="mended")
    catalog = Catalog.from_folder(folder)
    assert catalog.problems == ()
    assert list(catalog.workflows) == ["mended"]


def test_one_name_in_two_modules(folder: Path) -> None:
    """Neither is taken; the error names both places, and the others work."""
    one, two = write(folder, "wf_one", workflow="same"), write(folder, "wf_two", workflow="same")
    write(folder, "wf_three", workflow="same")
    write(folder, "wf_good", workflow="good")
    catalog = Catalog.from_folder(folder)
    assert list(catalog.workflows) == ["good"]
    with pytest.raises(WorkflowLoadError) as caught:
        catalog.workflow("same")
    assert "workflow 'same' is defined twice" in caught.value.message
    assert f"{one}:7" in caught.value.message
    assert caught.value.hint == "rename one of them, for example @workflow(name=...)"
    with pytest.raises(WorkflowLoadError, match="activity 'same_work' is defined twice"):
        catalog.activity("same_work")
    with pytest.raises(WorkflowLoadError):
        catalog.check_activity("same_work")
    assert {problem.path for problem in catalog.problems} <= {
        one,
        two,
        folder / "wf_three.py",
    }


def test_unknown_names(folder: Path) -> None:
    """The nearest name is offered, else all of them."""
    write(folder, "wf_research", workflow="research")
    write(folder, "wf_report", workflow="report")
    catalog = Catalog.from_folder(folder)
    for name, hint in [("reserch", "did you mean 'research'?"), ("x", "there are: report, ")]:
        with pytest.raises(WorkflowNotFoundError) as caught:
            catalog.workflow(name)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith(hint)


# -- functions -----------------------------------------------------------------------------------


@activity
def beside() -> None: ...


@workflow
async def here(ctx: WorkflowContext) -> None: ...


@workflow(name="here")
async def here_too(ctx: WorkflowContext) -> None: ...


def test_functions() -> None:
    """The functions that were passed, and the activities that their module names."""
    catalog = Catalog.from_functions([here])
    assert list(catalog.workflows) == ["here"]
    assert catalog.activity("beside") is beside
    with pytest.raises(WorkflowNotFoundError) as caught:
        catalog.workflow("x")
    assert caught.value.hint == "there are: here"


def test_the_same_function_twice() -> None:
    """It is one workflow; two functions of one name are a clash."""
    assert list(Catalog.from_functions([here, here]).workflows) == ["here"]
    with pytest.raises(WorkflowLoadError, match="defined twice"):
        Catalog.from_functions([here, here_too]).workflow("here")


@pytest.mark.parametrize("wrong", [beside, 5])
def test_functions_that_are_no_workflows(wrong: Any) -> None:
    """They are named."""
    with pytest.raises(Exception, match="isn't a workflow"):
        Catalog.from_functions([wrong])


def test_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is at fault, and named: a worker tries again."""

    def out_of_descriptors(self: Path) -> Iterator[Path]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "iterdir", out_of_descriptors)
    with pytest.raises(UnavailableError, match=r"workflows' cannot be read: Too many open files"):
        Catalog.from_folder(folder)
