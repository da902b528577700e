"""label-aug: classifiers that walk down a label graph, and the join of datasets whose labels do not match.

The public names; each is loaded when it is first asked for, so `import labelaug_core` loads no torch.
"""

from importlib import import_module

HOMES = {
    "LabelAug": "model",
    "LabelGraph": "graph",
    "GraphError": "graph",
    "load_graph": "graph_file",
    "graph_to_yaml": "graph_file",
    "DataError": "data",
    "TrainingSettings": "training",
    "PathSettings": "label_aug",
    "Explanation": "explain",
}
__all__ = [*HOMES]


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
