"""Write docs/configuration.md and configs/schema.json: ``python scripts/configuration_reference.py``."""

from pathlib import Path

from ipu_train.config import reference

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE, SCHEMA = REPOSITORY / "docs" / "configuration.md", REPOSITORY / "configs" / "schema.json"

if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(reference.page(), encoding="utf-8")
    SCHEMA.write_text(reference.schema_text(), encoding="utf-8")
    print(f"{PAGE}\n{SCHEMA}")
