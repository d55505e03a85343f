"""The canonical form of a genome's program, to recognise a duplicate written differently.

Every step preserves behaviour: comments, layout and docstrings are dropped, seeds zeroed, constants that are read only
in their file inlined with their value on this device, variables numbered, and definitions sorted where their order has
no effect. Addressing programs by content instead of names follows Unison (unison-lang.org). A step that might change
behaviour is skipped: equal forms mean equal programs, but one program may have two forms.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any
from unicodedata import normalize

from nightlab.core.program.constants import resolved
from nightlab.core.source import TOO_MUCH, bare, parsed, unseeded

WORD = re.compile(r"\w+")
SEES_NAMES = {"eval", "exec", "globals", "locals", "vars", "dir", "inspect", "__main__"}
SEES_THEM_TOO = {"__dict__", "_getframe", "__globals__"}  # attributes
Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def identifiers(text: str) -> set[str]:
    """All words in a text that may be identifiers."""
    return set(WORD.findall(text))


def fingerprint(genome: Mapping[str, str], device: str, outside: Collection[str] = ()) -> str:
    """A hash of what the genome (texts by path) does on ``device``. ``outside``: words in the frozen files."""
    found, words = hashlib.sha256(), {path: _words(text) for path, text in genome.items()}
    files = Counter(word for each in words.values() for word in each)  # by word, how many files hold it
    for path, text in sorted(genome.items()):
        others = {word for word in words[path] if word in outside or files[word] > 1}
        found.update(f"{path}\0{canonical_source(path, text, device, others)}\0".encode(errors="surrogatepass"))
    return found.hexdigest()


def _words(text: str) -> set[str]:
    """The identifiers of a text, also as Python reads them."""
    return identifiers(text) if text.isascii() else identifiers(text) | identifiers(normalize("NFKC", text))


def canonical_source(path: str, text: str, device: str, outside: Collection[str] = ()) -> str:
    """The canonical form of one file; its bare text if it is not Python. Names in ``outside`` are kept."""
    try:
        tree = parsed(path, text)
        if tree is None:
            return bare(path, text)
        unseeded(tree)
        free, fixed = not _sees_names(tree), {*outside, *_spoken(tree), *_unread(tree), *dir(builtins)}
        if free:
            _inline(tree, device, fixed)
            for scope in _scopes(tree):
                _number(scope, set(), "local")
        tree.body = _sorted(tree.body, device)
        if free:
            _number(tree, fixed, "own")
        return ast.dump(tree)
    except TOO_MUCH:
        return text


# -- names -----------------------------------------------------------------------------------------------


def _sees_names(tree: ast.AST) -> bool:
    """Whether it may access variables by name at run time, or import names that can't be determined."""
    return any(
        isinstance(node, ast.Global)
        or (isinstance(node, ast.Name) and node.id in SEES_NAMES)
        or (isinstance(node, ast.Attribute) and (node.attr in SEES_THEM_TOO or _is_modules(node)))
        or (isinstance(node, ast.alias) and node.name in ("*", "__main__", "inspect"))
        for node in ast.walk(tree)
    )


def _is_modules(node: ast.Attribute) -> bool:
    """Whether it is ``sys.modules``."""
    return node.attr == "modules" and isinstance(node.value, ast.Name) and node.value.id == "sys"


def _spoken(tree: ast.AST) -> set[str]:
    """The words in the program's strings, which may be names, and in its attributes, which may be its own."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= identifiers(node.value)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


def _unread(tree: ast.AST) -> set[str]:
    """Variables that are bound but not read here: other files may read them."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return {n.id for n in names} - {n.id for n in names if isinstance(n.ctx, ast.Load)}


def _bound_otherwise(tree: ast.AST) -> set[str]:
    """Names bound by something other than a plain variable; the syntax tree stores them as text."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Nonlocal):
            found |= set(node.names)
        for field in ("name", "arg", "asname", "rest"):
            value = getattr(node, field, None)
            if isinstance(value, str) and not isinstance(node, ast.keyword):
                found.add(value.split(".")[0])
    return found


def _scopes(tree: ast.AST) -> list[Function | Comprehension]:
    """All functions and comprehensions, innermost first."""
    return [node for node in reversed(list(ast.walk(tree))) if isinstance(node, Function | Comprehension)]


def _own(block: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope, without those of nested scopes."""
    for child in ast.iter_child_nodes(block):
        yield child
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef | Comprehension):
            yield from _own(child)


def _number(scope: ast.Module | Function | Comprehension, fixed: Collection[str], kind: str) -> None:
    """Replace the names of a scope's variables by numbers, in order of occurrence.

    A name bound in a scope has one meaning in its body (or belongs to a nested scope entirely), so it can be replaced
    by an unused one. Exception: a class body may read the outer variable before binding its own.
    """
    body, taken = _body(scope), _bound_otherwise(scope) | set(fixed)
    for node in ast.walk(body):
        if isinstance(node, ast.ClassDef):
            taken |= _binds(node)
    bound = _targets(scope) if isinstance(scope, Comprehension) else _binds(body)
    own = {name for name in bound - taken if not name.startswith("__")}
    inner = (int(n.id.split()[1]) for n in ast.walk(body) if isinstance(n, ast.Name) and " " in n.id)
    depth, fresh = max(inner, default=-1) + 1, dict[str, str]()
    for node in _in_order(body):
        if isinstance(node, ast.Name) and node.id in own:
            node.id = fresh.setdefault(node.id, f"{kind} {depth} {len(fresh)}")


def _body(scope: ast.Module | Function | Comprehension) -> ast.AST:
    """The nodes that belong to a scope, without a function's head and a comprehension's first iterable."""
    if not isinstance(scope, Comprehension):
        return ast.Module(scope.body, [])
    first, *more = scope.generators
    made = [scope.key, scope.value] if isinstance(scope, ast.DictComp) else [scope.elt]
    return ast.Tuple([*made, first.target, *first.ifs, *more])  # type: ignore[list-item]


def _targets(scope: Comprehension) -> set[str]:
    """The variables of a comprehension; one bound by ``:=`` belongs to the enclosing scope."""
    nodes = (node for one in scope.generators for node in ast.walk(one.target))
    return {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}


def _binds(block: ast.AST) -> set[str]:
    """The variables bound directly in a scope."""
    return {n.id for n in _own(block) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}


def _in_order(tree: ast.AST) -> Iterator[ast.AST]:
    """Like ``ast.walk`` but in text order, so that one definition's content does not renumber another's."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from _in_order(child)


# -- constants -------------------------------------------------------------------------------------------


def _inline(tree: ast.Module, device: str, fixed: Collection[str]) -> None:
    """Inline each constant that is bound once and read only later in this file."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = Counter(node.id for node in names if not isinstance(node.ctx, ast.Load))
    read: dict[str, int] = {}  # by name, the first line that reads it
    for node in names:
        if isinstance(node.ctx, ast.Load):
            read[node.id] = min(read.get(node.id, node.lineno), node.lineno)
    taken = _bound_otherwise(tree) | set(fixed)
    values: dict[str, Any] = {}
    kept: list[ast.stmt] = []
    for statement in tree.body:
        if (constant := _constant(statement, device)) is None:
            kept.append(statement)
            continue
        name, value = constant
        later = read.get(name, 0) > (statement.end_lineno or 0)  # if it is not read here, another file may read it
        if name in taken or name.startswith("__") or bound[name] > 1 or not _unchanging(value) or not later:
            kept.append(statement)
        else:
            values[name] = value
    tree.body = kept
    _Inline(values).visit(tree)


class _Inline(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(self.values[node.id]) if node.id in self.values else node


def _constant(statement: ast.stmt, device: str) -> tuple[str, Any] | None:
    """The name and value of a constant, if the statement only assigns one."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        value = resolved(statement.value, device)
        return None if value is None else (statement.targets[0].id, value)
    return None


def _unchanging(value: Any) -> bool:
    return all(map(_unchanging, value)) if isinstance(value, tuple) else not isinstance(value, list)


# -- order -----------------------------------------------------------------------------------------------


def _sorted(body: list[ast.stmt], device: str) -> list[ast.stmt]:
    """The statements, with each run of pure definitions in a canonical order.

    A definition that needs another's name, or defines the same one, stays behind it; of the free ones the smallest
    comes first. This is the normal form of a trace (Anisimov and Knuth 1979).
    """
    done: list[ast.stmt] = []
    row: list[tuple[str, set[str], ast.stmt]] = []
    for statement in body:
        if needs := _definition(statement, device):
            row.append(needs)
        else:
            done += [*_row(row), statement]
            row = []
    return done + _row(row)


def _row(row: list[tuple[str, set[str], ast.stmt]]) -> list[ast.stmt]:
    after = _order(row)
    before = Counter(later for followers in after for later in followers)  # how many must come first
    dumps = [ast.dump(statement) for _, _, statement in row]
    free = [(dumps[n], n) for n in range(len(row)) if not before[n]]
    heapify(free)
    order: list[ast.stmt] = []
    while free:
        _, n = heappop(free)
        order.append(row[n][2])
        for later in after[n]:
            before[later] -= 1
            if not before[later]:
                heappush(free, (dumps[later], later))
    return order


def _order(row: list[tuple[str, set[str], ast.stmt]]) -> list[set[int]]:
    """For each statement those that stay behind it: at most one for each name that is defined or needed."""
    after: list[set[int]] = [set() for _ in row]
    defined: dict[str, int] = {}
    readers: dict[str, list[int]] = {}  # of each name, since it was last defined
    for n, (name, needs, _) in enumerate(row):
        for needed in needs:
            if needed in defined:
                after[defined[needed]].add(n)
        for earlier in [*readers.pop(name, ()), *([defined[name]] if name in defined else ())]:
            after[earlier].add(n)
        for needed in needs - {name}:
            readers.setdefault(needed, []).append(n)
        defined[name] = n
    return after


def _definition(statement: ast.stmt, device: str) -> tuple[str, set[str], ast.stmt] | None:
    """The name that a statement defines and the names it reads immediately; None if it may do anything else."""
    if (constant := _constant(statement, device)) and isinstance(statement, ast.Assign):
        needs = {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)}
        statement.value = ast.Constant(constant[1])
        return constant[0], needs, statement
    if isinstance(statement, Function):
        head = _head(statement)
        return None if head is None else (statement.name, head, statement)
    if not isinstance(statement, ast.ClassDef) or statement.decorator_list or statement.keywords:
        return None
    heads = [_quiet(statement.bases)]
    for part in statement.body:
        plain = isinstance(part, ast.Pass) or _constant(part, device) is not None
        heads.append(set() if plain else _head(part) if isinstance(part, Function) else None)
    found: set[str] = set()
    for each in heads:
        if each is None:
            return None
        found |= each
    return statement.name, found, statement


def _head(function: Function) -> set[str] | None:
    """The names that a function reads when it is defined; None if its definition calls something."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    notes = [argument.annotation for argument in arguments if argument]
    if function.decorator_list:
        return None
    return _quiet([e for e in (*given.defaults, *given.kw_defaults, function.returns, *notes) if e])


def _quiet(expressions: Sequence[ast.expr]) -> set[str] | None:
    """The names that expressions read; None if they may do more."""
    nodes = [node for expression in expressions for node in ast.walk(expression)]
    if any(isinstance(node, ast.Call | ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for node in nodes):
        return None
    return {node.id for node in nodes if isinstance(node, ast.Name)}
