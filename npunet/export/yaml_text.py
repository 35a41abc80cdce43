"""Dicts, lists, text and numbers as YAML: the little of it that rdf.yaml needs.

Text is written with JSON's quotes, which YAML reads as they are; so is what JSON calls true, false and null.
"""

import json


def to_yaml(value, indent: int = 0) -> str:
    """A dict or list as lines of YAML, each with a line end; items of a list begin with "- "."""
    space, lines = "  " * indent, []
    pairs = value.items() if isinstance(value, dict) else [(None, item) for item in value]
    for key, item in pairs:
        start = f"{space}- " if key is None else f"{space}{key}:"
        if isinstance(item, (dict, list)) and item:
            inner = to_yaml(item, indent + 1)
            lines.append(start + inner[len(space) + 2 :] if key is None else f"{start}\n{inner}")
        else:
            lines.append(f"{start}{'' if key is None else ' '}{json.dumps(item, ensure_ascii=False)}\n")
    return "".join(lines)
