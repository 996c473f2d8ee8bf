"""The command line: arguments, signals, exit codes.

Exit codes: 0 finished with errors within `limits.fail_on_error`; 1 finished with more; 2 wrong usage, config or dataset, and
nothing was sent; 3 stopped early by itself, resumable; 130 or 143 stopped by SIGINT or SIGTERM, resumable.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from runner.errors import StorageError, UsageError

if TYPE_CHECKING:
    from runner.evaluate import Evaluation, Resume
    from runner.results.closing import Report
    from runner.storage.rundir import RunDir

__all__ = ["main", "program"]

_log = logging.getLogger(__name__)
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: The third signal is the system's.
_LAST_HANDLED = 2
_COMMANDS = ("run", "check", "schema", "export")

FINISHED, ERRORS, USAGE, STOPPED = 0, 1, 2, 3
#: Few cycles are made, and each search for them looks at everything that is young; one that looks at what thousands of requests
#: in flight hold stops the program for half a second. Whoever runs an evaluation from Python decides for himself.
_GC_THRESHOLDS = (50_000, 50)


def program() -> NoReturn:
    """Run the command that was typed, and exit."""
    code = main(own_process=True)
    # What comes now finds nothing to stop: while Python tidies up, a signal would only change the exit code.
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def main(argv: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Run a command; return the exit code. `own_process` says that nothing else is done in this process."""
    _open_closed_streams()
    # Looking for plugins of the validation library means reading the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = _parser().parse_args(_with_command(list(sys.argv[1:] if argv is None else argv)))
    arguments.own_process = own_process
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        if own_process:
            gc.set_threshold(*_GC_THRESHOLDS)
            _load(arguments.modules)
        return int(arguments.command(arguments))
    except UsageError as error:
        print(error, file=sys.stderr)
        return USAGE
    except StorageError as error:
        print(error, file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001  exit code 1, which Python would give, says that the evaluation finished
        _log.exception("unexpected; what was answered is kept, and the run can be resumed")
        return STOPPED


def _load(modules: Sequence[str]) -> None:
    """Load what a command will import. To look for garbage meanwhile takes a sixth longer, and finds next to none."""
    gc.disable()
    try:
        for module in modules:
            import_module(module)
        gc.freeze()
    finally:
        gc.enable()


def _open_closed_streams() -> None:
    """Put the null device where stdout or stderr was closed: else the next file opened would take their place, and the log."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _with_command(argv: list[str]) -> list[str]:
    """`runner CONFIG` is short for `runner run CONFIG`."""
    first = next((word for word in argv if not word.startswith("-")), None)
    return argv if first is None or first in _COMMANDS else ["run", *argv]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runner", description="Evaluate chat endpoints: a YAML config in, Parquet out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run an evaluation (`runner CONFIG.yaml` is short for it)")
    run.set_defaults(command=_run, modules=["runner.evaluate"])
    _add_config(run)
    _add_resume(run)
    run.add_argument("--dry-run", action="store_true", help="check everything, send nothing")
    run.add_argument("--no-progress", action="store_true", help="log lines instead of the bar")
    check = commands.add_parser("check", help="probe the endpoint: which request kinds work")
    check.set_defaults(command=_check, modules=["runner.evaluate", "runner.check"])
    check.add_argument("config", metavar="CONFIG.yaml", type=Path)
    check.add_argument("--set", metavar="KEY.PATH=VALUE", action="append", default=[], help="override the config (repeatable)")
    check.add_argument("--json", action="store_true", help="everything as JSON, for machines")
    check.add_argument("--curl", action="store_true", help="the curl line of every request, not only of what does not work")
    check.add_argument("--save", metavar="DIR", type=Path, help="write the bodies there; the curl lines read them")
    schema = commands.add_parser("schema", help="print the JSON Schema of the config file, for editors")
    schema.set_defaults(command=_schema, modules=["runner.config.model"])
    export = commands.add_parser("export", help="make the Parquet files from a run's journal")
    export.set_defaults(command=_export, modules=["runner.results.views"])
    export.add_argument("run_dir", metavar="RUN_DIR", type=Path)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path, nargs="?")  # it may stand behind `--resume`
    parser.add_argument("--limit", metavar="N", type=int, help="only the first N items")
    parser.add_argument("--set", metavar="KEY.PATH=VALUE", action="append", default=[], help="override the config (repeatable)")
    parser.add_argument("--output", metavar="DIR", help="instead of `output:`")


def _add_resume(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--resume",
        metavar="RUN",
        nargs="?",
        const=True,
        help="continue this config's latest run, or the one whose directory or id is named; of a finished one send nothing and "
        "print its summary again; start a new one where there is none",
    )
    run.add_argument("--or-new", action="store_true", help="with --resume: start a new run where that one is finished")
    run.add_argument("--retry-errors", action="store_true", help="with --resume: ask again for rows that ended as errors")
    run.add_argument("--new-base-url", action="store_true", help="with --resume: go on although endpoint.base_url is another")


def _overrides(arguments: argparse.Namespace) -> list[str]:
    overrides = list(arguments.set)
    if arguments.limit is not None:
        overrides.append(f"dataset.limit={arguments.limit}")
    if arguments.output is not None:
        overrides.append(f"output={json.dumps(arguments.output)}")
    return overrides


def _run(arguments: argparse.Namespace) -> int:
    from runner.evaluate import prepare

    resume = _resume(arguments)
    bar = not arguments.no_progress and sys.stderr.isatty()
    evaluation = prepare(arguments.config, _overrides(arguments), bar=bar)
    if arguments.own_process:
        _do_without_numpy()
    if arguments.dry_run:
        from runner.cli.dry_run import dry_run

        return ERRORS if dry_run(evaluation, lambda text: print(evaluation.redactor.text(text))) else FINISHED
    signals = _Signals()
    try:
        report = evaluation.run(resume=resume, loop=partial(_run_loop, beside=lambda: signals.heard(evaluation)))
    except (Exception, KeyboardInterrupt) as error:
        if evaluation.run_dir is not None:
            reason = evaluation.redactor.text(str(error)) or type(error).__name__
            _print_stopped(evaluation, evaluation.report(reason), arguments)
        raise
    if report.stopped is not None:
        _print_stopped(evaluation, report, arguments)
        return signals.exit_code or STOPPED
    _print(report.text())
    return ERRORS if report.errors > evaluation.errors_allowed(report.results + report.errors) else FINISHED


def _resume(arguments: argparse.Namespace) -> Resume | bool:
    """Return what is to be resumed, and find the config: it may be the word behind `--resume`. Raises UsageError."""
    from runner.evaluate import Resume

    config, named = arguments.config, arguments.resume
    if isinstance(named, str) and (config is None or (config.is_dir() and Path(named).is_file())):
        arguments.config, named = Path(named), True if config is None else str(config)
    if arguments.config is None:
        raise UsageError("the following arguments are required: CONFIG.yaml")
    if named is None:
        for option in ("or_new", "retry_errors", "new_base_url"):
            if getattr(arguments, option):
                raise UsageError(f"--{option.replace('_', '-')} goes with --resume")
        return False
    return Resume(
        run=named if isinstance(named, str) else None,
        or_new=arguments.or_new,
        retry_errors=arguments.retry_errors,
        new_base_url=arguments.new_base_url,
    )


def _print_stopped(evaluation: Evaluation, report: Report, arguments: argparse.Namespace) -> None:
    """Print what there is of a run that ended early, and how it goes on."""
    assert evaluation.run_dir is not None
    _print(report.text())
    # An override may hold a key: then it has to be written anew.
    _print(f"  resume     {evaluation.redactor.text(_resume_command(arguments, evaluation.run_dir))}")


def _check(arguments: argparse.Namespace) -> int:
    from runner.check import check_endpoint
    from runner.evaluate import prepare

    found = prepare(arguments.config, arguments.set)
    rows = found.dataset.first_rows
    report = asyncio.run(check_endpoint(found.config, found.file.document, rows, found.environment, save=arguments.save))
    if arguments.json:
        _print(json.dumps(report.document(), indent=2, ensure_ascii=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        _print(report.text(width=width, every_line=arguments.curl))
    return FINISHED if report.works else ERRORS


def _resume_command(arguments: argparse.Namespace, run: RunDir) -> str:
    """Return the command that goes on with this run: without its overrides it would be another evaluation."""
    words = ["--resume"] if run.is_latest else ["--resume", str(run.path)]
    words += ["--retry-errors"] if arguments.retry_errors else []
    overrides = [word for override in _overrides(arguments) for word in ("--set", override)]
    return shlex.join(["python", "-m", "runner", str(arguments.config), *words, *overrides])


def _schema(_arguments: argparse.Namespace) -> int:
    from runner.config.model import schema

    _print(json.dumps(schema(), indent=2))
    return FINISHED


def _export(arguments: argparse.Namespace) -> int:
    from runner.results.views import export

    if arguments.own_process:
        _do_without_numpy()
    _print(export(arguments.run_dir).text())
    return FINISHED


def _do_without_numpy() -> None:
    """Keep numpy from being loaded with pyarrow, which takes it where it is: that costs twice the time of pyarrow itself.

    Writing Parquet files needs nothing of it. Where a file of the dataset is Arrow data, whose times in nanoseconds do, pyarrow
    and numpy are there already: the first rows of all files were read when the dataset was opened.
    """
    sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]  # as for a package that is not installed


def _print(text: str) -> None:
    """Print to stdout; a reader that has gone away or a full disk is no reason to fail, for everything is in files."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_loop(main_coroutine: Coroutine[Any, Any, Any], *, beside: Callable[[], AbstractContextManager[None]]) -> Any:
    """Run a coroutine, on uvloop where it is installed, and what is beside it in the running loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop

    async def started() -> Any:
        with beside():
            return await main_coroutine

    with asyncio.Runner(loop_factory=factory) as loop:
        return loop.run(started())


class _Signals:
    """SIGINT, SIGTERM and SIGHUP: the first drains, the second drops what is in flight, the third ends at once.

    They are counted where Python stands, not by the event loop, which may be blocked; and the third is left to the system,
    which also ends what stands in a call that lets no Python code run.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}

    @contextmanager
    def heard(self, evaluation: Any) -> Iterator[None]:
        """Listen while the running loop runs."""
        act = asyncio.get_running_loop().call_soon_threadsafe
        for number in _STOPPING:
            if (before := signal.getsignal(number)) is not signal.SIG_IGN:  # `nohup` and shells in the background ignore them
                self._before[number] = before
                signal.signal(number, lambda came, _frame: self._count_one(signal.Signals(came), act, evaluation))
        try:
            yield
        finally:
            if self._count < _LAST_HANDLED:
                for number, before in self._before.items():
                    signal.signal(number, before)

    def _count_one(self, number: signal.Signals, act: Callable[..., Any], evaluation: Any) -> None:
        self._count += 1
        self.exit_code = self.exit_code or 128 + number
        act(self._drain if self._count == 1 else self._drop, number, evaluation)
        if self._count == _LAST_HANDLED:
            for one in self._before:
                signal.signal(one, signal.SIG_DFL)

    def _drain(self, number: signal.Signals, evaluation: Any) -> None:
        flying = evaluation.drain(f"stopped by {number.name}")
        within = f"within {evaluation.config.limits.drain:g} s (limits.drain)"
        _log.info("%s: no new requests; %d in flight may finish %s; once more drops them", number.name, flying, within)

    def _drop(self, number: signal.Signals, evaluation: Any) -> None:
        _log.info("%s: dropping what is in flight", number.name)
        evaluation.drop()
