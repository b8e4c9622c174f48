"""Nothing in the package runs code that a file or a message brings: read off its syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "streamvis").rglob("*.py"))
UNSAFE_MODULES = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
UNSAFE_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load"),
}


def name_of(node):
    """`a.b.c` of an expression; empty when it is something else."""
    if isinstance(node, ast.Name):
        return node.id
    above = name_of(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{above}.{node.attr}" if above else ""


def faults(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            yield from sorted(names & UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom):
            given = {alias.name for alias in node.names}
            if node.module in UNSAFE_MODULES or (
                node.module == "pickle" and given != {"UnpicklingError"}
            ):
                yield f"from {node.module} import {', '.join(given)}"
        elif isinstance(node, ast.Attribute):
            if name_of(node.value) == "pickle" and node.attr != "UnpicklingError":
                yield f"pickle.{node.attr}"
            if node.attr in ("recv_pyobj", "send_pyobj"):
                yield node.attr
        elif isinstance(node, ast.Call):
            yield from call_faults(node)


def call_faults(node):
    name = name_of(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords}

    def is_true(keyword):
        value = given.get(keyword)
        return value is not None and not (isinstance(value, ast.Constant) and not value.value)

    if name in UNSAFE_CALLS:
        yield name
    if name == "torch.load" and not is_true("weights_only"):
        yield "torch.load without weights_only=True"
    for keyword in ("shell", "allow_pickle"):
        if is_true(keyword):
            yield f"{name}({keyword}=True)"


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle; pickle.loads(b'')", "from pickle import loads", "import dill as d"),
        *("yaml.load(text, yaml.Loader)", "torch.load(path)", "torch.load(p, weights_only=False)"),
        *("np.load(p, allow_pickle=True)", "subprocess.run(c, shell=True)", "eval(text)"),
        *("socket.recv_pyobj()", "os.system('x')"),
    ],
)
def test_what_would_run_code_is_found(code):
    assert list(faults(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        *("yaml.safe_load(text)", "torch.load(p, weights_only=True)", "model.eval()", "np.load(p)"),
        *("except_ = pickle.UnpicklingError", "from pickle import UnpicklingError"),
        *("re.compile(text)", "subprocess.run(c, shell=False)"),
    ],
)
def test_what_is_harmless_is_left_alone(code):
    assert list(faults(ast.parse(code))) == []


def test_no_module_runs_what_it_is_given():
    assert len(MODULES) > 200
    found = {str(p.relative_to(ROOT)): [*faults(ast.parse(p.read_text()))] for p in MODULES}
    assert {path: what for path, what in found.items() if what} == {}
