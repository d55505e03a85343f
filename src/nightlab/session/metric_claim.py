"""Whether a lab's metric is computed out of the candidate's reach, or is only the candidate's claim.

An evaluator that imports, runs or unpickles the candidate's files executes its code in the process that prints the
metric: the candidate can print any number there and exit. This is found by reading the evaluator's program without
running it, with the lab's modules that it imports. What it calls by a name that it works out is not found.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import all_suffixes
from importlib.metadata import packages_distributions
from itertools import pairwise

from nightlab.core.config import LabConfig
from nightlab.core.source import syntax_tree
from nightlab.storage.git import in_genome

PRINTED = "it is printed by the candidate's own command"
GUEST, ARTEFACTS = "nightlab_guest", "NIGHTLAB_ARTEFACTS"
DATA = (".wat", ".json", ".toml", ".yaml", ".yml", ".csv", ".txt", ".md", ".npy")  # reading such a file runs nothing
SCRIPTS = (".sh", ".bash", "Makefile", "makefile")
# Calls by which Python executes a file that they, or what they are given, name.
BUILT_IN = {"exec", "eval", "compile", "__import__"}
RUNS = {
    "import_module", "run_path", "run_module", "spec_from_file_location", "exec_module", "load_module", "load_source",
    "system", "popen", "Popen", "check_call", "check_output", "getoutput", "getstatusoutput",
    "create_subprocess_exec", "create_subprocess_shell", "CDLL", "LoadLibrary", "load_library", "addsitedir",
    *(f"{name}{ending}" for name in ("exec", "spawn") for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    "posix_spawn", "posix_spawnp",
}  # fmt: skip
RUNNERS = {"subprocess", "importlib", "runpy", "imp", "code", "codeop", "ctypes", "cffi", "pty", "builtins"}
EVALUATES = {"sympify", "parse_expr", "lambdify", "execute_code"}  # of SymPy and GEPA: they call eval or exec
STARTS = {"run", "call"}  # of subprocess: too common words to count without it
OWNERS = {"system": ("os", "posix"), "Loader": ("yaml", "ruamel.yaml")}  # likewise: of these modules only
HARMLESS = ("importlib.metadata", "importlib.resources")
UNASKED = {"conftest", "sitecustomize", "usercustomize"}  # modules that pytest and Python import by themselves
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
UNPICKLES = {"read_pickle", "unsafe_load", "unsafe_load_all", "UnsafeLoader", "Loader"}  # of pandas, of YAML
IMPORTS = {"import_module", "__import__", "find_spec", "run_module", "importorskip"}  # calls that are given a module
SETTINGS = {  # files that test runners, build tools and linters read by themselves
    "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "pyproject.toml", "tox.ini", "setup.cfg", "setup.py",
    "GNUmakefile", "makefile", "Makefile", ".coveragerc", "mypy.ini", ".mypy.ini", "ruff.toml", ".ruff.toml",
}  # fmt: skip
OURS = "nightlab"  # how the names of the modules begin that we lay beside the lab's
MODULES = tuple(all_suffixes())

Read = Callable[[str], str | None]


def metric_claim(lab: LabConfig, files: Sequence[str], read: Read) -> str:
    """Why the metric is only the candidate's claim, in words; empty if a separate process computes it.

    ``files``: the lab's paths; ``read(path)`` gives a file's text.
    """
    if lab.evaluator is None:
        return PRINTED
    apart = lab.evaluator.stand_in  # a stand-in is in its place
    genome = [path for path in files if in_genome(path, lab.genome) and not path.endswith(DATA) and path != apart]
    served = lab.evaluator.served
    # a word with blanks may be a command itself, as of ``sh -c``
    words = [
        part
        for word in shlex.split(lab.evaluator.command)
        for part in (word, *(_script_words(word) if " " in word else ()))
    ]
    if ran := _named(words, genome):
        return f"the evaluator's command runs {ran}, a file of the genome"
    executing, reads = "", ARTEFACTS in lab.evaluator.command
    for path, text, nodes, taken in _frozen(_programs(words, files), files, genome, read, served=served):
        if taken and path.endswith(SCRIPTS):
            return f"{path}, the evaluator's, runs {taken}, a file of the genome"
        if taken:
            return f"{path} imports {taken}: the candidate's code runs in the evaluator's process"
        if ran := _runs(nodes, genome):
            return f"{path} runs {ran}: the candidate's code runs in the evaluator's process"
        bound = imported_names(nodes)
        executing = executing or (path if any(executes(node, bound) for node in nodes) else "")
        reads |= ARTEFACTS in text
    if executing and reads:
        return f"{executing} may execute or unpickle what the candidate left: its code runs in the evaluator's process"
    return ""


def taken_for(path: str, lab: LabConfig, files: Sequence[str], read: Read) -> str:
    """What the evaluator or a check would take a new file for, in words; empty if there is nothing, or neither.

    ``files``: the lab's paths; ``read(path)`` gives a file's text.
    """
    if path in files or not (lab.checks or lab.evaluator):
        return ""
    if module := hidden_module(path, lab, files, read):
        return f"imported as {module} by the evaluator or a check"
    return "read as the settings of a check or of the evaluator" if posixpath.basename(path) in SETTINGS else ""


def hidden_module(path: str, lab: LabConfig, files: Sequence[str], read: Read) -> str:
    """The module that a new file would be taken for by the evaluator or a check; empty if there is none.

    Python looks for modules beside the program that it runs, or in the lab's folder, before it looks at its library,
    at ours and at what is installed; for a package before a file, and for a file before a folder. It runs the packages
    that a module is in. ``files``: the lab's paths; ``read(path)`` gives a file's text.
    """
    commands = [check.command for check in lab.checks] + ([lab.evaluator.command] if lab.evaluator else [])
    if path in files or not commands or not path.endswith(MODULES):
        return ""
    place, name = posixpath.split(path)
    stem, kind = name.split(".")[0], ".py"
    if posixpath.basename(place) == "__pycache__":
        place = posixpath.dirname(place)
    if stem == "__init__":
        (place, stem), kind = posixpath.split(place), "/__init__.py"
    module = posixpath.join(place, stem)
    genome = [file for file in files if in_genome(file, lab.genome)]
    frozen = [file for file in files if file not in genome and file.endswith((*MODULES, *SCRIPTS))]
    if any(file.startswith((f"{module}.", f"{module}/")) and file.endswith(MODULES) for file in frozen):
        return stem
    # A command that names no program of the lab, as pytest, may run any of its files.
    start = [found for command in commands for found in list(_programs(shlex.split(command), files)) or frozen]
    reached = list(_frozen(start, files, genome, read))
    # What a statement that runs the genome anyway imports is the genome's own.
    nodes = [
        (beside, node)
        for beside, _, nodes, _ in reached
        for node in nodes
        if not any(imported_files(node, beside, genome))
    ]
    if any(any(imported_files(node, beside, [module + kind])) for beside, node in nodes):
        return stem
    known = stem in sys.stdlib_module_names | UNASKED or stem.startswith(OURS) or stem in _installed()
    known |= f"{module}.py" in files or any(name.split(".")[0] == stem for _, node in nodes for name in _asked(node))
    searched = {"", *map(posixpath.dirname, start), *(posixpath.dirname(program) for program, *_ in reached)}
    return stem if known and place in searched else ""


@cache
def _installed() -> Collection[str]:
    """The top-level modules of what is installed."""
    return packages_distributions().keys()


def _programs(words: Iterable[str], files: Sequence[str]) -> Iterator[str]:
    """The lab's files that a command line names: paths, and modules after ``-m``."""
    before = ""
    for word in words:
        path = posixpath.normpath(word)
        if path in files:
            yield path
        elif before == "-m":
            yield from _module(word, "", files)
        before = word


def _frozen(
    start: Iterable[str], files: Sequence[str], genome: Sequence[str], read: Read, *, served: bool = False
) -> Iterator[tuple[str, str, list[ast.AST], str]]:
    """The programs and scripts outside the genome that run when those of ``start`` do.

    Each with its text, the nodes of its syntax tree that run (none of a script) and the genome file that it imports or
    names, if it does. ``served``: without what is there for a start by hand.
    """
    seen, todo = set(genome), list(start)
    while todo:
        path = todo.pop(0)
        if path in seen:
            continue
        seen.add(path)
        text, nodes = read(path) or "", list[ast.AST]()
        if path.endswith(SCRIPTS):
            runs = list(_programs(_script_words(text), files))
        elif program := syntax_tree(text):
            nodes = list(_reached(program) if served else ast.walk(program))
            runs = [found for node in nodes for found in imported_files(node, path, files)]
        else:
            continue
        yield path, text, nodes, next((found for found in runs if found in genome), "")
        todo += runs


def _named(words: Iterable[str], genome: Sequence[str]) -> str:
    """The first genome file among the words of a command line; empty if there is none."""
    return next(_programs(words, genome), "")


def _script_words(text: str) -> list[str]:
    bare = re.sub(r"(?m)(^|\s)#.*$", "", text)
    return [word.strip("\"'") for word in re.split(r"[\s;|&()<>=:]+", bare) if word]


def _reached(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a served evaluator that run whenever it starts: not what is there for a start by hand."""
    for child in ast.iter_child_nodes(node):
        by_hand = isinstance(child, ast.If) and any(
            isinstance(name, ast.Name) and name.id == GUEST for name in ast.walk(child.test)
        )
        if not by_hand and not isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ExceptHandler
        ):
            yield child
            yield from _reached(child)


def imported_files(node: ast.AST, path: str, files: Sequence[str]) -> Iterator[str]:
    """The lab's files that an import statement in ``path`` runs."""
    beside = posixpath.dirname(path)
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _module(alias.name, beside, files)
    elif isinstance(node, ast.ImportFrom):
        base = beside
        for _ in range(node.level - 1):
            base = posixpath.dirname(base)
        stem = node.module or ""
        for name in (stem, *(f"{stem}.{alias.name}".lstrip(".") for alias in node.names)):
            yield from _module(name, base, files)


def _asked(node: ast.AST) -> list[str]:
    """The modules that a statement imports, or that a call asks for by name."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return _tops(node)
    first = node.args[:1] if isinstance(node, ast.Call) and _called(node) in IMPORTS else []
    return [arg.value for arg in first if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]


def _module(name: str, beside: str, files: Sequence[str]) -> Iterator[str]:
    """The files of a module and of the packages that it is in, beside the importing file or in the lab's folder."""
    parts = name.split(".") if name else []
    for folder in dict.fromkeys((beside, "")):
        for end in range(1, len(parts) + 1):
            stem = posixpath.join(folder, *parts[:end])
            yield from (path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in files)


def _runs(nodes: Sequence[ast.AST], genome: Sequence[str]) -> str:
    """The genome file that the nodes name, if some call among them executes files; else empty."""
    named = [node for node in nodes if isinstance(node, ast.Call)]
    bound = imported_names(nodes)
    calls = {
        _called(node)
        for node in named
        if (_built_in(node.func, bound) or _called(node) not in BUILT_IN) and _owned(node.func, bound)
    }
    known = {name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for name in _tops(node)}
    if not (calls & (RUNS | BUILT_IN) or (calls & STARTS and "subprocess" in known)):
        return ""
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    words = {posixpath.normpath(word) for text in strings for word in (text, *_script_words(text))}
    for path in genome:
        module = path.removesuffix(".py").replace("/", ".") if path.endswith(".py") else path
        if {path, posixpath.basename(path), module} & words:
            return path
    return ""


def _tops(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]


def imported_names(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """What the names stand for that the import statements among the nodes bind: modules, and what is in them."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                found |= {alias.asname: alias.name} if alias.asname else {top: top}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def _dotted(node: ast.AST, bound: Mapping[str, str]) -> str:
    """A name with the module that it is of, as ``os.system``; empty if a node is no name."""
    if isinstance(node, ast.Name):
        return bound.get(node.id, node.id)
    return f"{_dotted(node.value, bound)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def _built_in(node: ast.AST, bound: Mapping[str, str]) -> bool:
    """Whether a plain name is a built-in function that executes: not ``compile`` of another module, as ``re``."""
    word = node.id if isinstance(node, ast.Name) else ""
    return word in BUILT_IN and (word != "compile" or _dotted(node, bound) in ("compile", "builtins.compile"))


def _owned(node: ast.AST, bound: Mapping[str, str] | None) -> bool:
    """Whether a name that is a common word is of the module that gives it the meaning in question here."""
    owner, _, word = _dotted(node, bound or {}).rpartition(".")
    return word not in OWNERS or bound is None or owner in OWNERS[word]


def executes(node: ast.AST, bound: Mapping[str, str] | None = None) -> bool:
    """Whether a node names what can execute a file or a text, even as an alias, or unpickles something.

    For an evaluator that reads what the candidate left, and has no other reason to execute anything. ``bound``: what
    its imports bind (`imported_names`); without it, common words as ``system`` count of any module.
    """
    if isinstance(node, ast.Import | ast.ImportFrom):
        inner = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
        names = [inner + alias.name for alias in node.names]
        return any(_imports_execution(name, inner=bool(inner)) for name in names)
    if isinstance(node, ast.Name):
        return _built_in(node, bound or {}) or node.id in EVALUATES | {"__builtins__"}
    if isinstance(node, ast.Attribute):
        return node.attr in RUNS | EVALUATES | UNPICKLES | {"__import__"} and _owned(node, bound)
    evaluates = isinstance(node, ast.Call) and bool(node.args) and _called(node) == "eval"  # pandas' and others'
    return evaluates or unpickles(node, bound) or _finds_modules(node)


def _imports_execution(name: str, *, inner: bool) -> bool:
    """Whether an imported module, or (``inner``) what is imported of one, can execute something."""
    owner, _, word = name.rpartition(".")
    if name.startswith(HARMLESS):
        return False
    common = word in OWNERS and owner not in OWNERS[word]
    taken = inner and (name == "sys.path" or (word in RUNS | EVALUATES | UNPICKLES and not common))
    return taken or name.split(".")[0] in RUNNERS | UNPICKLERS


def _finds_modules(node: ast.AST) -> bool:
    """Whether a statement changes where modules are found, other than to where the program itself is."""
    if not isinstance(node, ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign):
        return False
    inner = list(ast.walk(node))
    path = any(isinstance(part, ast.Attribute) and ast.unparse(part) == "sys.path" for part in inner)
    return path and not any(isinstance(part, ast.Name) and part.id == "__file__" for part in inner)


def executed_text(nodes: Sequence[ast.AST]) -> ast.expr | None:
    """What among the nodes of a program may execute a text, or unpickle bytes, that it is given; None if nothing may.

    A file that the program opens was not written by who gives the text: unpickling it does not count.
    """
    bound, opened = imported_names(nodes), set[str]()
    given = [(node.context_expr, node.optional_vars) for node in nodes if isinstance(node, ast.withitem)]
    given += [(node.value, node.targets[0]) for node in nodes if isinstance(node, ast.Assign)]
    for value, target in given:
        if isinstance(value, ast.Call) and _called(value) == "open" and isinstance(target, ast.Name):
            opened.add(target.id)
    return next((node for node in nodes if isinstance(node, ast.expr) and _of_text(node, bound, opened)), None)


def _of_text(node: ast.expr, bound: Mapping[str, str], opened: Collection[str]) -> bool:
    owner, _, word = _dotted(node, bound).rpartition(".")
    if word in UNPICKLES - {"read_pickle"} and _owned(node, bound):
        return True
    if word in EVALUATES or (owner in UNPICKLERS and word in ("loads", "Unpickler")):
        return True
    if word == "compile":
        return owner in ("", "builtins")
    if word in ("exec", "eval") and (isinstance(node, ast.Name) or owner == "builtins"):
        return True
    if isinstance(node, ast.List | ast.Tuple):  # a command: ["python", "-c", text]
        after = [item for flag, item in pairwise(node.elts) if isinstance(flag, ast.Constant) and flag.value == "-c"]
        return any(not isinstance(item, ast.Constant) for item in after)
    if not isinstance(node, ast.Call) or not node.args:
        return False
    first, called = node.args[0], _dotted(node.func, bound)
    if _called(node) in ("exec", "eval"):  # a method, as of a data frame; not one of the evaluator's own
        return called.split(".")[0] not in ("self", "cls")
    if called.endswith(".load") and (called.split(".")[0] in UNPICKLERS or unpickles(node, bound)):
        ours = isinstance(first, ast.Constant) or (isinstance(first, ast.Name) and first.id in opened)
        return not (ours or (isinstance(first, ast.Call) and _called(first) == "open"))
    return unpickles(node, bound) and _called(node) == "loads"


def unpickles(node: ast.AST, bound: Mapping[str, str] | None) -> bool:
    """Whether a call loads an object in a format that can run code."""
    if isinstance(node, ast.Call) and _called(node) in UNPICKLES and _owned(node.func, bound):
        return True
    if not isinstance(node, ast.Call) or _called(node) not in ("load", "loads", "open"):
        return False
    keywords = {key.arg: key.value.value for key in node.keywords if isinstance(key.value, ast.Constant)}
    owner = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
    if _called(node) == "open":
        return owner == "shelve"
    return owner in UNPICKLERS or keywords.get("allow_pickle") is True or keywords.get("weights_only") is False


def _called(node: ast.Call) -> str:
    return (
        node.func.id
        if isinstance(node.func, ast.Name)
        else node.func.attr
        if isinstance(node.func, ast.Attribute)
        else ""
    )
