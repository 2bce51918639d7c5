"""What every recipe resolves to, recorded so that nothing changes it unnoticed.

Run it after a recipe or a default was changed on purpose, and look at the difference before committing it:

    python -m tests.configs.recorded
    git diff tests/configs/resolved.json

The table holds each value as ``ipu-train config`` prints it, once where most recipes share it, and the SHA-256 of the
whole printed configuration.
"""

import collections
import hashlib
import json
from pathlib import Path
from typing import Any, Dict

from ipu_train import config
from ipu_train.config.printing import leaves, scalar

TABLE = Path(__file__).resolve().with_name("resolved.json")


def resolved(recipe: config.Resolved) -> Dict[str, str]:
    """Dotted path of each value of a recipe -> the value as YAML; and the SHA-256 of all that is printed."""
    digest = hashlib.sha256(recipe.dump().encode("utf-8")).hexdigest()
    return {"sha256": digest, **{path: scalar(value) for path, value in leaves(recipe.config)}}


def recorded() -> Dict[str, Dict[str, str]]:
    """Name of each recorded recipe -> its values, as :func:`resolved` gives them."""
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    whole = {name: {**content["shared"], **own} for name, own in content["recipes"].items()}
    return {name: {p: v for p, v in values.items() if v is not None} for name, values in whole.items()}


def table() -> Dict[str, Any]:
    """What :data:`TABLE` holds: ``shared`` values, and of each recipe its ``sha256`` and what it has of its own."""
    recipes = {name: resolved(config.load(name)) for name in config.builtin_names()}
    counts: Dict[str, collections.Counter] = {}
    for values in recipes.values():
        for path, value in values.items():
            counts.setdefault(path, collections.Counter())[value] += 1
    most = len(recipes) / 2
    counts.pop("sha256")
    shared = {
        path: count.most_common(1)[0][0] for path, count in counts.items() if sum(count.values()) > most
    }
    own: Dict[str, Any] = {}
    for name, values in recipes.items():
        different = {path: value for path, value in values.items() if shared.get(path) != value}
        absent = {path: None for path in shared if path not in values}
        own[name] = {**different, **absent}
    return {"shared": shared, "recipes": own}


if __name__ == "__main__":
    content = table()
    TABLE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{len(content['recipes'])} recipes in {TABLE}")
