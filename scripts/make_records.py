"""Makes many records out of a few real ones, to measure how tables scale: python scripts/make_records.py N FOLDER

Each copy is of another arm or seed: its learning rate, seed, ids and test accuracy are changed, 5 seeds an arm. Arms of
one learning rate compare.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path

from bench.record.tables import request_runs

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "runs"


def make_records(n: int, results: Path) -> None:
    """Writes n records into `results`, and has the experiment `many` ask for them."""
    originals = [path.parent for path in sorted(GOLDEN.glob("*/result.json")) if '"done"' in path.read_text("utf-8")]
    by_regularizer = {json.loads((f / "result.json").read_text("utf-8"))["regularizer"]: f for f in originals}
    records = [json.loads((folder / "result.json").read_text("utf-8")) for folder in by_regularizer.values()]
    histories = [(folder / "history.csv").read_text("utf-8") for folder in by_regularizer.values()]
    ids = []
    for i in range(n):
        arm, seed = divmod(i, 5)
        record, history = records[arm % len(records)], histories[arm % len(records)]
        identifier = sha256(f"{i}".encode()).hexdigest()[:12]
        config = record["config"] | {"seed": seed, "optimizer.sgd.lr": 0.1 + arm // len(records)}
        changed = {"run_id": identifier, "arm_id": sha256(f"arm {arm}".encode()).hexdigest()[:12], "seed": seed}
        accuracy = record["test_accuracy"] + 1e-6 * (i * i % 9973)
        folder = results / "runs" / identifier
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history.csv").write_text(history.replace(record["run_id"], identifier), "utf-8")
        whole = record | changed | {"config": config, "test_accuracy": accuracy}
        (folder / "result.json").write_text(json.dumps(whole, indent=1), "utf-8")
        ids.append(identifier)
    request_runs(results, "many", ids)


if __name__ == "__main__":
    make_records(int(sys.argv[1]), Path(sys.argv[2]))
