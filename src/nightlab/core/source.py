"""What can be said of a genome's text without running it."""

from __future__ import annotations

import ast
import contextlib
import re

from nightlab.core.program import c_family, wasm
from nightlab.core.source_bytes import declares_encoding, encode_source, parse_python, read_otherwise, undecodable

DECLARATION = "# -*- coding: latin-1 -*-"
SEED_NAME = re.compile(r"(^|_)seed($|_)|PRNGKey", re.IGNORECASE)
GENERATORS = {"Random", "RandomState", "default_rng", "SeedSequence"}  # whose argument is a seed
LARGE = 128 * 1024  # characters of a file beyond which it is compared and counted as text, not as a program
TOO_MUCH = (RecursionError, MemoryError, ValueError)  # of a program that parses, and is too deep to be walked


def syntax_fault(path: str, text: str) -> str | None:
    """Where and why a Python file does not parse; None for one that does, and for other languages."""
    if not path.endswith(".py"):
        return None
    try:
        raw = encode_source(text)
        if (found := undecodable(text)) and not declares_encoding(raw):
            return f"{path}, line {found[0]}: {found[1]} is not UTF-8; declare its encoding in line 1: {DECLARATION}"
        compile(raw, path, "exec", dont_inherit=True)
        shown = syntax_tree(text) if (encoding := read_otherwise(raw)) else None
        if encoding and not (shown and ast.dump(ast.parse(raw)) == ast.dump(shown)):
            return f"{path}: in {encoding}, which it declares, it is another program than its text shows; use UTF-8"
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return f"{path}{f', line {line}' if line else ''}: {getattr(error, 'msg', None) or error}"
    return None


def code_lines(path: str, text: str) -> int:
    """Lines of code, however they are laid out: statements of Python, for other languages lines that are not blank.

    Comments, docstrings and blank lines don't count: who takes them out has made nothing simpler.
    """
    with contextlib.suppress(*TOO_MUCH):
        if tree := parsed(path, text):
            return len(ast.unparse(tree).splitlines())
    if path.endswith(wasm.SUFFIX):
        text = wasm.without_comments(text)
    elif c_family.is_one(path):
        text = c_family.without_comments(text)
    return sum(1 for line in text.splitlines() if line.strip())


def same_program(path: str, before: str, after: str) -> bool:
    """Whether two texts are one program but for layout, comments and the numbers it gives to seeds.

    The engine owns the seeds: another seed is another draw of luck, and no other program.
    """
    with contextlib.suppress(*TOO_MUCH):
        one, two = parsed(path, before), parsed(path, after)
        if one and two:
            return ast.dump(unseeded(one)) == ast.dump(unseeded(two))
    return bare(path, before) == bare(path, after)


def bare(path: str, text: str) -> str:
    """A text that is not Python without what is known to do nothing: comments and layout in C and in WebAssembly."""
    if path.endswith(wasm.SUFFIX):
        return " ".join(wasm.tokens(text))
    return c_family.bare(text) if c_family.is_one(path) else text


def syntax_tree(text: str) -> ast.Module | None:
    """The syntax tree of a text that may be anything; None for what can't be parsed as Python."""
    try:
        return parse_python(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def parsed(path: str, text: str) -> ast.Module | None:
    """The syntax tree without docstrings; None for what is not Python, or too much of it."""
    if not path.endswith(".py") or len(text) > LARGE:
        return None
    try:
        tree = parse_python(text)
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0] if node.body else None
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    node.body[:1] = [] if len(node.body) > 1 or isinstance(node, ast.Module) else [ast.Pass()]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


def unseeded(tree: ast.Module) -> ast.Module:
    """The tree with every literal set to zero that is given to something called a seed; changed in place."""
    _Unseeded().visit(tree)
    return tree


class _Unseeded(ast.NodeTransformer):
    """Sets every literal to zero that is assigned or passed to something called a seed."""

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if any(_is_seed(target) for target in node.targets):
            node.value = _zero(node.value)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if _is_seed(node.target) and node.value is not None:
            node.value = _zero(node.value)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _is_seed(node.func) or _name(node.func) in GENERATORS:
            node.args = [_zero(argument) for argument in node.args]
        for keyword in node.keywords:
            if keyword.arg and SEED_NAME.search(keyword.arg):
                keyword.value = _zero(keyword.value)
        return self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        given = [*node.posonlyargs, *node.args]
        for n, name in enumerate(given[len(given) - len(node.defaults) :]):
            if SEED_NAME.search(name.arg):
                node.defaults[n] = _zero(node.defaults[n])
        for n, default in enumerate(node.kw_defaults):
            if default is not None and SEED_NAME.search(node.kwonlyargs[n].arg):
                node.kw_defaults[n] = _zero(default)
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        for n, key in enumerate(node.keys):
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and SEED_NAME.search(key.value):
                node.values[n] = _zero(node.values[n])
        return self.generic_visit(node)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_seed(node: ast.expr) -> bool:
    return bool(SEED_NAME.search(_name(node)))


def _zero(node: ast.expr) -> ast.expr:
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    return ast.Constant(0) if isinstance(inner, ast.Constant) and isinstance(inner.value, int) else node
