"""What a module may raise: every `raise`, and a regular expression for its text."""

import ast
import re

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# An attribute that is missing is a question asked by getattr, a leaf that is no array a signal that
# is turned into a message where the argument's name is known, and an event file that is damaged is
# read as far as it goes; and the thread that compiles ends by one. None of these reaches a user.
# What a check needs is said where it does.
SIGNALS = {
    ("AttributeError", "attribute"),
    ("NotATreeError", "x"),
    ("DamagedError", "''"),
    ("NotApplicableError", "f'{self} {otherwise}'"),
    ("NotImplementedError", "''"),
    ("OverError", "''"),
    ("_NotKeptError", "''"),
}
# What only passes on a text: where it comes from there is a case, and often here too.
PASSED_ON = {
    ("error.with_traceback", "None"),
    ("refused.of", "key"),
    ("CommandError", "str(error)"),
    ("CommandError", "text"),
    ("OSError", "str(error).partition('\\n')[0]"),
    ("FileError", "_damaged(what, error)"),
    ("LogError", "what"),
    ("ConformanceError", "failure"),
    ("TerminatedError", "number"),
    ("type(error)", "msg"),
}


def static_text(node, names):
    """Return a regular expression for what an expression gives; None if it says nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [static_text(part, names) for part in node.values]
        said = any(part and re.search(r"\w{2}", part) for part in parts)
        return "".join(part or ".*" for part in parts) if said else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [static_text(part, names) for part in (node.left, node.right)]
        return "".join(part or ".*" for part in parts) if any(parts) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return names.get(node.func.id)
    return names.get(node.id) if isinstance(node, ast.Name) else None


def helpers(tree):
    """Return the functions of a module that only make a text, and that text."""
    return {
        f.name: static_text(f.body[-1].value, {})
        for f in tree.body
        if isinstance(f, ast.FunctionDef)
        and isinstance(f.body[-1], ast.Return)
        and f.body[-1].value
    }


def raised(source):
    """Yield each raise of a module: its line, the name of the error, and its text as an expression.

    Where a helper class says the error, as in `_RefusedError(TypeError, must)`, the name is "".
    """
    tree = ast.parse(source)
    made = helpers(tree)
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))]:
        own = list(statements(scope))
        for node in own:
            if not isinstance(node, ast.Raise) or node.exc is None or passes_on(node.exc):
                continue
            assert isinstance(node.exc, (ast.Call, ast.Name)), ast.unparse(node)
            name, message = said(node.exc)
            for text in assigned(own, message, node.lineno) or [message]:
                for branch in branches(text):
                    if (name, ast.unparse(branch)) not in SIGNALS:
                        yield node.lineno, name, expression(name, branch, made, own, node.lineno)


def passes_on(exc):
    """Tell whether what is raised has its text from elsewhere."""
    if not isinstance(exc, ast.Call):
        return ast.unparse(exc) == "self.error"
    first = exc.args[0] if exc.args else ast.Constant("")
    return (ast.unparse(exc.func), ast.unparse(first)) in PASSED_ON | {
        ("_refusal", "path"),
        ("_refusal", "self.path"),
    }


def said(exc):
    """Return the name of an error, and the expression of its text."""
    if isinstance(exc, ast.Name):
        return exc.id, ast.Constant("")
    name = ast.unparse(exc.func)
    if name == "_RefusedError":
        return "", exc.args[1]
    return name, exc.args[0] if exc.args else ast.Constant("")


def expression(name, text, made, own, line):
    """Return what `static_text` does, with the texts of names that are joined to it."""
    known = dict(made)
    for part in ast.walk(text):
        if isinstance(part, ast.Name) and isinstance(text, ast.BinOp):
            for value in assigned(own, part, line):
                known[part.id] = static_text(value, made)
    found = static_text(text, known)
    return found if name or found is None else f".*{found}.*"


def branches(node):
    """Return the expressions that a conditional one chooses from."""
    if isinstance(node, ast.IfExp):
        return [*branches(node.body), *branches(node.orelse)]
    return [node]


def assigned(own, message, line):
    """Return what a message may have been assigned since the raise before: one for each branch."""
    before = max((n.lineno for n in own if isinstance(n, ast.Raise) and n.lineno < line), default=0)
    found = [
        a
        for a in sorted((a for a in own if isinstance(a, ast.Assign)), key=lambda a: a.lineno)
        if ast.unparse(a.targets[0]) == ast.unparse(message) and a.lineno < line
    ]
    # A text that is said several times is assigned once, before the first of them.
    return [a.value for a in found if a.lineno > before] or [a.value for a in found[-1:]]


def statements(scope):
    """Yield the statements of a module or function, without those of functions in it."""
    waiting = list(scope.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FUNCTIONS):
            waiting.extend(ast.iter_child_nodes(node))


def untested(source, cases, *, within=False):
    """Return the messages of a module that no case expects.

    Args:
        source: The text of the module.
        cases: The cases.
        within: Whether a message may be a part of a text, and its error another at the end, as it
            is where a command prints it.
    """
    found = []
    for line, error, text in raised(source):
        matches = re.compile(text or "", re.DOTALL)
        judge = matches.search if within else matches.fullmatch
        expected = [c.text for c in cases if within or not error or c.error == error]
        if not text or not any(map(judge, expected)):
            found.append(f"line {line}: {error}: {text}")
    return found


ASKED = {"refuse", "unwritable", "usable"}


def reasons(source):
    """Return the texts that a module's answers to `refuse`, `unwritable` and `usable` may give."""
    answers = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_") in ASKED:
            answers += [s.value for s in ast.walk(node) if isinstance(s, ast.Return)]
        if isinstance(node, ast.keyword) and node.arg in ASKED:
            answers += [node.value.body] if isinstance(node.value, ast.Lambda) else []
    texts = [static_text(part, {}) for answer in answers for part in branches(answer)]
    return [text for text in texts if text]
