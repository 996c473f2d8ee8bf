"""The shape of the package, read from its source: who imports whom, where each foreign package lives, how long things are.

Imports inside functions count like any other: a cycle that is only entered late is still one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]

#: Where each third-party package may be imported: modules, or patterns of them.
HOMES: Mapping[str, tuple[str, ...]] = {
    "aiohappyeyeballs": ("endpoint/http/http1.py",),
    "aiohttp": ("service/*.py", "endpoint/http/aiohttp_session.py", "datasets/websites.py"),
    "asyncio_throttle": ("endpoint/pacing/rate_limiter.py",),
    "backports": ("datasets/opening.py",),
    "botocore": ("datasets/buckets.py",),
    "compression": ("datasets/opening.py",),  # of the standard library, but only of a later Python
    "fsspec": ("storage/buckets.py", "datasets/objects.py", "datasets/remote.py", "datasets/websites.py"),
    "gcsfs": ("datasets/buckets.py",),
    "genai_prices": ("catalogue.py",),
    "httptools": ("endpoint/http/connection.py",),
    "huggingface_hub": ("datasets/websites.py",),
    "jinja2": ("templates/compile.py", "templates/conversions.py", "templates/sandbox.py", "analysis/pages/rendering.py"),
    "jsonschema_rs": ("foreign/schemas.py",),
    "markupsafe": ("analysis/pages/rendering.py", "analysis/pages/plots.py"),
    "math_verify": ("foreign/mathematics.py",),
    "msgspec": (
        "structs.py",
        "jsontext.py",
        "endpoint/recordings/*.py",
        "endpoint/answers/*.py",
        "storage/*.py",
        "batch/lines.py",
        "scale/beat.py",
        "service/*.py",
        "foreign/bodies.py",
    ),
    "nltk": ("foreign/meteor.py", "foreign/words.py"),
    "pandas": ("analysis_api.py", "datasets/given.py", "results/frames.py", "results/run.py"),
    "punkt": ("foreign/words.py",),
    "pyarrow": ("datasets/arrowrows.py", "storage/arrow_arrays.py", "storage/columns.py", "storage/parquet.py"),
    "pydantic": ("config/*.py", "tasks/*.py", "service/*.py"),
    "pydantic_core": ("config/mistakes.py", "tasks/__init__.py", "tasks/fields.py", "tasks/metric.py"),
    "rapidfuzz": ("foreign/edits.py",),
    "ray": ("scale/raycluster.py",),
    "rouge_score": ("foreign/rouge.py",),
    "s3fs": ("datasets/buckets.py",),
    "sacrebleu": ("foreign/translation.py",),
    "tqdm": ("results/progress.py",),
    "uvloop": ("session.py",),
    "yaml": ("config/yaml_text.py",),
    "yarl": ("endpoint/http/aiohttp_session.py",),
}

#: The rooms, from the lowest to the highest: each may import what stands above it here, and nothing beside it.
ROOMS: Sequence[tuple[str, ...]] = (
    ("structs", "analysis.statistics"),
    ("reading", "foreign"),
    ("",),
    ("secrets", "processes", "templates"),
    ("datasets", "tasks", "storage"),
    ("config",),
    ("results", "endpoint.answers"),
    ("endpoint.http", "endpoint.pacing"),
    ("endpoint.recordings",),
    ("endpoint", "pipeline"),
    ("session",),
    ("background",),
    ("lanes", "batch"),
    ("running",),
    ("scale",),
    ("evaluation",),
    ("analysis",),
    ("analysis.pages",),
    ("analysis.compare", "analysis.report"),
    ("check", "api", "analysis_api"),
    ("service",),
    ("service.web",),
    ("service.api",),
    ("cli",),
    ("__main__",),
)
#: What everything else is built on.
CORE = ("types", "errors", "pipeline.pipeline", "pipeline.budget", "endpoint.pacing")
#: What the core must not know, also not through others: the network, file formats, the config file, the command line.
NOT_OF_THE_CORE = {
    *("aiohttp", "yarl", "httptools", "pyarrow", "pandas", "yaml", "tqdm", "uvloop", "argparse", "csv", "gzip"),
    *("runner.endpoint.http", "runner.endpoint.recordings", "runner.endpoint.client", "runner.storage", "runner.datasets"),
    *(
        "runner.cli",
        "runner.config",
        "runner.evaluation",
        "runner.results",
        "runner.pipeline.resume",
        "runner.pipeline.pending",
    ),
}
#: The modules that put the others together, and the only ones that may import so many of them: a run, and the list of all
#: commands. Small things that everybody uses do not count.
KNOWS_EVERYBODY = ("evaluation", "running", "cli.main", "service.api.app")
MOST_IMPORTS = 12
LONGEST_FUNCTION = 50


@dataclass(frozen=True)
class Module:
    """A module of the package, parsed."""

    name: str
    #: Below the package, as `endpoint/retry.py`.
    path: PurePosixPath
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All of the tree."""
        return list(ast.walk(self.tree))

    def imports(self) -> Iterator[str]:
        """Yield the full name of everything that is imported, wherever in the module."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: relative imports hide where a name comes from"
                assert node.module is not None
                yield from (self._full_name(node.module, alias.name) for alias in node.names)

    @staticmethod
    def _full_name(module: str, name: str) -> str:
        """Return the module that `from module import name` means: the name itself may be one."""
        full = f"{module}.{name}"
        path = ROOT / full.replace(".", "/")
        return full if path.is_dir() or path.with_suffix(".py").is_file() else module


@cache
def modules() -> Mapping[str, Module]:
    found = {}
    for file in sorted((ROOT / "runner").rglob("*.py")):
        path = PurePosixPath(file.relative_to(ROOT / "runner").as_posix())
        name = ".".join(["runner", *path.with_suffix("").parts]).removesuffix(".__init__")
        found[name] = Module(name, path, ast.parse(file.read_text(encoding="utf-8")))
    return found


@cache
def graph() -> Mapping[str, frozenset[str]]:
    """Return which modules of the package each one imports."""
    return {name: frozenset(modules().keys() & set(module.imports())) - {name} for name, module in modules().items()}


def test_there_is_something_to_read() -> None:
    assert len(modules()) > 30
    assert "runner.endpoint.pacing.retry" in graph()["runner.running"]
    assert "runner.jsontext" in graph()["runner.endpoint.answers.responses"]


def test_no_module_imports_itself_through_others() -> None:
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' → '.join(error.args[1])}")


def test_every_third_party_package_has_its_home() -> None:
    for module in modules().values():
        for package in {imported.partition(".")[0] for imported in module.imports()} - {"runner", *sys.stdlib_module_names}:
            homes = HOMES.get(package, ())
            assert any(fnmatch(str(module.path), home) for home in homes), (
                f"{package} is imported in {module.path}, not in {homes}"
            )


def test_every_home_is_lived_in() -> None:
    """A row of the table that nothing uses any more would hide that a package is not needed."""
    used = {imported.partition(".")[0] for module in modules().values() for imported in module.imports()}
    assert {package for package in HOMES if package not in used} == set()


def room_of(module: str) -> str:
    """Return the room that a module stands in: the longest name of `ROOMS` that its own begins with."""
    below = module.removeprefix("runner").removeprefix(".")
    rooms = [room for level in ROOMS for room in level if room and f"{below}.".startswith(f"{room}.")]
    return max(rooms, key=len, default="")


def test_rooms_import_downward_only() -> None:
    level_of = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
    upward = {
        f"{name} imports {known}"
        for name, imported in graph().items()
        for known in imported
        if name != "runner" and room_of(name) != room_of(known) and level_of[room_of(name)] <= level_of[room_of(known)]
    }
    assert upward == set()


def test_every_folder_is_a_room() -> None:
    folders = {".".join(module.path.parent.parts) for module in modules().values()}
    assert folders - {room for level in ROOMS for room in level} == {"tasks.metrics"}


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_no_network_no_file_format_and_no_command_line(name: str) -> None:
    reached, waiting = set[str](), [module for module in modules() if f"{module}.".startswith(f"runner.{name}.")]
    assert waiting
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph()[module]
    imported = {known for module in reached for known in modules()[module].imports()} | reached
    # With `a.b.c` also `a.b` and `a` are known.
    known = {".".join(one.split(".")[:length]) for one in imported for length in range(1, one.count(".") + 2)}
    assert known & NOT_OF_THE_CORE == set()


def test_only_those_that_put_a_run_together_know_so_many_others() -> None:
    others = {name: {one for one in known if room_of(one) not in {"", "structs"}} for name, known in graph().items()}
    many = {name.removeprefix("runner."): sorted(known) for name, known in others.items() if len(known) > MOST_IMPORTS}
    assert set(many) == set(KNOWS_EVERYBODY), many


def test_only_the_command_line_starts_an_evaluation() -> None:
    importers = {name for name, imported in graph().items() if "runner.evaluation" in imported}
    allowed = {f"runner.cli.{name}" for name in ("run", "rescore", "check", "dry_run", "signals", "shard", "work", "batch")}
    assert importers <= {"runner.api", "runner.service.beginning", "runner.service.supervisor", *allowed}


def test_every_module_says_in_a_sentence_what_it_is() -> None:
    for module in modules().values():
        first_paragraph = (ast.get_docstring(module.tree) or "").split("\n\n")[0].strip()
        assert first_paragraph.endswith((".", ":")), f"{module.path}: {first_paragraph!r}"


def _kind_and_name(name: str) -> tuple[int, str]:
    """Constants first, then classes, then functions; each in the order of the alphabet."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def defined_in(module: Module) -> set[str]:
    """Return the names that a module's own statements bind at its top, and those that only a type checker sees."""
    names = set[str]()
    typed = [node for block in module.tree.body if isinstance(block, ast.If) for node in block.body]
    for node in [*module.tree.body, *typed]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def check_all(module: Module) -> None:
    """Assert that `__all__` is sorted, and every name in it defined."""
    lists = [
        ast.literal_eval(node.value)
        for node in module.tree.body
        if isinstance(node, ast.Assign) and any(isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets)
    ]
    public = [node for node in module.tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    if not lists:
        assert not public, f"{module.path} defines something and has no __all__"
        return
    (names,) = lists
    assert names == sorted(names, key=_kind_and_name), module.path
    assert len(names) == len(set(names)), module.path
    assert set(names) <= defined_in(module), module.path
    assert not any(name.startswith("_") for name in names), module.path


def test_all_is_sorted_and_every_name_in_it_is_defined() -> None:
    for module in modules().values():
        check_all(module)


def everywhere() -> Iterator[tuple[Module, ast.AST]]:
    """Yield all nodes of all modules."""
    yield from ((module, node) for module in modules().values() for node in module.nodes)


def test_no_function_is_long() -> None:
    for module, node in everywhere():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{module.path}:{node.lineno}: {node.name} has {length} lines"


def test_nobody_catches_everything_silently() -> None:
    """`except:` and `except BaseException` would swallow a cancellation: only a bare `raise` at the end allows them."""
    for module, node in everywhere():
        if isinstance(node, ast.ExceptHandler):
            everything = node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "BaseException")
            last = node.body[-1]
            assert not everything or (isinstance(last, ast.Raise) and last.exc is None), f"{module.path}:{node.lineno}"


def test_what_runs_apart_imports_nothing_of_the_program() -> None:
    """A process for a row's pattern or schema is there at once."""
    apart = {name for name in graph() if name.startswith("runner.foreign") or name == "runner.processes.child"}
    assert len(apart) > 3
    assert {imported for name in apart for imported in graph()[name]} <= apart
