"""A process in which one solver runs: points go out and outputs come in, lines of JSON.

Run by `optimizers.external.process`; it imports nothing of this package and so starts fast.
"""

import json
import os
import sys


class Caller:
    """Asks the other side for the outputs of points."""

    def __init__(self) -> None:
        self.said = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # solvers print

    def say(self, kind: str, content: object) -> None:
        """One line."""
        self.said.write(json.dumps([kind, content]) + "\n")
        self.said.flush()

    def hear(self):
        """One line; the process ends when the other side has gone."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # an exception would not stop every solver
        return json.loads(line)

    def __call__(self, point: list[float]) -> list[float] | None:
        """Outputs of a point, None where it has failed."""
        self.say("points", point)
        return self.hear()


def nomad(task: dict, call: Caller) -> str:
    """NOMAD: outputs are the value and inequalities."""
    import PyNomad

    def black_box(point) -> int:
        outputs = call([point.get_coord(i) for i in range(point.size())])
        if outputs is None:
            return 0
        point.setBBO(" ".join(repr(float(output)) for output in outputs).encode())
        return 1

    result = PyNomad.optimize(
        black_box, task["start"], task["lower"], task["upper"], task["parameters"]
    )
    return result["stop_reason"]


def cobyqa(task: dict, call: Caller) -> str:
    """SciPy's COBYQA: outputs are the value and constraints between the bounds of the task."""
    import numpy as np
    from scipy.optimize import Bounds, NonlinearConstraint, minimize

    last: dict[bytes, list[float] | None] = {}

    def outputs(point: np.ndarray) -> np.ndarray:
        key = point.tobytes()
        if key not in last:
            last.clear()
            last[key] = call(point.tolist())
        return np.array(last[key])

    sides = task["constraints"]
    constraints = [NonlinearConstraint(lambda u: outputs(u)[1:], *sides)] if sides[0] else []
    return minimize(
        lambda u: outputs(u)[0], task["start"], method="COBYQA",
        bounds=Bounds(task["lower"], task["upper"]), constraints=constraints,
        options=task["options"],
    ).message  # fmt: skip


def main() -> None:
    """Read what to solve, solve it, and tell why it ended."""
    call = Caller()
    task = call.hear()
    try:
        call.say("done", {"nomad": nomad, "cobyqa": cobyqa}[task["solver"]](task, call))
    except Exception as error:  # of any kind, for the other side to raise
        call.say("error", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
