"""Makes the engine of this folder known: `--infer-backend=house`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # wherever pytest is started, and however it imports tests

import house_engine


def pytest_inferforge_engines() -> dict[str, object]:
    return {"house": house_engine}
