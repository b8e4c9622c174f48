"""The value of a YAML text, or in one line what is wrong with it; and the text of a value."""

import re
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"  # `<<`
MOST_VALUES = 1_000_000  # of a YAML file, each alias counted as what it stands for


class AliasError(ValueError):
    """Aliases that cannot be replaced by what they stand for."""


class UniqueLoader(yaml.SafeLoader):
    """YAML in which a mapping has each key once; otherwise the last one would count alone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; ConstructorError for a key that is there twice."""
        seen = set[tuple[str, str]]()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key '{key.value}' is there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


class WordLoader(UniqueLoader):
    """YAML in which `on`, `off`, `yes` and `no` are words, as in version 1.2."""


class NumberDumper(yaml.SafeDumper):
    """YAML in which words that these loaders read as numbers are quoted."""


for _kind in (UniqueLoader, NumberDumper):
    _kind.add_implicit_resolver(  # 2e-6: version 1.1 wants a dot, and a sign of the exponent
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z"),
        list("-+.0123456789"),
    )
YAML_TOKEN = re.compile(
    r"<(stream|document|block)( mapping| sequence)? (start|end)>|<(alias|anchor|tag|scalar)>"
)
_BOOL = "tag:yaml.org,2002:bool"
WordLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in UniqueLoader.yaml_implicit_resolvers.items()
}
WordLoader.add_implicit_resolver(_BOOL, re.compile(r"(true|false)\Z"), list("tf"))


def value_of(text: str, *, secret: bool = False) -> Any:
    """Return the value that a YAML text holds; ValueError, in one line, where it is none."""
    try:
        return _loaded(text, WordLoader if secret else UniqueLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as failure:  # dates are checked
        raise ValueError(_place(failure, secret=secret)) from None


def lines_of(value: Any, width: int) -> list[str]:
    """Return the lines of the YAML text of a value, in braces, broken near `width` characters."""
    text = yaml.dump(
        value, Dumper=NumberDumper, default_flow_style=True, sort_keys=False, width=width
    )
    return text.rstrip("\n").split("\n")


def _loaded(text: str, kind: type[UniqueLoader]) -> Any:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_VALUES:
            raise AliasError(f"its aliases stand for more than {MOST_VALUES} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node has, those behind aliases included; AliasError in a circle.

    `known`: the sizes of nodes, by identity; 0 while one is counted.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if (size := known.get(id(node))) is not None:
        if size == 0:
            raise AliasError("an alias refers to what it is a part of")
        return size
    known[id(node)] = 0
    pairs = isinstance(node, yaml.MappingNode)
    parts = [part for pair in node.value for part in pair] if pairs else node.value
    known[id(node)] = size = 1 + sum(_size(part, known) for part in parts)
    return size


def _place(failure: Exception, *, secret: bool) -> str:
    """Return what is wrong and where; without the words that YAML quotes where they are secret."""
    problem = _problem(failure)
    mark = getattr(failure, "problem_mark", None)
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    if secret:  # signs of YAML, and what it calls them, are none: ',', '<stream end>'
        quoted = (r"'([^']*)'", r'"([^"]*)"')
        problem = problem or "a value cannot be read"
        for pattern in quoted:
            problem = re.sub(pattern, _without_words, problem)
    return (problem or " ".join(str(failure).split())) + where


def _problem(failure: Exception) -> str | None:
    """Return what is wrong in plain words; None where only the failure's own text says it."""
    match failure:
        case AliasError():
            return str(failure)
        case RecursionError():
            return "it is nested too deeply"
        case yaml.reader.ReaderError():
            return f"it has a character that no text has, number {failure.position + 1}"
        case yaml.MarkedYAMLError():
            problem = failure.problem or ""
            if problem.startswith("but "):
                return f"{failure.context}, {problem}"
            tab = "found character '\\t' that cannot start any token"
            return "found a tab instead of spaces" if problem == tab else problem
    return None


def _without_words(quoted: re.Match[str]) -> str:
    is_sign = len(quoted[1]) < 2 or YAML_TOKEN.fullmatch(quoted[1])
    return quoted[0] if is_sign else "…"
